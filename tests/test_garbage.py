"""What a worker tells of its garbage collections: the interpreter's own counts, and times where they are asked for."""

import contextlib
import gc
import signal
import time

import numpy as np
import pytest

from shmetrics import PerformanceMetrics, garbage, settings, slots
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH, OWNER, offset_of
from shmetrics.snapshot import Garbage
from shmetrics.writer import Writer
from tests.processes import START_METHODS, alarm_handled_by, run_in_processes

FIELDS = ("collections", "collected", "uncollectable", "collecting_ns")
OLDEST = 2


@pytest.fixture
def quiet():
    """No collection but those that the test makes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def no_callbacks():
    """No callbacks of collections, such as hypothesis has."""
    others = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = others


@pytest.fixture
def timed(monkeypatch):
    """Collections are timed, until the end of the test."""
    monkeypatch.setenv("SHMETRICS_GC_SECONDS", "1")
    monkeypatch.setattr(garbage, "_nanoseconds", [0, 0, 0])
    yield
    gc.callbacks.remove(garbage._time)


def fold(writer):
    for _ in range(FOLD_BATCH + 1):
        writer.record(0.001)


def shown(segment):
    (worker,) = View(segment).snapshot().workers
    return worker.garbage


def litter(count):
    """Garbage that only a collection finds."""
    for _ in range(count):
        cycle = []
        cycle.append(cycle)


def test_collections_are_shown_by_generation_at_the_first_record_at_folds_and_at_the_end(make_segment, quiet):
    segment = make_segment()
    writer = Writer(segment)
    gc.collect(0)
    writer.record(0.001)
    assert shown(segment).collections == [1, 0, 0]
    litter(5)
    gc.collect(1)
    gc.collect(1)
    assert shown(segment).collections == [1, 0, 0], "a record costs what it did"
    fold(writer)
    assert shown(segment).collections == [1, 2, 0]
    assert shown(segment).collected[1] == 5
    gc.collect()
    writer.close()
    assert shown(segment).collections == [1, 2, 1]
    assert shown(segment).seconds == [0.0] * 3


def test_a_successor_in_the_slot_counts_its_own(make_segment, quiet):
    segment = make_segment(max_workers=1)
    with contextlib.closing(Writer(segment)) as first:
        gc.collect()
        first.record(0.001)
        assert shown(segment).collections[OLDEST] == 1
    with contextlib.closing(Writer(segment)) as second:
        second.record(0.001)
        assert shown(segment).collections[OLDEST] == 0


def _collect_twice(metrics, _index):
    gc.disable()
    before = gc.get_stats()[OLDEST]["collections"]
    metrics.claim()
    gc.collect()
    gc.collect()
    for _ in range(FOLD_BATCH + 1):
        metrics.update_inference(0.1)
    rows = metrics.get_comprehensive_statistics()["workers"]
    (own,) = [row for row in rows if row["slot"] == metrics.recorder.slot]
    metrics.close()
    return before, own["gc_collections"][OLDEST]


@pytest.mark.parametrize("method", START_METHODS)
def test_a_worker_counts_from_its_own_beginning(hub_name, method):
    """A child of fork has all collections of its parent in the interpreter's own counts."""
    with PerformanceMetrics(name=hub_name, max_workers=8, max_series=16) as metrics:
        gc.collect()
        answers = run_in_processes(method, 2, _collect_twice, metrics)
    assert all(before > 0 for before, _ in answers) or method != "fork"
    assert [own for _, own in answers] == [2, 2]


def test_without_asking_nothing_of_ours_is_called_at_a_collection(make_segment):
    before = list(gc.callbacks)
    Writer(make_segment()).record(0.001)
    assert gc.callbacks == before


def test_what_a_handler_raises_for_a_signal_during_a_collection_arrives(make_segment, no_callbacks):
    """With a callback in Python the interpreter would lose it: see `garbage`."""

    class TimeOut(Exception):
        pass

    def give_up(_signal, _frame):
        raise TimeOut

    writer = Writer(make_segment())
    writer.record(0.001)
    kept = [{number: [number]} for number in range(100_000)]

    def collect():
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            gc.collect()

    with alarm_handled_by(give_up):
        for _ in range(5):
            with pytest.raises(TimeOut):
                collect()
    assert len(kept) == 100_000


def test_where_it_is_asked_for_collections_are_timed_once_however_many_hubs_there_are(make_segment, quiet, timed):
    segment = make_segment()
    first, second = Writer(segment), Writer(segment)
    assert gc.callbacks.count(garbage._time) == 1
    first.record(0.001)
    litter(1000)
    gc.collect()
    fold(first)
    youngest, middle, oldest = shown(segment).seconds
    assert 0.0 < oldest < 60.0
    assert (youngest, middle) == (0.0, 0.0)
    first.close()
    second.close()


def test_a_timer_that_meets_the_end_of_a_collection_alone_counts_nothing(timed, make_segment):
    """It was put in place by a collection's own destructors."""
    Writer(make_segment())
    garbage._time("stop", {"generation": 1})
    assert garbage._nanoseconds[1] == 0


@pytest.mark.parametrize("variable", ["SHMETRICS_GC_SECONDS", "SHMETRICS_STRICT"])
def test_a_variable_that_says_neither_yes_nor_no_is_found_when_an_object_is_made(monkeypatch, variable):
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(ValueError, match=f"{variable} must be 1 or 0, not 'perhaps'"):
        PerformanceMetrics(max_workers=1, max_series=1)


@pytest.mark.parametrize("variable", ["SHMETRICS_GC_SECONDS", "SHMETRICS_STRICT"])
def test_a_variable_that_becomes_wrong_later_raises_into_no_request(make_segment, monkeypatch, variable):
    writer = Writer(make_segment())
    with monkeypatch.context() as patch:
        patch.setenv(variable, "perhaps")
        fold(writer)
    assert writer.slot == 0


@pytest.mark.parametrize(("setting", "meaning"), [("1", True), ("Yes", True), ("off", False), ("", False)])
def test_a_switch_is_read_as_people_write_it(monkeypatch, setting, meaning):
    monkeypatch.setenv("SHMETRICS_GC_SECONDS", setting)
    assert settings.switch("SHMETRICS_GC_SECONDS") is meaning


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [1 << 62, 2**64 - 1])
def test_counts_that_cannot_be_are_not_shown_and_the_worker_is(make_segment, field, value):
    segment = make_segment()
    writer = Writer(segment)
    fold(writer)
    at = offset_of(segment.layout.slot, "owner") + offset_of(OWNER, field) + 8
    slots.words_of(segment, 0)[at // 8] = value
    assert shown(segment) == Garbage([], [], [], [])
    fleet = View(segment).snapshot()
    assert (fleet.counters.requests, fleet.health.corrupt) == (FOLD_BATCH + 1, {})


def test_what_the_words_say_is_what_is_shown(make_segment):
    segment = make_segment()
    Writer(segment).record(0.001)
    for field, numbers in zip(FIELDS, np.arange(12).reshape(4, 3), strict=True):
        segment.slots["owner"][field][0] = numbers
    assert shown(segment) == Garbage([0, 1, 2], [3, 4, 5], [6, 7, 8], [9e-9, 10e-9, 11e-9])
