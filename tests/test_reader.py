"""The reader: what it returns is consistent however fast the writer is, and nothing in the segment can hurt it."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

from shmetrics import Hub, guards, naming, native, slots
from shmetrics.copies import CHANGED, Copier, SlotCopy
from shmetrics.folded import Folded, unpacked
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH
from shmetrics.metrics import PerformanceMetrics
from shmetrics.reader import GUARD_PATIENCE, Reader
from shmetrics.segment import attach
from shmetrics.sketch import bucket_index
from shmetrics.statistics import comprehensive
from shmetrics.writer import Writer
from tests.insisting import insist
from tests.processes import in_forked_child

pytestmark = pytest.mark.usefixtures("written_in")


def once(copier, slots_):
    """What comes of a single attempt: C leaves what is odd to another one."""
    if not copier._is_native:
        return copier.attempt(slots_, 0)
    return [CHANGED if copy is None else copy for copy in copier._attempt_in_c(slots_, 0, Folded())]


def _write_for_ever(name):
    """Rows carry a pattern: every measure follows from the inference time, so that a torn row shows."""
    writer = Writer(attach(name, writable=True))
    step = 0
    while True:
        step += 1
        writer.record(step, 2 * step, 3 * step, 4 * step)


@pytest.fixture
def busy_writer(make_segment, hub_name):
    """A process that writes as fast as it can; its segment."""
    segment = make_segment(window_size=900)
    pid = os.fork()
    if pid == 0:
        try:
            _write_for_ever(hub_name)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 10
    while not segment.slots[0]["hot"]["head"] > 2000:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    yield segment
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("way", ["at once", "with the guard", "without it"])
def test_no_row_is_torn_and_nothing_is_missing_while_the_writer_races_on(busy_writer, way, monkeypatch):
    if way == "without it":
        monkeypatch.setattr(guards, "open_existing", lambda _name: None)
    reader, last, steady = Reader(busy_writer), 0, 0
    if way != "at once":
        insist(reader)
    for _ in range(300):
        copy = reader.read()
        assert copy.flaws == {}
        if copy.stale:
            continue
        steady += 1
        (slot,) = copy.slots
        rows = slot.rows
        assert len(rows) == slot.hot.head - slot.first
        assert rows["inference_time"].tolist() == list(range(slot.first + 1, slot.hot.head + 1))
        for measure, factor in (("batch_size", 2), ("preprocessing_time", 3), ("quantization_time", 4)):
            assert (rows[measure] == factor * rows["inference_time"]).all()
        folded = Folded(unpacked(slot.kept))
        assert int(folded.valid) == slot.hot.head
        assert folded.sketch.sum(axis=1).tolist() == [slot.hot.head] * 5
        assert float(folded.sum[0]) == slot.hot.head * (slot.hot.head + 1) / 2
        assert slot.hot.head >= last
        last = slot.hot.head
    assert steady > 200


def test_a_reader_waits_for_all_guards_together_no_longer_than_its_patience(make_segment, clock):
    segment = make_segment(max_workers=4)
    writers = [Writer(segment, clock=clock) for _ in range(4)]
    prefix = naming.semaphore_prefix(segment.name, segment.instance)
    held = []
    for writer in writers:
        writer.record(0.5)
        guard = guards.open_existing(guards.guard_name(prefix, writer.slot, 1))
        assert guard.try_acquire()
        held.append(guard)
    copy = insist(Reader(segment, clock=clock, sleep=clock.sleep)).read()
    assert GUARD_PATIENCE <= copy.seconds_waited <= GUARD_PATIENCE + 0.001
    assert len(copy.slots) == 4, "it reads without the guard"
    for guard, writer in zip(held, writers, strict=True):
        guard.release()
        guard.close()
        writer.close()


@pytest.mark.parametrize(("again", "wait"), [(False, 0.0), (True, GUARD_PATIENCE)], ids=["at once", "again"])
def test_a_stopped_worker_that_holds_its_guard_does_not_stop_a_reader(hub_name, again, wait):
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics:
        metrics.update_inference(0.5)
        segment = metrics._attachment.segment
        guard = guards.open_existing(guards.guard_name(naming.semaphore_prefix(hub_name, segment.instance), 0, 1))
        pid = os.fork()
        if pid == 0:
            guard.try_acquire()
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        with Hub.attach(hub_name) as hub:
            if again:
                insist(hub._view._reader)
            snapshot = hub.snapshot()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        guard.close()
        assert snapshot.counters.requests == 1
        assert snapshot.health.seconds_waited >= wait
        assert again or snapshot.health.seconds_waited == 0.0


def test_a_slot_that_never_keeps_still_is_shown_as_it_was_and_flagged(make_segment):
    segment = make_segment()
    writer = Writer(segment)
    for _ in range(10):
        writer.record(0.5)
    words, flips = slots.words_of(segment, 0), iter([])

    def change_meanwhile():
        """The clock is asked when all is copied, and before it is found out whether it changed."""
        words[slots.GENERATION] = next(flips, words[slots.GENERATION])
        return time.monotonic()

    view = View(segment, clock=change_meanwhile)
    assert not view.snapshot().workers[0].stale
    flips = iter(range(100, 1000))
    snapshot = view.snapshot()
    assert snapshot.workers[0].stale
    assert snapshot.health.stale_slots == 1
    assert snapshot.counters.requests == 10
    words[slots.GENERATION] = 1
    writer.close()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (slots.HEAD, 2**63),
        (slots.HEAD, 5),
        (slots.FOLD, 2**64 - 1),
        (slots.ERRORS, 2**63),
        (slots.CACHE_HITS, 2**64 - 1),
        (slots.UNCOUNTED, 2**63),
    ],
)
def test_a_slot_whose_words_cannot_be_right_is_reported_and_the_others_still_count(make_segment, word, value):
    segment = make_segment()
    good, bad = Writer(segment), Writer(segment)
    for _ in range(FOLD_BATCH + 10):
        good.record(0.5)
        bad.record(0.5)
    slots.words_of(segment, bad.slot)[word] = value
    figures = View(segment).comprehensive()
    assert list(figures["hub"]["corrupt"]) == [f"slot {bad.slot}"]
    assert figures["total_requests"] == FOLD_BATCH + 10
    good.close()
    bad._leave_slot()


def test_a_corrupt_retired_area_is_reported_shown_as_it_last_was_and_the_slots_go_on(make_segment):
    segment = make_segment()
    gone, going_on = Writer(segment), Writer(segment)
    gone.record(0.5)
    going_on.record(0.5)
    gone.close()
    slots.reap(segment)
    view = View(segment)
    assert view.snapshot().counters.requests == 2
    segment.retired(segment.retired_index)["folded"]["valid"] = 77
    going_on.record(0.5)
    snapshot = view.snapshot()
    assert snapshot.counters.requests == 3
    assert list(snapshot.health.corrupt) == ["retired area"]
    going_on.close()


def test_random_bytes_anywhere_never_raise_out_of_a_read_nor_make_figures_that_json_cannot_hold(make_segment):
    segment = make_segment(window_size=50)
    writers = [Writer(segment) for _ in range(3)]
    for writer in writers:
        for step in range(FOLD_BATCH + 50):
            writer.record(0.001 * step)
    view, draw = View(segment), random.Random(11)
    good = segment.raw.copy()
    header = segment.layout.catalog_offset
    for _ in range(400):
        for _ in range(draw.choice((1, 3, 50))):
            start = draw.randrange(header, segment.layout.size)
            size = draw.choice((1, 8, 8, 64, 4096))
            end = min(segment.layout.size, start + size)
            fill = draw.choice((0, 255, None))
            if fill is None:
                segment.raw[start:end] = np.frombuffer(draw.randbytes(end - start), np.uint8)
            else:
                segment.raw[start:end] = fill
        json.dumps(comprehensive(view.snapshot()), allow_nan=False)
        slots.reap(segment)
        segment.raw[header:] = good[header:]
    for writer in writers:
        writer._leave_slot()


def test_a_claimant_that_died_half_way_is_no_corruption(make_segment):
    segment = make_segment()
    writer = Writer(segment)
    for _ in range(FOLD_BATCH + 10):
        writer.record(0.5)
    writer.close()
    slots.reap(segment)
    words = slots.words_of(segment, 0)
    words[slots.GENERATION] += 1
    words[slots.HEAD] = words[slots.FOLD] = 0  # and here it was killed, before it cleared the folded copy
    snapshot = View(segment).snapshot()
    assert snapshot.health.corrupt == {}
    assert (snapshot.workers, snapshot.counters.requests) == ((), FOLD_BATCH + 10)


@pytest.mark.parametrize(("ahead", "accepted"), [(-1, True), (0, False), (1, False)])
def test_a_row_that_the_writer_may_just_be_overwriting_is_not_accepted(make_segment, ahead, accepted):
    """The commit word after the copy is `first + capacity + ahead`: the next record goes where row `first` is."""
    segment = make_segment(window_size=511)
    writer = Writer(segment)
    for step in range(3 * FOLD_BATCH):
        writer.record(step)
    words = slots.words_of(segment, 0)
    hot = slots.read_hot(words)
    first = min(hot.folded, hot.head - 512)

    def record_meanwhile():
        words[slots.HEAD] = first + segment.layout.capacity + ahead
        return time.monotonic()

    (copy,) = once(Copier(segment, record_meanwhile), [0])
    assert isinstance(copy, SlotCopy) if accepted else copy == CHANGED
    writer._leave_slot()


def test_a_record_from_the_future_is_reported_and_hides_no_second_of_the_others(make_segment):
    """In the per-second ring the newest second wins its place."""
    segment = make_segment()
    writers = [Writer(segment) for _ in range(2)]
    for writer in writers:
        writer.record(0.5)
    segment.slots["ring"]["time"][0, 0] = 1e9
    fleet = View(segment).snapshot()
    assert list(fleet.health.corrupt) == ["slot 0"]
    assert fleet.counters.requests == int(fleet.folded.requests.sum()) == 1
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    ("counter", "value"), [("requests", 0), ("requests", 2**64 - 1), ("errors", 2**63), ("incarnations", 2**64 - 1)]
)
def test_a_retired_area_whose_counters_are_out_of_range_is_reported(make_segment, counter, value):
    segment = make_segment()
    writer = Writer(segment)
    writer.record(0.5)
    writer.close()
    slots.reap(segment)
    view = View(segment)
    before = view.snapshot()
    segment.retired(segment.retired_index)[counter] = value
    after = view.snapshot()
    assert "out of range" in after.health.corrupt["retired area"]
    assert after.counters == before.counters


@pytest.mark.parametrize("generation", [2, 2**64 - 1])
def test_a_slot_of_which_a_later_incarnation_is_retired_than_it_had_is_reported(make_segment, generation):
    segment = make_segment()
    writers = [Writer(segment) for _ in range(2)]
    for writer in writers:
        writer.record(0.5)
    segment.retired(segment.retired_index)["folded_generation"][0] = generation
    fleet = View(segment).snapshot()
    assert f"{generation} is retired" in fleet.health.corrupt["slot 0"]
    assert [worker.slot for worker in fleet.workers] == [1]
    assert fleet.counters.requests == int(fleet.folded.valid) == 1
    for writer in writers:
        writer.close()


def test_a_slot_seen_while_it_is_claimed_is_no_worker_even_if_that_incarnation_ends_before_the_read_does(
    make_segment, monkeypatch
):
    segment = make_segment()
    writer = Writer(segment)
    writer.record(0.1)
    writer.close()
    slots.reap(segment)
    words = slots.words_of(segment, 0)
    words[slots.GENERATION] += 1  # a claimant has begun, and not cleared anything yet
    read_retired = Reader._read_retired

    def read_retired_later(self):
        segment.retired(segment.retired_index)["folded_generation"][0] = words[slots.GENERATION]
        return read_retired(self)

    monkeypatch.setattr(Reader, "_read_retired", read_retired_later)
    assert View(segment).snapshot().workers == ()


class TestAllAtOnce:
    """The first attempt is at all slots, without a guard; what it does not get is copied again, slot by slot."""

    @pytest.fixture
    def fleet(self, make_segment):
        """A segment, and three writers of 1, 2 and 3 hundred records; the last two have folded."""
        segment = make_segment()
        writers = [Writer(segment) for _ in range(3)]
        for count, writer in enumerate(writers, 1):
            for _ in range(FOLD_BATCH + 100 * count):
                writer.record(0.5)
        yield segment, writers
        for writer in writers:
            writer._leave_slot()

    def counts(self, copy):
        """Of each slot copied: its number, its records, and those in its area."""
        return [(each.slot, each.hot.head, int(unpacked(each.kept)["valid"])) for each in copy.slots]

    def test_guards_of_workers_that_keep_still_are_not_even_opened(self, fleet, monkeypatch):
        segment, _ = fleet
        monkeypatch.setattr(guards, "open_existing", pytest.fail)
        assert self.counts(Reader(segment).read()) == [(at, *2 * [FOLD_BATCH + 100 * (at + 1)]) for at in range(3)]

    def test_a_slot_that_changed_is_copied_again_with_its_guard_which_is_then_given_back(self, fleet):
        segment, writers = fleet
        reader, held = Reader(segment), []
        attempt = reader._copier.attempt
        prefix = naming.semaphore_prefix(segment.name, segment.instance)

        def fold_meanwhile(slots_, extent, total=None):
            found = attempt(slots_, extent, total)
            if len(slots_) == 3:
                found[1] = CHANGED
                for _ in range(FOLD_BATCH):
                    writers[1].record(0.5)
            else:
                with guards.open_existing(guards.guard_name(prefix, 1, 1)) as guard:
                    held.append((slots_, guard.value))
            return found

        reader._copier.attempt = fold_meanwhile
        copy = reader.read()
        assert held == [([1], 0)]
        assert self.counts(copy) == [
            (at, *2 * [count]) for at, count in enumerate((FOLD_BATCH + 100, 2 * FOLD_BATCH + 200, FOLD_BATCH + 300))
        ]
        with guards.open_existing(guards.guard_name(prefix, 1, 1)) as guard:
            assert guard.value == 1

    def test_a_fold_in_the_middle_of_the_attempt_is_noticed_in_its_slot_and_no_other(self, fleet):
        segment, writers = fleet
        calls = iter(range(3))

        def fold_meanwhile():
            if next(calls) == (2 if copier._is_native else 0):  # C asks the clock for each slot
                for _ in range(FOLD_BATCH):
                    writers[2].record(0.5)
            return time.monotonic()

        copier = Copier(segment, fold_meanwhile)
        assert [copy == CHANGED for copy in once(copier, [0, 1, 2])] == [False, False, True]

    @pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
    def test_a_copy_that_no_total_was_wanted_of_is_in_none(self, fleet):
        copier = Copier(fleet[0], time.monotonic)
        assert [copy.is_added for copy in copier.attempt([0, 1, 2], 0)] == [False] * 3

    def test_what_c_finds_odd_is_copied_by_python_and_the_others_stay_as_they_were(self, fleet, monkeypatch):
        monkeypatch.setenv(native.VARIABLE, "1")
        segment, writers = fleet
        calls = iter(range(1000))

        def fold_meanwhile():
            if next(calls) == 1:
                for _ in range(FOLD_BATCH):
                    writers[1].record(0.5)
            return time.monotonic()

        copier, total = Copier(segment, fold_meanwhile), Folded()
        found = copier.attempt([0, 1, 2], 0, total)
        assert [copy.hot.head for copy in found] == [FOLD_BATCH + 100, 2 * FOLD_BATCH + 200, FOLD_BATCH + 300]
        assert [copy.is_added for copy in found] == [True, False, True]
        assert int(total.valid) == 2 * FOLD_BATCH + 400

    @pytest.mark.parametrize("bad", [0, 1, 2])
    def test_a_slot_that_is_left_out_leaves_the_others_areas_their_own(self, fleet, bad):
        segment, writers = fleet
        expected = [each for each in self.counts(Reader(segment).read()) if each[0] != writers[bad].slot]
        slots.words_of(segment, writers[bad].slot)[slots.ERRORS] = 2**63
        copy = Reader(segment).read()
        assert self.counts(copy) == expected

    def test_an_area_damaged_after_a_read_is_found_by_the_next(self, fleet):
        segment, writers = fleet
        view = View(segment)
        assert view.snapshot().health.corrupt == {}
        folded = segment.slots[writers[0].slot]["folded"][slots.words_of(segment, writers[0].slot)[slots.FOLD] & 1]
        folded["sketch"][0, bucket_index(np.array([0.5]))] += np.uint64(1)
        assert list(view.snapshot().health.corrupt) == [f"slot {writers[0].slot}"]

    def test_what_lies_in_a_folded_area_before_the_first_fold_is_not_looked_at(self, make_segment):
        segment = make_segment()
        writer = Writer(segment)
        for _ in range(10):
            writer.record(0.5)
        segment.slots["folded"].view(np.uint8)[:] = 255
        snapshot = View(segment).snapshot()
        assert snapshot.health.corrupt == {}
        assert int(snapshot.folded.valid) == int(snapshot.workers[0].folded.valid) == 10
        writer._leave_slot()

    def test_a_snapshot_stays_as_it_was_whatever_is_recorded_and_read_later(self, fleet):
        segment, writers = fleet
        view = View(segment)
        before = view.snapshot()
        known = [worker.folded.area.tobytes() for worker in before.workers], before.folded.area.tobytes()
        for writer in writers:
            for _ in range(2 * FOLD_BATCH + 7):
                writer.record(0.25)
        after = view.snapshot()
        assert after.counters.requests == before.counters.requests + 3 * (2 * FOLD_BATCH + 7)
        assert ([worker.folded.area.tobytes() for worker in before.workers], before.folded.area.tobytes()) == known

    def test_a_reader_made_before_a_fork_reads_in_parent_and_child(self, fleet):
        segment, writers = fleet
        reader = Reader(segment)
        reader.read()
        writers[0].record(0.5)
        expected = [(at, FOLD_BATCH + count, FOLD_BATCH + count) for at, count in enumerate((101, 200, 300))]

        def look():
            for _ in range(20):
                assert self.counts(reader.read()) == expected
                assert self.counts(insist(Reader(segment)).read()) == expected

        in_forked_child(look)
        look()
