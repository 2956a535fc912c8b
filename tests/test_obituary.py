"""An obituary: what is put into one comes out, as far as it fits, and its sentences are understood at 3 a.m."""

import json

import numpy as np
import pytest

from shmetrics import obituary as module
from shmetrics.board import RequestInFlight
from shmetrics.layout import LABEL_BYTES, OBITUARY
from shmetrics.obituary import (
    PAYLOAD,
    RECORDS,
    REQUESTS,
    ending_word,
    exit_code_of,
    how,
    parse,
    payload_of,
    sentence,
    way,
    work,
)
from tests.forge import NOW, obituary, records

FACTS = {
    "role": "web-1",
    "oom_kills": 0,
    "noticed": NOW,
    "noticed_at": 1.7e9,
    "age": 500.0,
    "silent": 2.5,
    "believed": True,
    "requests": 1000,
    "errors": 3,
    "cache_hits": 0,
    "cache_misses": 7,
    "rss_bytes": 2**20,
    "in_flight": 1,
}


def entry(payload, **words):
    """An entry as it stands in shared memory."""
    made = np.zeros(1, OBITUARY)
    known = {"serial": 7, "slot": 3, "generation": 2, "pid": 99, "ending": ending_word(-9), "length": len(payload)}
    for name, value in {**known, **words}.items():
        made[name] = value
    made["payload"] = np.void(payload.ljust(PAYLOAD, b"\0"))
    return made[0]


def test_what_is_written_is_read_again():
    rows = records([NOW - 3.0, NOW - 2.5], inference_time=[0.125, np.nan], batch_size=4.0)
    read = parse(entry(payload_of(FACTS, [RequestInFlight(NOW - 1.5, "GET /")], rows, NOW)))
    assert (read.serial, read.slot, read.generation, read.pid, read.exit_code) == (7, 3, 2, 99, -9)
    assert {name: getattr(read, name) for name in FACTS} == FACTS
    assert read.requests_in_flight == ({"label": "GET /", "age": 1.5},)
    first, second = read.last_records
    assert first == {
        "age": 3.0,
        "inference_time": 0.125,
        "batch_size": 4.0,
        "preprocessing_time": 0.0,
        "quantization_time": 0.0,
    }
    assert second["inference_time"] is None
    json.dumps(read.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    "label", ["x" * LABEL_BYTES, "\\" * LABEL_BYTES, '"' * LABEL_BYTES, "\U0001f600" * 14, "ö" * 28]
)
def test_the_oldest_requests_and_the_last_records_fit_with_any_label(label):
    rows = records(NOW - np.linspace(9e5, 1.0, 50), inference_time=np.linspace(1e17, 9e17, 50), batch_size=1e17 / 3.0)
    requests = [RequestInFlight(at / 7.0, label) for at in range(64)]
    read = parse(entry(payload_of(FACTS | {"role": "\\" * 32, "requests": 2**49}, requests, rows, NOW)))
    assert len(read.requests_in_flight) == REQUESTS
    assert len(read.last_records) == RECORDS
    assert read.requests_in_flight[0] == {"label": label, "age": NOW}
    assert read.last_records[-1]["age"] == 1.0


def test_what_does_not_fit_is_cut_down_until_it_does(monkeypatch):
    monkeypatch.setattr(module, "PAYLOAD", 900)
    requests = [RequestInFlight(0.0, "x" * LABEL_BYTES)] * 64
    text = payload_of(FACTS, requests, records([NOW] * 8), NOW)
    assert len(text) <= 900
    assert json.loads(text)["requests_in_flight"]


@pytest.mark.parametrize(
    "words",
    [{"serial": 0}, {"serial": 2**53}, {"length": 0}, {"length": PAYLOAD + 1}, {"length": 5}, {"pid": 2**63},
     {"generation": 2**64 - 1}, {"slot": 2**60}],
    ids=str,
)  # fmt: skip
def test_an_entry_whose_words_cannot_be_is_none(words):
    assert parse(entry(payload_of(FACTS, [], records([]), NOW), **words)) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 4000, b'{"role":"x"}', b"1e999"]
    + [
        json.dumps(FACTS | {"requests_in_flight": [], "last_records": []} | wrong).encode()
        for wrong in (
            {"requests": -1},
            {"requests": 1.5},
            {"requests": True},
            {"requests": 10**400},
            {"noticed": "now"},
            {"noticed": -1.0},
            {"noticed": float("nan")},
            {"age": float("inf")},
            {"age": 10**400},
            {"role": 3},
            {"role": "\ud800"},
            {"rss_bytes": "much"},
            {"requests_in_flight": 3},
            {"requests_in_flight": [3]},
            {"requests_in_flight": [{"label": 3, "age": 1.0}]},
            {"requests_in_flight": [{"label": "x"}]},
            {"last_records": [{}]},
            {"last_records": [{"age": "x"}]},
            {"last_records": 5},
        )
    ],
)
def test_a_payload_that_says_something_else_is_none(payload):
    assert parse(entry(payload)) is None


