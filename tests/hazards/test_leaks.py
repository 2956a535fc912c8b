"""Descriptors, mappings, files and semaphores: none is kept too long, and running out of them harms no request."""

import gc
import logging
import os
import resource
import signal
import time
from contextlib import contextmanager, suppress

import pytest
from gunicorn.config import Config

from shmetrics import Hub, PerformanceMetrics, guards, naming, segment, slots
from shmetrics.aggregator import Aggregator
from shmetrics.claimant import RETRY_INTERVAL
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH
from shmetrics.segment import attach
from shmetrics.workers import gunicorn
from shmetrics.writer import Writer
from tests.conftest import FakeClock
from tests.processes import in_forked_child
from tests.test_forks import Child

CLAIMS = 2000
KILLS = 100
MOST_FREE = 8
"""More descriptors than any single operation opens at once."""


@pytest.fixture
def clock():
    """A clock under the test's control, that starts where the clock of the processes it starts is."""
    return FakeClock(time.monotonic())


# Leaks ----------------------------------------------------------------------------------------------------------------


def held():
    """What this process holds of the system, garbage apart: open descriptors and mapped files."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        mapped = sorted(line.split(maxsplit=5)[5].strip() for line in maps if naming.SHM_DIR in line)
    return sorted(os.listdir("/proc/self/fd")), mapped


def semaphores(target):
    prefix = "sem." + naming.semaphore_prefix(target.name, target.instance)
    return [file for file in os.listdir(naming.SHM_DIR) if file.startswith(prefix)]


def test_thousands_of_claims_and_releases_leave_nothing_but_one_guard_a_slot(make_segment):
    target = make_segment()
    for number in range(CLAIMS):
        writer = Writer(target)
        writer.record(0.01)
        writer.close()
        if number == 10:
            before = held()
        if number % (CLAIMS // KILLS) == 0:
            kill_one(target)
    assert held() == before
    assert len(semaphores(target)) <= target.layout.max_workers
    assert View(target).snapshot().counters.requests == CLAIMS + KILLS


def kill_one(target):
    """A worker that records once, and is killed with its slot, its locks and its guard, held, in its hands."""
    pid = os.fork()
    if pid == 0:
        writer = Writer(target)
        writer.record(0.01)
        writer._folding.claim.guard.try_acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_hundreds_of_hubs_made_attached_read_and_removed_leave_nothing(hub_name):
    for number in range(200):
        with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
            metrics.update_inference(0.01)
            with Hub.attach(hub_name) as hub, Aggregator(attach(hub_name, writable=True)) as aggregator:
                aggregator.try_lead()
                aggregator.tick()
                hub.statistics()
            metrics.unlink()
        del metrics, hub, aggregator
        if number == 10:
            before = held()
    assert held() == before
    assert [file for file in os.listdir(naming.SHM_DIR) if hub_name in file] == []


# No descriptors left (EMFILE) -----------------------------------------------------------------------------------------


@contextmanager
def only(free):
    """Leave this process so many descriptors to open."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    fillers = []
    try:
        while True:
            fillers.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        for _ in range(free):
            os.close(fillers.pop())
    try:
        yield
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_an_attach_without_descriptors_says_so_and_takes_no_hub_for_an_old_one(make_segment, hub_name, free):
    """It must not tell anybody to remove a hub that is in use."""
    make_segment()
    before = held()
    with only(free), suppress(OSError):  # any other error is not the truth
        segment.attach(hub_name).close()
    assert held() == before


def record(target, count, **options):
    writer = Writer(target, **options)
    for _ in range(count):
        writer.record(0.01)
    return writer


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_a_claim_without_descriptors_reaches_no_request_and_succeeds_later_with_all_records(
    make_segment, clock, caplog, free
):
    target = make_segment()
    writer = Writer(target, clock=clock)
    before = held()
    with only(free):
        for _ in range(10):
            writer.record(0.01)
            writer.add(slots.ERRORS, 1)
    if free == 0:
        assert writer.slot is None
        assert held() == before
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
    clock.now += RETRY_INTERVAL
    writer.record(0.01)
    fleet = View(target, clock=clock).snapshot()
    assert writer.slot == 0, "the slot of the try that failed was not freed"
    assert (fleet.counters.requests, fleet.counters.errors, fleet.counters.dropped) == (11, 10, 0)
    writer.close()


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_a_guard_that_cannot_be_renewed_for_want_of_descriptors_stops_neither_folds_nor_readers(
    make_segment, clock, free
):
    target = make_segment()
    writer = record(target, 1, clock=clock)
    abandoned = guards.open_existing(guards.guard_name(naming.semaphore_prefix(target.name, target.instance), 0, 1))
    assert abandoned.try_acquire()
    with only(free):
        for _ in range(3):
            for _ in range(FOLD_BATCH):
                writer.record(0.01)
            clock.now += 2.0
    for _ in range(FOLD_BATCH):
        writer.record(0.01)
    abandoned.close()
    assert int(target.slots["hot"]["fold"][0]) >> 1 >= 3 * FOLD_BATCH
    assert View(target, clock=clock).snapshot().counters.requests == 1 + 4 * FOLD_BATCH
    assert len(semaphores(target)) <= 1
    writer.close()


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_a_reader_without_descriptors_reads_all_the_same(make_segment, free):
    target = make_segment()
    with Child(lambda: record(target, 300)), Child(lambda: record(target, 300)) as dead:
        dead.kill()
        view, before = View(target), held()
        with only(free):
            figures = view.comprehensive()
        assert held() == before
        assert (figures["total_requests"], figures["hub"]["corrupt"]) == (600, {})


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_a_tick_without_descriptors_leaves_the_dead_to_a_later_one(make_segment, free):
    target = make_segment()
    with Child(lambda: record(target, 300)) as dead, Aggregator(attach(target.name, writable=True)) as aggregator:
        dead.kill()
        assert aggregator.try_lead()
        with only(free):
            assert aggregator.tick()["total_requests"] == 300
        assert aggregator.tick()["total_requests"] == 300
        assert not target.slots["owner"]["state"].any()


@pytest.mark.parametrize("free", range(MOST_FREE))
def test_a_try_to_lead_without_descriptors_is_a_try_that_did_not_succeed(make_segment, free):
    target = make_segment()
    with Aggregator(attach(target.name, writable=True)) as aggregator:
        with only(free):
            assert aggregator.try_lead() == (free > 0)
        assert aggregator.try_lead()


def test_the_hooks_of_an_arbiter_and_of_its_workers_never_raise_for_want_of_descriptors(hub_name, monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", hub_name)

    def serve():
        with PerformanceMetrics(max_workers=4, max_series=16) as metrics, only(0):
            gunicorn.post_worker_init(SilentWorker())
            metrics.update_inference(0.01)
            gunicorn.child_exit(SilentWorker(), SilentWorker())
            gunicorn.worker_exit(SilentWorker(), SilentWorker())

    in_forked_child(serve)


class SilentWorker:
    """What of an arbiter or a worker the hooks use."""

    pid = 1
    cfg = Config()

    @property
    def log(self):
        return logging.getLogger("silent")
