"""Workers come and go (max-requests, deploys, kills): totals stay exact, never go down, and nothing grows."""

import itertools
import os
import signal
import threading

import pytest

from shmetrics import Hub, PerformanceMetrics, naming, slots

WORKERS, SLOTS, RECORDS = 200, 8, 300


def _serve_and_die(metrics, number):
    """What one short-lived worker does; every third is killed where it stands."""
    for step in range(RECORDS):
        metrics.update_inference(0.001 * (step + 1), 2)
    metrics.record_error()
    if number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _start(metrics, number):
    pid = os.fork()
    if pid == 0:
        try:
            _serve_and_die(metrics, number)
        finally:
            os._exit(1)
    return pid


@pytest.mark.parametrize("with_aggregator", [False, True], ids=["workers reap", "an aggregator reaps"])
def test_two_hundred_workers_through_eight_slots_are_counted_exactly_and_totals_never_go_down(
    hub_name, with_aggregator
):
    with PerformanceMetrics(name=hub_name, max_workers=SLOTS, window_size=100) as metrics:
        seen, stop = [], threading.Event()
        segment_of_hub = metrics._attachment.segment
        size = os.stat(naming.segment_path(hub_name)).st_size

        def watch():
            with Hub.attach(hub_name) as hub:
                while not stop.is_set():
                    if with_aggregator:
                        slots.reap(segment_of_hub)
                    fleet = hub.snapshot()
                    seen.append((fleet.counters.requests, fleet.counters.errors, int(fleet.folded.valid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            running = []
            for number in range(WORKERS):
                if len(running) == SLOTS - 2:
                    os.waitpid(running.pop(0), 0)
                running.append(_start(metrics, number))
            for pid in running:
                os.waitpid(pid, 0)
        finally:
            stop.set()
            watcher.join()

        figures = metrics.get_comprehensive_statistics()
        assert figures["total_requests"] == WORKERS * RECORDS
        assert figures["total_errors"] == WORKERS
        assert figures["workers_seen"] == WORKERS
        assert figures["dropped_records"] == 0
        assert figures["hub"]["corrupt"] == {}
        assert figures["hub"]["corrupt_reaped"] == 0
        assert len(seen) > 10
        for before, after in itertools.pairwise(seen):
            assert all(later >= earlier for earlier, later in zip(before, after, strict=True)), (before, after)
        assert all(valid <= requests for requests, _, valid in seen)
        assert os.stat(naming.segment_path(hub_name)).st_size == size
        prefix = "sem." + naming.semaphore_prefix(hub_name, segment_of_hub.instance)
        assert sum(file.startswith(prefix) for file in os.listdir(naming.SHM_DIR)) <= SLOTS
