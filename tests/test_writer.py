"""The writer: what it stores, when it folds, and that nothing on the way makes it raise, wait or lose."""

import logging
import math
import os
import time

import numpy as np
import pytest

from shmetrics import guards, naming, slots
from shmetrics.claimant import CLAIM_PATIENCE, RETRY_INTERVAL
from shmetrics.completion import writer_class
from shmetrics.folded import LIMIT
from shmetrics.hub import View
from shmetrics.layout import BOARD_SIZE, FOLD_BATCH, FOLD_RESERVE, FREE
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.slots import CACHE_HITS, ERRORS, GUARD_PATIENCE, UNCOUNTED
from tests.conftest import FakeClock
from tests.processes import run_in_threads

pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def segment(make_segment):
    return make_segment()


@pytest.fixture
def clock():
    """A clock under the test's control, that starts where the reader's is: a machine may have booted a minute ago."""
    return FakeClock(time.monotonic())


@pytest.fixture
def writer(segment, clock):
    writer = new_writer(segment, clock=clock, role="test")
    yield writer
    writer.close()


def new_writer(segment, **options):
    return writer_class()(segment, **options)


def fleet(segment):
    return View(segment).snapshot()


def test_nothing_is_claimed_before_the_first_record(segment, writer):
    assert writer.slot is None
    assert fleet(segment).workers == ()
    writer.record(0.1)
    assert writer.slot == 0


def test_a_record_is_stored_with_its_time_and_the_counters_of_that_moment(segment, writer, clock):
    writer.add(ERRORS, 2)
    writer.add(CACHE_HITS, 3)
    clock.now = 1234.5
    writer.record(0.25, 8, 0.5, 0.125)
    assert segment.slots[0]["ring"][0].tolist() == (1234.5, 0.25, 8.0, 0.5, 0.125, 2, 3, 0)


def test_records_are_folded_batch_by_batch_and_none_is_folded_twice(segment, writer):
    for step in range(3 * FOLD_BATCH + 10):
        writer.record(0.001 * (step + 1))
        hot = slots.read_hot(slots.words_of(segment, 0))
        assert hot.head == step + 1
        assert hot.head - hot.folded <= FOLD_BATCH
    folded = fleet(segment).folded
    assert int(folded.valid) == 3 * FOLD_BATCH + 10
    assert folded.sketch.sum(axis=1).tolist() == [3 * FOLD_BATCH + 10] * 5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-9, LIMIT, np.float64("nan")])
def test_a_nonsensical_measurement_counts_as_a_request_and_as_nothing_else(segment, writer, bad, caplog):
    for _ in range(FOLD_BATCH):
        writer.record(0.5)
        writer.record(bad)
        writer.record(0.5, 1, bad)
    snapshot = fleet(segment)
    assert snapshot.counters.requests == 3 * FOLD_BATCH
    assert int(snapshot.folded.invalid) == 2 * FOLD_BATCH
    assert (float(snapshot.folded.minimum[0]), float(snapshot.folded.maximum[0])) == (0.5, 0.5)
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "warned about once"


@pytest.mark.parametrize("bad", ["0.1", None, [0.1], 1j])
def test_what_is_not_a_number_is_a_type_error_at_once_and_leaves_no_trace(segment, writer, bad):
    writer.record(0.5)
    with pytest.raises(TypeError, match="real numbers"):
        writer.record(bad)
    writer.record(0.5)
    assert fleet(segment).counters.requests == 2


def test_numpy_numbers_are_numbers(segment, writer):
    writer.record(np.float32(0.5), np.int64(8))
    assert fleet(segment).workers[0].window["batch_size"].tolist() == [8.0]


def test_a_reader_that_holds_the_guard_puts_the_fold_off_but_not_for_ever(segment, writer):
    writer.record(0.1)
    guard = guards.open_existing(guards.guard_name(naming.semaphore_prefix(segment.name, segment.instance), 0, 1))
    with guard:
        assert guard.try_acquire()
        words = slots.words_of(segment, 0)
        capacity = segment.layout.capacity
        for step in range(1, capacity - FOLD_RESERVE):
            writer.record(0.1)
            assert slots.read_hot(words).folded == 0, step
        for _ in range(FOLD_RESERVE):
            writer.record(0.1)
        assert slots.read_hot(words).folded > 0, "the ring was nearly full"
        assert int(fleet(segment).folded.valid) == capacity
        guard.release()


