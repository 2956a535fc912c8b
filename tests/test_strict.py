"""Strict mode: asked for or chosen by the CPU, a barrier around every store, and the same bytes as without."""

import platform

import numpy as np
import pytest

from shmetrics import naming, slots
from shmetrics.guards import Fence
from shmetrics.layout import FOLD_BATCH
from shmetrics.segment import attach
from shmetrics.strict import FencedWords, is_strict, new_fence
from shmetrics.writer import Writer


@pytest.mark.parametrize("setting", ["1", "true", "TRUE", "yes", "on"])
def test_the_variable_asks_for_it(monkeypatch, setting):
    monkeypatch.setenv("SHMETRICS_STRICT", setting)
    assert is_strict()


@pytest.mark.parametrize("setting", ["0", "false", "False", "no", "off", ""])
def test_the_variable_forbids_it(monkeypatch, setting):
    monkeypatch.setenv("SHMETRICS_STRICT", setting)
    assert not is_strict()


@pytest.mark.parametrize("setting", ["2", "maybe", " 1", "-1"])
def test_any_other_setting_is_an_error_that_shows_it(monkeypatch, setting):
    monkeypatch.setenv("SHMETRICS_STRICT", setting)
    with pytest.raises(ValueError, match=f"must be 1 or 0, not {setting!r}"):
        is_strict()


@pytest.mark.parametrize(
    ("machine", "strict"), [("x86_64", False), ("AMD64", False), ("aarch64", True), ("ppc64le", True), ("", True)]
)
def test_without_the_variable_the_cpu_decides(monkeypatch, machine, strict):
    monkeypatch.delenv("SHMETRICS_STRICT", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert is_strict() is strict


def test_the_fence_is_real_in_strict_mode_alone():
    assert isinstance(new_fence(strict=True), Fence)
    fence = new_fence(strict=False)
    assert not isinstance(fence, Fence)
    fence()


def test_a_setting_that_is_an_error_leaves_no_hub_behind(monkeypatch, hub_name, make_segment):
    with monkeypatch.context() as patch:
        patch.setenv("SHMETRICS_STRICT", "maybe")
        with pytest.raises(ValueError, match="SHMETRICS_STRICT"):
            make_segment()
    assert hub_name not in naming.hub_names()


# Words ----------------------------------------------------------------------------------------------------------------


class LoggedWords(dict):
    """Words that note every store in `log`."""

    def __init__(self, log):
        super().__init__()
        self.log = log

    def __setitem__(self, index, value):
        self.log.append((index, value))
        super().__setitem__(index, value)


def test_each_store_stands_between_two_barriers():
    log = []
    words = FencedWords(LoggedWords(log), lambda: log.append("fence"))
    words[7] = 1
    words[8] = 2
    assert log == ["fence", (7, 1), "fence", "fence", (8, 2), "fence"]


def test_a_load_gives_what_was_stored():
    words = FencedWords(memoryview(bytearray(64)).cast("Q"), Fence())
    words[3] = 42
    words[3] += 1
    assert words[3] == 43
    assert words[2] == 0


def test_released_words_refuse_every_use():
    words = FencedWords(memoryview(bytearray(64)).cast("Q"), Fence())
    words.release()
    with pytest.raises(ValueError, match="released"):
        words[0] = 1
    with pytest.raises(ValueError, match="released"):
        words[0]


# The writer -----------------------------------------------------------------------------------------------------------


def work(segment, clock):
    """Record a fixed history; returns the slot it went to."""
    clock.now = 1000.0
    writer = Writer(segment, clock=clock)
    for step in range(3 * FOLD_BATCH + 10):
        clock.now += 0.005
        writer.record(0.001 * (step % 50 + 1), step % 7 + 1, 0.0005, 0.00025)
        if step % 10 == 0:
            writer.add(slots.ERRORS, 1)
            writer.add(slots.CACHE_HITS, 2)
            writer.add(slots.CACHE_MISSES, 3)
    slot = writer.slot
    part = segment.slots[slot].copy()
    writer.close()
    return slot, part


def test_a_strict_writer_leaves_the_same_bytes_as_any_other(make_segment, monkeypatch, clock):
    monkeypatch.setenv("SHMETRICS_STRICT", "1")
    segment = make_segment()
    assert isinstance(slots.words_of(segment, 0), FencedWords)
    slot, strict = work(segment, clock)
    monkeypatch.setenv("SHMETRICS_STRICT", "0")
    assert isinstance(slots.words_of(segment, 0), FencedWords), "as it was when the hub was attached"
    again = attach(segment.name, writable=True)
    assert not isinstance(slots.words_of(again, 0), FencedWords)
    other, plain = work(again, clock)

    assert other != slot
    assert int(strict["hot"]["head"]) == 3 * FOLD_BATCH + 10
    assert int(strict["hot"]["fold"]) >> 1 > 0
    for part in ("hot", "board", "ring", "folded"):
        np.testing.assert_array_equal(strict[part], plain[part])
