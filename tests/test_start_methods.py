"""The promise of exactness, under every way Python has to start a process."""

import numpy as np
import pytest

from shmetrics import Hub, PerformanceMetrics
from tests.processes import START_METHODS, in_forked_child, run_in_processes, run_in_threads

PROCESSES, THREADS, RECORDS, WINDOW = 8, 4, 10_000, 500


def values(process, thread):
    """What one thread of one process records: known everywhere, without being sent."""
    random = np.random.default_rng([process, thread])
    return random.lognormal(-4.0, 0.7, RECORDS), random.integers(1, 65, RECORDS)


def record_in_threads(metrics, process):
    """Record from four threads at once; returns this process's own view of its window."""

    def record(thread):
        for seconds, batch in zip(*(column.tolist() for column in values(process, thread)), strict=True):
            metrics.update_inference(seconds, batch, 0.001, 0.0005)

    run_in_threads(THREADS, record)
    metrics.record_error(process)
    metrics.record_cache_hit()
    metrics.record_cache_miss(2)
    return np.array(metrics.inference_times)


@pytest.mark.parametrize("method", START_METHODS)
def test_eight_processes_of_four_threads_are_counted_exactly(method):
    with PerformanceMetrics(window_size=WINDOW, max_workers=PROCESSES) as metrics:
        windows = run_in_processes(method, PROCESSES, record_in_threads, metrics)
        figures = metrics.get_comprehensive_statistics()

    assert figures["total_requests"] == PROCESSES * THREADS * RECORDS
    assert figures["total_errors"] == sum(range(PROCESSES))
    assert figures["cache_hits"] == PROCESSES
    assert figures["cache_misses"] == 2 * PROCESSES
    assert figures["workers_seen"] == PROCESSES
    assert figures["invalid_records"] == figures["dropped_records"] == 0
    union = np.concatenate(windows)
    assert figures["window_count"] == len(union) == PROCESSES * WINDOW
    for percent in (50, 95, 99):
        assert figures[f"p{percent}_inference_time"] == np.percentile(union, percent)

    drawn = [values(process, thread) for process in range(PROCESSES) for thread in range(THREADS)]
    for measure, column in (("inference_time", 0), ("batch_size", 1)):
        everything = np.concatenate([pair[column] for pair in drawn])
        for percent in (50, 95, 99):
            exact = np.percentile(everything, percent)
            assert figures[f"lifetime_p{percent}_{measure}"] == pytest.approx(exact, rel=0.011)


@pytest.mark.parametrize("method", START_METHODS)
def test_the_window_of_a_single_thread_is_its_last_records_in_order(method):
    with PerformanceMetrics(window_size=100) as metrics:
        windows = run_in_processes(method, 3, _record_in_order, metrics)
    for process, window in enumerate(windows):
        assert window.tolist() == [process + step / 1000 for step in range(900, 1000)]


def _record_in_order(metrics, process):
    for step in range(1000):
        metrics.update_inference(process + step / 1000)
    return np.array(metrics.inference_times)


@pytest.mark.parametrize("method", START_METHODS)
def test_a_process_finds_the_default_hub_through_the_environment(method, hub_name, monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", hub_name)
    with PerformanceMetrics() as metrics:
        assert metrics.name == hub_name
        run_in_processes(method, 3, _record_in_default_hub, hub_name)
        assert metrics.get_statistics()["total_requests"] == 30


def _record_in_default_hub(name, _process):
    import os

    os.environ["SHMETRICS_HUB"] = name  # a forkserver started by an earlier test has an older environment
    with PerformanceMetrics() as metrics:
        for _ in range(10):
            metrics.update_inference(0.01)


@pytest.mark.parametrize("method", START_METHODS)
def test_any_process_sees_the_fleet_through_a_view_attached_by_name(method, hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.update_inference(0.25)
        assert run_in_processes(method, 2, _look, hub_name) == [(1, 0.25, 1)] * 2


def _look(name, _process):
    with Hub.attach(name) as hub:
        figures = hub.statistics()
        return figures["total_requests"], figures["p50_inference_time"], len(hub.workers())


def test_an_object_made_and_used_before_a_fork_works_in_the_child_and_goes_on_in_the_parent():
    with PerformanceMetrics() as metrics:
        metrics.update_inference(1.0)

        def child():
            assert metrics.total_requests == 0, "the child starts its own count"
            metrics.update_inference(2.0)
            metrics.record_error()
            assert metrics.get_statistics()["total_requests"] == 2

        in_forked_child(child)
        metrics.update_inference(3.0)
        figures = metrics.get_statistics()
        assert (figures["total_requests"], figures["total_errors"], figures["workers_seen"]) == (3, 1, 2)
        assert figures["max_inference_time"] == 3.0


def test_a_fork_of_a_fork_has_a_slot_of_its_own():
    with PerformanceMetrics() as metrics:
        metrics.update_inference(1.0)

        def child():
            metrics.update_inference(2.0)
            in_forked_child(lambda: metrics.update_inference(4.0))
            metrics.update_inference(8.0)

        in_forked_child(child)
        figures = metrics.get_statistics()
        assert (figures["total_requests"], figures["workers_seen"]) == (4, 3)
        assert figures["avg_inference_time"] == 15.0 / 4


def test_a_forked_child_does_not_keep_its_parents_slot_alive(hub_name):
    import os
    import signal

    with PerformanceMetrics(name=hub_name) as metrics:
        release, ready = os.pipe(), os.pipe()

        def parent():
            metrics.update_inference(1.0)
            if os.fork() == 0:  # the grandchild outlives its parent
                os.write(ready[1], str(os.getpid()).encode())
                os.read(release[0], 1)
                os._exit(0)

        in_forked_child(parent)
        grandchild = int(os.read(ready[0], 20))
        assert [worker.alive for worker in metrics.snapshot().workers] == [False]
        os.kill(grandchild, signal.SIGKILL)
        for descriptor in (*release, *ready):
            os.close(descriptor)


def test_a_forked_child_of_a_process_that_owns_a_private_hub_does_not_remove_it():
    with PerformanceMetrics() as metrics:
        in_forked_child(metrics.close)
        with Hub.attach(metrics.name) as hub:
            assert hub.statistics()["total_requests"] == 0
