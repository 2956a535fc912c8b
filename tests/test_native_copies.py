"""Slots brought home by C are what Python makes of them, whatever is in them; and so is what is made of these."""

import json
import math
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmetrics import native, segment, slots
from shmetrics.cells import Plan
from shmetrics.copies import Copier
from shmetrics.entries import Contents, Placement, run_length
from shmetrics.families import LIVE, Definition
from shmetrics.folded import AT, Folded, unpacked
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH, FOLDED, HOT, OWNER, Layout, offset_of
from shmetrics.statistics import comprehensive
from shmetrics.writer import Writer
from tests.conftest import FakeClock
from tests.forge import NOW

if native.IS_BUILT:
    from shmetrics import _native

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
ODD = (0.0, -0.0, 5e-324, 1e-7, 2.0**20, 3e6, 1e17)
INVALID = (math.nan, math.inf, -1.0, 1e18)


@pytest.fixture
def clock():
    """Of the writers and the readers."""
    return FakeClock(NOW)


@pytest.fixture
def fleet(make_segment, clock):
    """Workers that recorded nothing, little, exactly a batch, and more; odd numbers, and invalid ones."""
    target, writers, draw = make_segment(max_workers=8, window_size=60), [], random.Random(3)
    values = [draw.lognormvariate(-3, 1) for _ in range(100)]
    for count, pool in (
        (0, values),
        (5, values),
        (FOLD_BATCH, values),
        (3 * FOLD_BATCH + 77, values),
        (FOLD_BATCH + 100, ODD),
        (FOLD_BATCH + 9, INVALID + ODD),
        (4, INVALID),
    ):
        writer = Writer(target, clock=clock)
        writer.claim()
        for _ in range(count):
            clock.now += 0.003
            writer.record(*(draw.choice(pool) for _ in range(4)))
        writers.append(writer)
    writers[1].enter("GET /predict")
    writers[2].add(slots.ERRORS, 3)
    yield target
    for writer in writers:
        writer._leave_slot()