def test_a_guard_left_busy_by_the_dead_is_replaced_by_its_owner_and_its_value_never_exceeds_one(segment, writer, clock):
    writer.record(0.1)
    prefix = naming.semaphore_prefix(segment.name, segment.instance)
    abandoned = guards.open_existing(guards.guard_name(prefix, 0, 1))
    assert abandoned.try_acquire()  # and never released
    for _ in range(FOLD_BATCH):
        writer.record(0.1)
    clock.now += GUARD_PATIENCE
    for _ in range(FOLD_BATCH):
        writer.record(0.1)
    renewed = guards.open_existing(guards.guard_name(prefix, 0, 2))
    assert (abandoned.value, renewed.value) == (0, 1)
    assert guards.open_existing(guards.guard_name(prefix, 0, 1)) is None
    for _ in range(FOLD_BATCH):
        writer.record(0.1)
    assert slots.read_hot(slots.words_of(segment, 0)).folded >= 2 * FOLD_BATCH
    abandoned.close()
    renewed.close()


def test_while_the_registry_is_busy_records_wait_in_the_process_and_none_is_lost(segment, writer, clock):
    with ByteLock(segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        writer.claimant.patience = 0.0
        writer.add(ERRORS, 5)
        for step in range(500):
            writer.record(0.001 * step)
        assert writer.slot is None
    writer.record(1.0)
    assert writer.slot is None, "it does not try again at every record"
    clock.now += RETRY_INTERVAL
    writer.record(2.0)
    snapshot = fleet(segment)
    assert (snapshot.counters.requests, snapshot.counters.errors, snapshot.counters.dropped) == (502, 5, 0)
    assert snapshot.workers[0].window["inference_time"][-2:].tolist() == [1.0, 2.0]


def test_a_claim_under_gevent_waits_for_the_registry_outside_of_any_write_and_finds_nothing_to_complain_of(
    segment, writer, clock, monkeypatch, caplog
):
    """There sleep is a function of Python's, which lets other greenlets run: here, one that records."""
    registry = ByteLock(segment.descriptor, REGISTRY)
    assert registry.try_acquire()

    def sleep(seconds):
        clock.now += seconds
        writer.record(1.0)  # whoever waited in a write would have it queued
        registry.release()

    monkeypatch.setattr("time.sleep", sleep)
    assert writer.claim()
    assert writer.slot == 0
    assert fleet(segment).counters.requests == 1
    assert caplog.messages == []


def test_that_the_registry_is_busy_is_said_when_it_was_for_two_seconds(segment, writer, clock, monkeypatch, caplog):
    """Also where no try waits, as under gevent."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with ByteLock(segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        found_busy = clock.now
        while clock.now < found_busy + CLAIM_PATIENCE:
            assert caplog.messages == []
            writer.record(1.0)
            clock.now += RETRY_INTERVAL
        writer.record(1.0)
    assert ["another process holds the registry" in message for message in caplog.messages] == [True]


def test_what_waits_for_longer_than_the_ring_is_dropped_oldest_first_and_counted(segment, writer, clock):
    capacity = segment.layout.capacity
    with ByteLock(segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        writer.claimant.patience = 0.0
        for _ in range(2 * capacity):
            writer.record(0.1)
    clock.now += RETRY_INTERVAL
    writer.record(0.2)
    counters = fleet(segment).counters
    assert counters.requests + counters.dropped == 2 * capacity + 1
    assert counters.requests == capacity - FOLD_RESERVE + 1


def test_without_a_free_slot_records_are_dropped_counted_and_warned_about_once(make_segment, clock, caplog):
    segment = make_segment(max_workers=1)
    first, second = new_writer(segment, clock=clock), new_writer(segment, clock=clock)
    first.record(0.1)
    for _ in range(100):
        second.record(0.2)
        clock.now += RETRY_INTERVAL
    assert fleet(segment).counters.requests == 1
    second.close()
    assert fleet(segment).counters.dropped == 100
    assert ["max_workers" in record.message for record in caplog.records] == [True]
    first.close()


def test_a_slot_that_comes_free_is_taken_by_whoever_waits_for_one(make_segment, clock):
    segment = make_segment(max_workers=1)
    first, second = new_writer(segment, clock=clock), new_writer(segment, clock=clock)
    first.record(0.1)
    second.record(0.2)
    first.close()
    clock.now += RETRY_INTERVAL
    second.record(0.3)
    assert second.slot == 0
    second.close()


def test_a_process_whose_slot_was_taken_away_claims_another_and_goes_on(segment, writer, caplog):
    writer.record(0.1)
    slots.words_of(segment, 0)[slots.STATE] = FREE  # as if its liveness lock had been lost and somebody reaped it
    for _ in range(2 * FOLD_BATCH):
        writer.record(0.1)
    assert "lost its slot" in caplog.text
    assert fleet(segment).workers[writer.slot].alive


def test_records_that_somebody_else_committed_are_not_folded(segment, writer, caplog):
    """A commit word that this process did not store, however plausible, is not its slot any more."""
    writer.record(0.1)
    slots.words_of(segment, 0)[slots.HEAD] += FOLD_BATCH
    writer.record(0.1)
    assert "lost its slot" in caplog.text
    assert writer.slot == 1
    assert not segment.slots["folded"]["valid"].any()


def test_threads_that_count_and_record_at_once_are_counted_exactly(segment, writer):
    def work(_index):
        for _ in range(3000):
            writer.record(0.1)
            writer.add(ERRORS, 1)
            writer.add(UNCOUNTED, 2)

    run_in_threads(6, work)
    counters = fleet(segment).counters
    assert (counters.requests, counters.errors) == (18_000 * 3, 18_000)


def test_the_board_shows_requests_in_flight_and_has_an_end(segment, writer):
    writer.claim()
    tickets = [writer.enter("GET /") for _ in range(BOARD_SIZE + 1)]
    (worker,) = fleet(segment).workers
    assert (len(worker.in_flight), worker.in_flight_count) == (BOARD_SIZE, BOARD_SIZE + 1)
    assert {request.label for request in worker.in_flight} == {"GET /"}
    for ticket in [*tickets, -1, tickets[0]]:
        writer.leave(ticket)
    assert fleet(segment).workers[0].in_flight_count == 0


def test_a_request_under_way_while_the_slot_is_claimed_leaves_no_trace_on_the_board(segment, writer):
    ticket = writer.enter()
    writer.record(0.1)
    writer.leave(ticket)
    assert fleet(segment).workers[0].in_flight == ()


def test_what_found_no_slot_until_the_end_is_told(segment, writer, caplog):
    with ByteLock(segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        writer.claimant.patience = 0.0
        writer.record(0.5)
        writer.close()
    assert "ended without a slot: 1 records and what waited with them are lost" in caplog.text


def test_closing_frees_the_slot_and_later_records_are_dropped_quietly(segment, clock, caplog):
    writer = new_writer(segment, clock=clock)
    writer.record(0.1)
    writer.close()
    writer.close()
    writer.record(0.1)
    writer.record(0.1)
    assert [worker.alive for worker in fleet(segment).workers] == [False]
    assert fleet(segment).counters.requests == 1
    assert caplog.text.count("after close()") == 1


def test_many_claims_and_releases_leak_no_descriptor_and_no_semaphore(segment, clock):
    def state():
        prefix = "sem." + naming.semaphore_prefix(segment.name, segment.instance)
        semaphores = sum(file.startswith(prefix) for file in os.listdir(naming.SHM_DIR))
        return len(os.listdir("/proc/self/fd")), semaphores

    for number in range(300):
        writer = new_writer(segment, clock=clock)
        writer.record(0.1)
        writer.close()
        if number == 20:
            before = state()
    after = state()
    assert after[0] == before[0]
    assert after[1] <= segment.layout.max_workers
    assert fleet(segment).counters.requests == 300


def test_a_logging_handler_that_records_and_one_that_raises_do_no_harm(segment, writer):
    class Recording(logging.Handler):
        def emit(self, _record):
            writer.add(ERRORS, 1)
            raise RuntimeError

    handler = Recording()
    logging.getLogger("shmetrics").addHandler(handler)
    try:
        for _ in range(2 * FOLD_BATCH):
            writer.record(math.nan)
    finally:
        logging.getLogger("shmetrics").removeHandler(handler)
    counters = fleet(segment).counters
    assert (counters.requests, counters.errors) == (2 * FOLD_BATCH, 1)


@pytest.mark.parametrize("word", [slots.HEAD, slots.FOLD, slots.ERRORS, slots.GENERATION, slots.STATE])
@pytest.mark.parametrize("bit", [5, 28, 62, 63])
def test_bytes_that_others_overwrote_in_the_slot_of_a_process_never_raise_into_its_requests(segment, writer, word, bit):
    for _ in range(FOLD_BATCH):
        writer.record(0.1)
    slots.words_of(segment, 0)[word] ^= 1 << bit
    for _ in range(3 * FOLD_BATCH):
        writer.record(0.1)
        writer.add(ERRORS, 1)


@pytest.mark.parametrize("head", [2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1])
def test_what_was_recorded_last_can_be_asked_for_whatever_the_commit_word_says(segment, writer, head):
    writer.record(0.1)
    slots.words_of(segment, writer.slot)[slots.HEAD] = head
    assert len(writer.latest(100)) <= 100
    slots.words_of(segment, writer.slot)[slots.HEAD] = 1
