"""A child of multiprocessing that ends by itself leaves nothing behind, though it closes nothing."""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

from shmetrics import CustomMetrics, Hub, PerformanceMetrics, naming
from shmetrics.book import DEFINITION_PATIENCE
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.metrics import hold_all
from tests.processes import PATIENCE, START_METHODS, in_forked_child, wait_until


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=8, max_series=64) as metrics:
        yield metrics


def started(method, function, *args):
    process = multiprocessing.get_context(method).Process(target=function, args=args)
    process.start()
    return process


def ended(process, exitcode=0):
    process.join(PATIENCE)
    assert process.exitcode == exitcode


def ended_workers(metrics):
    """The workers that gave up their slots themselves: those that are killed leave no time."""
    return [worker for worker in metrics.snapshot().workers if worker.ended_at is not None and not worker.alive]


def _record(metrics, end=None):
    metrics.update_inference(0.5)
    if end is not None:
        end()


def _raise():
    raise LookupError("as is to be expected")


def _exit():
    sys.exit(3)


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize(("end", "exitcode"), [(None, 0), (_raise, 1), (_exit, 3)])
def test_a_child_gives_up_its_slot_however_it_ends_by_itself(metrics, method, end, exitcode):
    ended(started(method, _record, metrics, end), exitcode)
    assert [worker.counters.requests for worker in ended_workers(metrics)] == [1]


def _hold(metrics):
    metrics.update_inference(0.5)
    hold_all(-signal.SIGABRT)


@pytest.mark.parametrize("method", START_METHODS)
def test_a_slot_that_is_held_waits_for_a_reaper(metrics, method):
    ended(started(method, _hold, metrics))
    assert metrics.snapshot().counters.requests == 1
    assert ended_workers(metrics) == []


def _hold_in_flight(metrics, whole):
    recorder = metrics.recorder
    ticket = recorder.enter("GET /hang")
    metrics.update_inference(0.5)
    hold_all(-signal.SIGABRT)
    recorder.leave(ticket)
    recorder.leave(recorder.enter("GET /after"))
    if whole:
        metrics.update_inference(0.5)


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_slot_that_is_held_shows_what_was_in_flight_then(metrics, method, whole):
    ended(started(method, _hold_in_flight, metrics, whole))
    (worker,) = (worker for worker in metrics.snapshot().workers if worker.counters.requests)
    assert [request.label for request in worker.in_flight] == ["GET /hang"]
    assert worker.counters.requests == 1 + whole


def _die(metrics):
    metrics.update_inference(0.5)
    os._exit(0)


def test_a_child_that_does_not_end_by_itself_leaves_its_slot_to_a_reaper(metrics):
    ended(started("fork", _die, metrics))
    assert metrics.snapshot().counters.requests == 1
    assert ended_workers(metrics) == []


def _count(metrics, busy, waits, free):
    counter = CustomMetrics(metrics).counter("c", labels=["a"])
    metrics.claim()
    busy.wait(PATIENCE)
    counter.labels("new").inc(3)
    assert metrics.book.waiting
    waits.set()
    free.wait(PATIENCE)


class Waiter:
    """A child whose change waits for a place, since this process has the registry, until `free` is set."""

    def __init__(self, method, metrics, registry):
        context = multiprocessing.get_context(method)
        busy, waits, self.free = context.Event(), context.Event(), context.Event()
        CustomMetrics(metrics).counter("c", labels=["a"])
        self.process = started(method, _count, metrics, busy, waits, self.free)
        wait_until(lambda: metrics.snapshot().workers)
        assert registry.acquire(PATIENCE)
        busy.set()
        assert waits.wait(PATIENCE)


@pytest.mark.parametrize("method", START_METHODS)
def test_what_waits_for_a_place_when_a_child_ends_finds_it(metrics, method):
    with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
        waiter = Waiter(method, metrics, registry)
    waiter.free.set()
    ended(waiter.process)
    (series,) = CustomMetrics(metrics).get_all_metrics()["c"]["series"]
    assert series == {"labels": {"a": "new"}, "value": 3.0}