def read(target, clock, setting):
    """A snapshot in Python ("0") or in C ("1")."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, setting)
        return View(target, clock=clock).snapshot()


def told(fleet):
    """What is told of a snapshot: all statistics, and its areas; but for the last bits of sums."""
    areas = [fleet.folded.area, *(worker.area for worker in fleet.workers)]
    counts = [[area[name].tolist() for name in FOLDED.names if not name.endswith("sum")] for area in areas]
    sums = [value for area in areas for name in ("sum", "latency_sum") for value in area[name].tolist()]
    return comprehensive(replace(fleet, taken_at_wall=0.0)), counts, sums


def assert_equal(one, other):
    (figures, counts, sums), (their_figures, their_counts, their_sums) = told(one), told(other)
    assert json.dumps(counts) == json.dumps(their_counts)
    assert sums == pytest.approx(their_sums, rel=1e-9)
    for key, value in figures.items():
        assert value == (
            pytest.approx(their_figures[key], rel=1e-9) if isinstance(value, float) else their_figures[key]
        )


def test_a_snapshot_is_the_same_in_both_and_of_each_worker_too(fleet, clock):
    one, other = read(fleet, clock, "0"), read(fleet, clock, "1")
    assert_equal(one, other)
    for mine, theirs in zip(one.workers, other.workers, strict=True):
        known, same = dict(vars(mine)), dict(vars(theirs))
        for name in ("window", "cells", "kept", "area", "folded"):
            known.pop(name, None), same.pop(name, None)
        assert known == same
        assert mine.window.tobytes() == theirs.window.tobytes()
        assert mine.cells.tobytes() == theirs.cells.tobytes()
    assert other.counters.requests == 6 * FOLD_BATCH + 195 == int(other.folded.valid) + int(other.folded.invalid)


def test_what_c_keeps_of_an_area_is_small_and_the_whole_of_it(fleet, clock):
    snapshot = read(fleet, clock, "1")
    packed = [worker.kept for worker in snapshot.workers if isinstance(worker.kept, bytearray)]
    assert len(packed) == 5, "all but those with rows that Python has to look at"
    assert max(map(len, packed[:4])) < FOLDED.itemsize / 2
    total = Folded(unpacked(packed[3]))
    assert int(total.valid) == 3 * FOLD_BATCH + 77
    assert total.sketch.sum(axis=1).tolist() == [3 * FOLD_BATCH + 77] * 5


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_of_either_sign_are_where_they_are_looked_for(make_segment, zero):
    target = make_segment()
    writer = Writer(target)
    for each in FOLD_BATCH * [zero] + 3 * [0.0]:
        writer.record(each, each, each, each)
    copier = Copier(target, FakeClock(1e9))
    (copy,) = copier._attempt_in_c([0], 0, None)
    assert Folded(unpacked(copy.kept)).sketch[:, 0].tolist() == [FOLD_BATCH + 3] * 5
    writer._leave_slot()


def test_an_area_of_which_every_bucket_is_kept_is_told_from_a_whole_one(make_segment, clock):
    """It is as long, and has its seconds elsewhere; a record that is not valid has all areas of the fleet unpacked."""
    target = make_segment()
    writers = [Writer(target, clock=clock) for _ in range(2)]
    for values in (4 * [0.0], 4 * [0.5], 4 * [2e6]):
        writers[0].record(*values)
    writers[1].record(math.nan)
    one, other = read(target, clock, "0"), read(target, clock, "1")
    assert len(other.workers[0].kept) == FOLDED.itemsize
    assert_equal(one, other)
    assert other.folded.sketch.sum(axis=1).tolist() == [3] * 5
    for writer in writers:
        writer._leave_slot()


@pytest.mark.parametrize("errors", [2**53 - 1, 2**53, 2**63, 2**64 - 1])
def test_more_errors_than_there_can_be_come_to_the_same(fleet, clock, errors):
    fleet.slots[1]["ring"]["errors"][4] = errors
    assert_equal(read(fleet, clock, "0"), read(fleet, clock, "1"))


def test_tuples_that_c_makes_hash_as_python_s_do(fleet, clock):
    snapshot = read(fleet, clock, "1")
    for worker in snapshot.workers:
        assert {worker.counters} == {tuple(worker.counters)}


def test_long_windows_give_other_threads_their_turn(make_segment):
    """The lock of the interpreter is not kept for longer than a slot and its share."""
    target, turns, is_done = make_segment(window_size=100_000), [], threading.Event()
    writers = [Writer(target) for _ in range(4)]
    for writer in writers:
        for _ in range(100_000):
            writer.record(0.01)
    copier = Copier(target, time.monotonic)

    def look():
        while not is_done.is_set():
            turns.append(time.monotonic())
            time.sleep(0.0)

    thread = threading.Thread(target=look)
    thread.start()
    deadline, found = time.monotonic() + 60.0, False
    while not found and time.monotonic() < deadline:
        turns.clear()
        begun = time.monotonic()
        assert None not in copier._attempt_in_c(4 * [0, 1, 2, 3], 0, None)
        ended = time.monotonic()
        found = any(begun + 0.004 < turn < ended - 0.001 for turn in turns)
    is_done.set()
    thread.join()
    assert found, "nobody else had a turn before the end"
    for writer in writers:
        writer._leave_slot()


_TIMES = np.array([NOW, 1e9, -1.0, np.nan, np.inf, -0.0, 1e39]).view(np.uint64).tolist()
_WORDS = (0, 1, 2, 7, 1000, 2**50, 2**62, 2**63, 2**64 - 1, *_TIMES)
_LAYOUT = Layout(max_workers=8, window_size=60, max_series=16)
_HEADS = [
    *(offset_of(_LAYOUT.slot, "owner") // 8 + at for at in range(OWNER.itemsize // 8)),
    *(offset_of(_LAYOUT.slot, "hot") // 8 + at for at in range(HOT.itemsize // 8)),
    *(
        offset_of(_LAYOUT.slot, "folded") // 8 + copy * FOLDED.itemsize // 8 + at + more
        for copy in (0, 1)
        for name, at in AT.items()
        for more in ((0, 1, 4) if name != "sketch" else ())
    ),
    *(offset_of(_LAYOUT.slot, "ring") // 8 + at for at in range(24)),
]
"""Words of a slot, but for sketches: C looks only at those buckets that are between a measure's extremes."""


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(_HEADS), st.sampled_from(_WORDS)), min_size=1, max_size=4))
def test_whatever_is_in_slots_both_believe_the_same(fleet, clock, damage):
    words = np.ndarray((8, _LAYOUT.slot.itemsize // 8), np.uint64, fleet.memory, fleet.layout.slots_offset)
    before = words.copy()
    for slot, word, value in damage:
        words[slot, word] = value
    one, other = read(fleet, clock, "0"), read(fleet, clock, "1")
    words[:] = before
    assert one.health.corrupt.keys() == other.health.corrupt.keys()
    assert one.counters == other.counters
    assert [worker.slot for worker in one.workers] == [worker.slot for worker in other.workers]
    assert int(one.folded.valid) == int(other.folded.valid)
    json.dumps(comprehensive(other), allow_nan=False)


def test_a_bucket_that_no_record_can_be_in_is_counted_by_neither(fleet, clock):
    """Python finds it; C, which is not to look through all that is empty, does not look at it."""
    fold = fleet.slots[3]["hot"]["fold"] & np.uint64(1)
    fleet.slots[3]["folded"][fold]["sketch"][0, 1200] = 5
    assert list(read(fleet, clock, "0").health.corrupt) == ["slot 3"]
    snapshot = read(fleet, clock, "1")
    assert snapshot.health.corrupt == {}
    assert int(snapshot.folded.sketch[0].sum()) == int(snapshot.folded.valid)


def test_a_clock_that_raises_ends_the_read_and_nothing_else(fleet):
    def raising():
        raise InterruptedError("at once")

    copier = Copier(fleet, raising)
    for _ in range(3):
        with pytest.raises(InterruptedError):
            copier._attempt_in_c([0, 1], 0, None)


def test_a_clock_that_takes_the_slots_away_is_refused(fleet):
    wanted = [1, 2, 3]

    def taking():
        wanted.clear()
        return NOW

    with pytest.raises(ValueError, match="wanted slots of a hub"):
        Copier(fleet, taking)._attempt_in_c(wanted, 0, None)


# Cells ----------------------------------------------------------------------------------------------------------------

_METRICS = [
    Definition("c", "counter"),
    Definition("h", "histogram", buckets=(0.1, 1.0, 5.0)),
    Definition("s", "summary"),
    Definition("r", "ratio"),
    Definition("e", "enum", states=("up", "down")),
    *(Definition(f"g_{merge.replace(LIVE, 'live_')}", "gauge", merge=merge)
      for merge in ("last", "sum", "min", "max", "mean", "per_worker", f"{LIVE}sum", f"{LIVE}last")),
]  # fmt: skip


def plan_of_all():
    """A catalog with a series of each kind, and a cell of none between them."""
    placed, cell = {}, 1
    for serial, metric in enumerate(_METRICS, 1):
        placed[100 + serial] = Placement(100 + serial, serial, (), cell, 1)
        cell += run_length(metric) + 1
    used = bytearray(b"\1" * cell)
    metrics = dict(enumerate(_METRICS, 1))
    index = {(placement.metric, ()): placement for placement in placed.values()}
    names = {metric.name: serial for serial, metric in metrics.items()}
    return Plan(Contents(1, metrics, names, placed, index, bytearray(40), used))


_CELL = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, math.nan, math.inf, -math.inf, 1e300, NOW - 1.0, NOW, NOW + 5.0])


