"""What many workers did, seen from each of them, also of those that were killed."""

import multiprocessing
import os
import signal
import time

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.profiling.profiler import Profiler
from tests.processes import START_METHODS, run_in_processes, wait_until

SPLIT = {"features": 0.6, "inference": 0.3, "(outside of stages)": 0.1}


def burn(seconds):
    """Work for so much processor time of this process: however many others want the processor meanwhile."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def workload(profiler):
    """A function whose time divides 60/30/10."""

    @profiler.profile_function(name="workload")
    def work(seconds):
        with profiler.stage("features"):
            burn(0.6 * seconds)
        with profiler.stage("inference"):
            burn(0.3 * seconds)
        burn(0.1 * seconds)

    return work


def shares(results):
    total = results["total_time"]
    assert sum(results["time_breakdown"].values()) == pytest.approx(total)
    return {name: seconds / total for name, seconds in results["time_breakdown"].items()}


def within_five_points(found, wanted):
    return all(abs(found.get(name, 0.0) - share) < 0.05 for name, share in wanted.items())


def test_a_known_split_is_reported_within_five_points_by_stages(metrics):
    profiler = Profiler(metrics, clock=time.process_time)
    work = workload(profiler)
    for _ in range(5):
        work(0.05)
    found = shares(profiler.get_profile_results("workload"))
    assert within_five_points(found, SPLIT), found


def _worker(name, _index):
    with PerformanceMetrics.attach(name) as metrics:
        work = workload(Profiler(metrics, clock=time.process_time))
        for _ in range(5):
            work(0.05)


@pytest.mark.parametrize("method", START_METHODS)
def test_a_known_split_over_four_workers_is_reported_within_five_points_by_stages(metrics, method):
    run_in_processes(method, 4, _worker, metrics.name)
    results = Profiler(metrics).get_profile_results("workload")
    found = shares(results)
    assert within_five_points(found, SPLIT), found
    assert results["total_calls"] == 20
    assert [row["total_calls"] for row in results["workers"]] == [5] * 4
    assert sum(row["total_time"] for row in results["workers"]) == pytest.approx(results["total_time"])


def _killed_in_its_fourth_call(name, fourth):
    metrics = PerformanceMetrics.attach(name)

    @Profiler(metrics).profile_function(name="killed")
    def work(call):
        if call == 3:
            fourth.set()
            signal.pause()

    for call in range(4):
        work(call)


def test_results_of_killed_workers_are_kept_up_to_their_last_completed_call(metrics):
    context = multiprocessing.get_context("fork")
    events = [context.Event() for _ in range(4)]
    workers = [context.Process(target=_killed_in_its_fourth_call, args=(metrics.name, event)) for event in events]
    for worker in workers:
        worker.start()
    profiler = Profiler(metrics)
    for worker, event in zip(workers, events, strict=True):
        assert event.wait(30)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
    results = profiler.get_profile_results("killed")
    assert results["total_calls"] == 12
    assert [(row["total_calls"], row["alive"]) for row in results["workers"]] == [(3, False)] * 4
    pids = {call["pid"] for call in results["slowest_calls"]}
    assert pids
    assert pids <= {worker.pid for worker in workers}


def _calls_without_end(name, index):
    metrics = PerformanceMetrics.attach(name)
    profiled = Profiler(metrics).profile_function(name="busy")(lambda: None)
    done = 0
    while True:
        profiled()
        done += 1
        metrics.update_inference(0.001)  # what the worker had finished, as the hub has it


def test_not_one_completed_call_is_lost_when_workers_are_killed_at_random(metrics):
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        workers = [context.Process(target=_calls_without_end, args=(metrics.name, index)) for index in range(2)]
        for worker in workers:
            worker.start()
        before = metrics.get_statistics()["total_requests"]
        wait_until(lambda: metrics.get_statistics()["total_requests"] > before + 2000)  # noqa: B023
        for worker in workers:
            worker.kill()
            worker.join()
    calls = Profiler(metrics).get_profile_results("busy")["total_calls"]
    requests = metrics.get_statistics()["total_requests"]
    assert requests <= calls <= requests + 6  # a worker may die between its call and its record


def test_workers_whose_slots_others_took_are_one_row(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=64) as metrics:
        profiler = Profiler(metrics)
        for _ in range(3):
            run_in_processes("fork", 1, _worker, hub_name)
        results = profiler.get_profile_results("workload")
        assert results["total_calls"] == 15
        assert sum(row["total_calls"] for row in results["workers"]) == 15
        earlier = [row for row in results["workers"] if row["worker"] is None]
        assert all(row["total_calls"] for row in earlier)


def test_an_unknown_function_is_a_key_error_that_lists_the_known_ones(profiler):
    with pytest.raises(KeyError, match="no function 'predict' is profiled, and no other"):
        profiler.get_profile_results("predict")
    for name in ("service:load", "service:Model.fit"):
        profiler.profile_function(name=name)(len)
    with pytest.raises(
        KeyError, match=r"no function 'predict' is profiled; there are: service:Model\.fit, service:load"
    ):
        profiler.get_profile_results("predict")
    with pytest.raises(KeyError, match=r"wanted the name of a profiled function, not <built-in.*there are: service"):
        profiler.get_profile_results(len)


def test_a_name_that_fits_several_functions_is_a_key_error_that_lists_these(profiler):
    for name in ("a:Model.run", "b:run", "b:rerun"):
        profiler.profile_function(name=name)(len)
    with pytest.raises(KeyError, match=r"'run' could be any of a:Model\.run, b:run;"):
        profiler.get_profile_results("run")
    assert profiler.get_profile_results("b:run")["function"] == "b:run"
    assert profiler.get_profile_results("Model.run")["function"] == "a:Model.run"


def test_a_function_that_nobody_called_has_results_of_nothing(profiler):
    profiler.profile_function(name="idle")(len)
    results = profiler.get_profile_results("idle")
    assert (results["total_calls"], results["total_time"], results["avg_time_per_call"]) == (0, 0.0, 0.0)
    assert (results["p99_time"], results["time_breakdown"], results["workers"]) == (0.0, {}, [])
