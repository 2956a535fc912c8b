"""Texts for people: units that read best, and shared bytes that come out harmless."""

import pytest

from shmetrics.texts import counted, cut, duration, percent, printable, size, visible


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1e-6, "1 us"),
        (870e-6, "870 us"),
        (0.001, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.999, "999 ms"),
        (1.0, "1 s"),
        (4.56, "4.56 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (7500.0, "2 h 5 min"),
        (86399.0, "23 h 59 min"),
        (86400.0, "1 d 0 h"),
        (273600.0, "3 d 4 h"),
        (float("inf"), "for ever"),
    ],
)
def test_duration_has_the_unit_that_reads_best(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("seconds", [0.0009996, 0.0009999, 0.9996, 0.99999])
def test_duration_is_never_in_scientific_notation(seconds):
    """Just below a border the rounded figure has four digits."""
    assert "e" not in duration(seconds)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 2**10, "1023.0 KiB"),
        (2**20, "1.0 MiB"),
        (2**30, "1.0 GiB"),
        (2**40, "1024.0 GiB"),
    ],
)
def test_size_has_the_unit_that_reads_best(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.0, "0.00 %"), (0.0123, "1.23 %"), (1.0, "100.00 %")])
def test_percent(fraction, text):
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"web-1\0\0", "web-1"), ("k\u00f6ln".encode(), "k\u00f6ln"), (b"\x1b[2Jx\x07\r\n", "?[2Jx???"), (b"a\0b", "a"),
     (b"\xff\xfe", "\ufffd\ufffd"), ("a\u202eb".encode(), "a?b"), (b"", "")],
)  # fmt: skip
def test_bytes_become_text_that_drives_no_terminal(raw, text):
    assert printable(raw) == text


@pytest.mark.parametrize(
    ("text", "limit", "raw"),
    [
        ("abc", 3, b"abc"),
        ("abcd", 3, b"abc"),
        ("a\u00f6", 2, b"a"),
        ("\u00f6", 2, "\u00f6".encode()),
        ("\ud800x", 9, b"?x"),
    ],
)
def test_a_text_is_cut_between_two_characters(text, limit, raw):
    assert cut(text, limit) == raw


@pytest.mark.parametrize(("count", "text"), [(0, "0 requests"), (1, "1 request"), (1234, "1,234 requests")])
def test_one_is_no_plural(count, text):
    assert counted(count, "request") == text


@pytest.mark.parametrize("hidden", ["\n", "\x1b", "\0", "\u202e", "\u200b", "\udcff"])
def test_what_cannot_be_seen_is_replaced_and_the_rest_is_left(hidden):
    assert visible(f"a{hidden}é") == "a?é"
    assert visible(f"a{hidden}é", "_") == "a_é"