@settings(deadline=None, max_examples=300)
@given(st.data(), st.integers(1, 5))
def test_cells_merge_to_the_same_whatever_is_in_them(data, count):
    plan = plan_of_all()
    rows = [np.array(data.draw(st.lists(_CELL, min_size=plan.extent, max_size=plan.extent))) for _ in range(count)]
    for row in rows:
        for placement in plan.contents.series.values():
            if data.draw(st.integers(0, 4)):
                row[placement.cell] = placement.serial
    live = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    found = []
    for setting in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(native.VARIABLE, setting)
            found.append(plan.merge(rows, live, NOW))
    np.testing.assert_array_equal(*found)


# Calls that nobody makes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("unpack", (bytes(8), bytearray(FOLDED.itemsize))),
        ("unpack", (bytes(FOLDED.itemsize - 8), bytearray(FOLDED.itemsize))),
        ("unpack", (bytes(FOLDED.itemsize), bytearray(8))),
        ("worker_facts", ((), False, (NOW, 1, 1.0, 1, (0,) * 5))),
        ("worker_facts", ((0,) * 13, False, (NOW, 1, 1.0, 1, (0,) * 5))),
        ("merge_cells", (bytearray(16), [bytes(16)], [], NOW, *[b""] * 7)),
        ("merge_cells", (bytearray(16), [bytes(8)], [True], NOW, b"", b"", b"", bytes(16), bytes(16), b"", b"")),
        ("bring", ([0], (0,) * 10, lambda: NOW, -1, (tuple,) * 5, bytes(64), bytearray(8), bytearray(8), None)),
        ("bring", ([0], (2**60,) * 10, lambda: NOW, -1, (tuple,) * 5, bytes(64), bytearray(8), bytearray(8), None)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name, args):
    with pytest.raises((ValueError, TypeError, IndexError)):
        getattr(_native, name)(*args)


@pytest.mark.parametrize("number", [-1, 4, 2**40, None])
def test_a_slot_that_is_none_is_refused(make_segment, number):
    target = make_segment()
    writer = Writer(target)
    writer.record(0.5)
    copier = Copier(target, FakeClock())
    memory = target.memory, bytearray(2**14), bytearray(0), None
    with pytest.raises(ValueError, match="wanted slots of a hub"):
        native.bring([number], copier._place, copier._clock, -1, (tuple,) * 5, *memory)
    writer._leave_slot()


def test_a_hub_attached_for_reading_only_is_read_by_c(fleet, clock):
    target = segment.attach(fleet.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.VARIABLE, "1")
        copier = Copier(target, clock)
        assert [copy is not None for copy in copier._attempt_in_c([0, 1, 2, 3], 0, None)] == [True] * 4
    target.close()