def test_texts_that_could_drive_a_terminal_do_not_get_there():
    facts = FACTS | {"role": "\x1b[2J", "requests_in_flight": [{"label": "a\x07", "age": 1}], "last_records": []}
    read = parse(entry(json.dumps(facts).encode()))
    assert (read.role, read.requests_in_flight[0]["label"]) == ("?[2J", "a?")


@pytest.mark.parametrize("code", [*range(-64, 256)])
def test_exit_codes_survive_as_words(code):
    assert exit_code_of(ending_word(code)) == code


@pytest.mark.parametrize("code", [-65, 256, 9999, -(2**70), 2**70])
def test_an_exit_code_that_cannot_be_is_not_known(code):
    assert ending_word(code) == 0


@pytest.mark.parametrize("word", [0, 321, 2**63, 2**64 - 1])
def test_a_word_that_is_no_exit_code_says_nothing(word):
    assert exit_code_of(word) is None


@pytest.mark.parametrize(
    ("fields", "sentence_", "word"),
    [
        ({"exit_code": -9}, "was killed by SIGKILL", "SIGKILL"),
        ({"exit_code": -6}, "was killed by SIGABRT (it aborted, or ran into gunicorn's --timeout)", "SIGABRT"),
        ({"exit_code": -40}, "was killed by signal 40", "signal 40"),
        ({"exit_code": 3}, "exited with status 3", "status 3"),
        ({"exit_code": 0}, "exited with status 0", "status 0"),
        ({"exit_code": None}, "ended, how is not known", "unknown"),
        ({"oom_kills": 1},
         "was killed by SIGKILL (at about that time the kernel killed a process for want of memory)", "SIGKILL"),
        ({"oom_kills": 4},
         "was killed by SIGKILL (at about that time the kernel killed 4 processes for want of memory)", "SIGKILL"),
    ],
)  # fmt: skip
def test_it_says_how_it_ended_and_no_more_than_is_known(fields, sentence_, word):
    assert how(obituary(**fields)) == sentence_
    assert way(obituary(**fields)) == word


@pytest.mark.parametrize(
    ("in_flight", "requests", "text"),
    [
        (1, [("GET /", 3.2)], "1 request: GET /"),
        (1, [("", 3.2)], "1 request: one for"),
        (2, [("a", 3.2), ("b", 1.0)], "2 requests: a for 3.2 s, b for 1 s"),
        (5000, [("a", 1.0)] * 5, "5,000 requests: a for 1 s, a for 1 s, a for 1 s, ..."),
        (7, [], "7 requests"),
    ],
)
def test_it_says_what_it_was_serving(in_flight, requests, text):
    shown = tuple({"label": label, "age": age} for label, age in requests)
    assert work(obituary(in_flight=in_flight, requests_in_flight=shown)).startswith(text)


def test_one_sentence_says_all():
    assert sentence(obituary(pid=1234, slot=3, noticed=NOW - 12.0), NOW) == (
        "worker 1234 in slot 3 was killed by SIGKILL 12 s ago while serving 1 request: GET /predict for 3.2 s"
    )
    idle = obituary(in_flight=0, requests_in_flight=(), exit_code=1)
    assert sentence(idle, NOW) == "worker 4711 in slot 0 exited with status 1 1 s ago"


def test_of_a_death_that_was_noticed_only_it_says_no_more():
    """How long ago that was nobody knows, nor for how long it served."""
    unknown = obituary(exit_code=None, noticed=NOW - 12.0, silent=600.0)
    assert sentence(unknown, NOW) == (
        "worker 4711 in slot 0 ended, how is not known (noticed 12 s ago, last seen 10 min 0 s before) while "
        "serving 1 request: GET /predict for up to 3.2 s"
    )
    idle = obituary(exit_code=None, in_flight=0, requests_in_flight=(), noticed=NOW - 12.0, silent=600.0)
    assert sentence(idle, NOW).endswith("known (noticed 12 s ago, last seen 10 min 0 s before)")


def test_machines_get_the_signals_name_and_no_monotonic_time():
    document = obituary().as_json()
    assert (document["signal"], document["how"]) == ("SIGKILL", "was killed by SIGKILL")
    assert "noticed" not in document
    assert obituary(exit_code=3).as_json()["signal"] is None
