"""Each worker by itself, under its slot's number."""

import os
from dataclasses import replace

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.board import Busy, RequestInFlight
from shmetrics.process import start_ticks
from shmetrics.statistics import worker_rows
from tests.exporters.prometheus import Still, read, value
from tests.forge import NOW, fleet, obituary, random_records, worker
from tests.processes import run_in_processes

KERNEL = ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "threads", "open_fds")


def of_worker(samples, slot):
    """What a page says of one worker: {name: value}."""
    label = (("worker", str(slot)),)
    return {
        name.removeprefix("shmetrics_worker_"): value for (name, labels), value in samples.items() if labels == label
    }


def test_the_work_of_each_live_worker_is_shown_by_its_slot():
    busy = worker(random_records(1, 150, start=950.0), slot=3, in_flight=(RequestInFlight(NOW - 2.0),))
    idle = worker(slot=7)
    samples = read(Still(fleet(busy, idle)))
    (row,), shown = worker_rows([busy], NOW), of_worker(samples, 3)
    assert (shown["requests_total"], shown["errors_total"]) == (row["requests"], row["errors"])
    assert shown["busy_ratio"] == row["busy_fraction"] > 0.0
    assert (shown["in_flight_requests"], shown["oldest_in_flight_seconds"]) == (1.0, 2.0)
    assert of_worker(samples, 7)["requests_total"] == 0.0


def test_the_fleets_busy_ratio_is_the_mean_of_its_live_workers():
    def with_busy(slot, seconds, **fields):
        return worker(slot=slot, busy=Busy(seconds, {995: 0.0}), **fields)

    samples = read(Still(fleet(with_busy(0, 4.0), with_busy(1, 2.0), with_busy(2, 3.0, alive=False))))
    assert value(samples, "shmetrics_busy_ratio") == pytest.approx(0.3)
    assert value(samples, "shmetrics_busy_1m_ratio") == pytest.approx(0.05)
    assert of_worker(samples, 0)["busy_1m_ratio"] == pytest.approx(4.0 / 60.0)
    assert value(read(Still(fleet())), "shmetrics_busy_ratio") == 0.0


def test_requests_beyond_the_board_are_in_flight_too():
    samples = read(Still(fleet(worker(in_flight=(RequestInFlight(NOW - 2.0),), crowd=999))))
    assert of_worker(samples, 0)["in_flight_requests"] == 1000.0


def test_workers_that_died_are_counted():
    samples = read(Still(fleet(obituaries=(obituary(serial=70), obituary(serial=71)))))
    assert value(samples, "shmetrics_workers_died_total") == 71.0
    assert value(read(Still(fleet())), "shmetrics_workers_died_total") == 0.0


def test_no_label_is_a_pid():
    samples = read(Still(fleet(worker(slot=3, pid=31337))))
    assert not [labels for _, labels in samples if "31337" in dict(labels).values()]


def test_the_dead_have_no_samples():
    samples = read(Still(fleet(worker([950.0], alive=False))))
    assert of_worker(samples, 0) == {}
    assert value(samples, "requests_total") == 1.0


def test_a_successor_in_the_slot_has_the_same_series_created_later():
    first = worker([950.0], claimed_at=NOW - 100.0)
    second = replace(first, generation=2, claimed_at=NOW - 10.0)
    before, after = (of_worker(read(Still(fleet(each))), 0) for each in (first, second))
    assert before.keys() == after.keys()
    assert after["requests_created"] - before["requests_created"] == 90.0
    assert after["start_time_seconds"] == after["errors_created"] == after["requests_created"]


def test_garbage_collections_are_shown_by_generation_and_their_seconds_where_they_are_known():
    known = [90, 9, 1, 40, 30, 20, 0, 0, 3, 500_000_000, 250_000_000, 0]
    unknown = [*known[:9], 0, 0, 0]
    workers = worker(garbage_counts=known), worker(slot=1, garbage_counts=unknown), worker(slot=2)
    samples = read(Still(fleet(*workers)))

    def shown(name, slot):
        wanted = f"shmetrics_worker_gc_{name}_total"
        found = {dict(labels)["generation"]: value for (each, labels), value in samples.items()
                 if each == wanted and dict(labels)["worker"] == str(slot)}  # fmt: skip
        return [found[generation] for generation in sorted(found)]

    for slot in (0, 1):
        assert shown("collections", slot) == [90.0, 9.0, 1.0]
        assert shown("objects_collected", slot) == [40.0, 30.0, 20.0]
        assert shown("objects_uncollectable", slot) == [0.0, 0.0, 3.0]
        assert shown("collections", 2) == []
    assert (shown("seconds", 0), shown("seconds", 1)) == ([0.5, 0.25, 0.0], [])


def test_the_kernel_tells_of_a_real_process():
    me = worker(pid=os.getpid(), start_ticks=start_ticks("self"))
    shown = of_worker(read(Still(fleet(me))), 0)
    assert shown["cpu_seconds_total"] > 0.0
    assert 2**20 < shown["resident_memory_bytes"] < shown["virtual_memory_bytes"]
    assert shown["threads"] >= 1.0
    assert shown["open_fds"] >= 3.0


@pytest.mark.parametrize(
    "forged",
    [{"start_ticks": 1}, {"pid": 0}, {"pid": 2**22 + 1}, {"pid": 2**64 - 1}, {"start_ticks": 2**64 - 1}],
    ids=str,
)
def test_a_process_that_is_not_the_worker_gives_no_figures(forged):
    identity = {"pid": os.getpid(), "start_ticks": start_ticks("self")} | forged
    shown = of_worker(read(Still(fleet(worker(**identity)))), 0)
    assert not shown.keys() & set(KERNEL)
    assert "requests_total" in shown


def _record_and_look(metrics, index):
    metrics.update_inference(0.1)
    pid = os.getpid()
    (me,) = [worker for worker in metrics.snapshot().workers if worker.alive and worker.pid == pid]
    return of_worker(read(metrics), me.slot)


def test_every_worker_sees_figures_of_real_workers_as_they_are():
    with PerformanceMetrics(max_workers=4) as metrics:
        for shown in run_in_processes("fork", 3, _record_and_look, metrics):
            assert shown["requests_total"] == 1.0
            assert set(KERNEL) <= shown.keys()