def test_a_registry_that_stays_busy_keeps_no_child_from_ending(metrics):
    with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
        waiter = Waiter("fork", metrics, registry)
        start = time.monotonic()
        waiter.free.set()
        ended(waiter.process)
        assert time.monotonic() - start < DEFINITION_PATIENCE + 5.0, "five for a busy machine to end a process"
    assert len(ended_workers(metrics)) == 1


def test_what_finds_no_place_until_the_end_is_told(metrics, caplog):
    counter = CustomMetrics(metrics).counter("c", labels=["a"])
    with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        counter.labels("new").inc(3)
        metrics.book.settle(0.0)
    assert "changes of 1 series found no place in time, and are lost" in caplog.text


def _record_from_a_thread(metrics):
    def record():
        threading.main_thread().join(0.1)
        for _ in range(100):
            metrics.update_inference(0.5)

    metrics.update_inference(0.5)
    threading.Thread(target=record).start()


@pytest.mark.parametrize("method", START_METHODS)
def test_threads_that_go_on_after_the_function_of_a_child_has_returned_can_record(metrics, method):
    ended(started(method, _record_from_a_thread, metrics))
    assert metrics.snapshot().counters.requests == 101


def _record_at_the_end(metrics):
    multiprocessing.util.Finalize(None, metrics.update_inference, (0.5,), exitpriority=-1)


@pytest.mark.parametrize("method", START_METHODS)
def test_what_the_childs_own_finalizers_record_counts(metrics, method):
    ended(started(method, _record_at_the_end, metrics))
    assert metrics.snapshot().counters.requests == 1
    assert len(ended_workers(metrics)) == 1


def _make_a_private_hub(names):
    metrics = PerformanceMetrics(max_workers=2, max_series=8)
    metrics.update_inference(0.5)
    names.put(metrics.name)
    names.close()
    names.join_thread()
    globals()["kept"] = metrics  # so that it is not the garbage collector that closes it


@pytest.mark.parametrize("method", START_METHODS)
def test_the_private_hub_of_a_child_goes_with_it_and_not_its_parents(metrics, method):
    with PerformanceMetrics(max_workers=2, max_series=8) as own:
        names = multiprocessing.get_context(method).Queue()
        process = started(method, _make_a_private_hub, names)
        name = names.get(timeout=PATIENCE)
        ended(process)
        assert not os.path.exists(naming.segment_path(name))
        assert Hub.attach(own.name).name == own.name


_pooled = None


def _adopt(metrics):
    globals()["_pooled"] = metrics


def _record_in_a_pool(_number):
    _pooled.update_inference(0.5)


@pytest.mark.parametrize("method", START_METHODS)
def test_the_workers_of_a_pool_give_up_their_slots(metrics, method):
    context = multiprocessing.get_context(method)
    with context.Pool(2, _adopt, (metrics,)) as pool:
        pool.map(_record_in_a_pool, range(20), 1)
        pool.close()
        pool.join()
    executor = concurrent.futures.ProcessPoolExecutor(2, context, initializer=_adopt, initargs=(metrics,))
    with executor:
        list(executor.map(_record_in_a_pool, range(20)))
    fleet = metrics.snapshot()
    assert fleet.counters.requests == 40
    assert [worker for worker in fleet.workers if worker.alive] == []
    assert sum(worker.counters.requests for worker in ended_workers(metrics)) == 40


def test_a_grandchild_by_a_plain_fork_does_not_end_what_is_its_parents(metrics):
    def work():
        metrics.update_inference(0.5)
        in_forked_child(lambda: None)
        metrics.update_inference(0.5)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    ended(process)
    assert [worker.counters.requests for worker in ended_workers(metrics)] == [2]
