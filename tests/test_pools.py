"""Pools and executors with measured tasks: the real ones, under every start method."""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import pytest

from shmetrics import CustomMetrics, Hub, PerformanceMetrics, pools
from shmetrics.locks import REGISTRY, ByteLock
from tests.processes import PATIENCE, START_METHODS, in_forked_child, wait_until
from tests.test_tasks import by_name, in_flight

WORKERS = 3
pytestmark = pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")


class OwnError(Exception):
    """An application's own, with something to lose on the way."""

    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code, self.detail = code, detail


def double(number):
    return 2 * number


def add(first, second):
    return first + second


def fail(code):
    raise OwnError(code, {"why": "asked for"})


def die(_number=0):
    os.kill(os.getpid(), signal.SIGKILL)


def own_pid(_number=0):
    return os.getpid()


def set_gate(event):
    """The initializer of those tests that hold their tasks."""
    global gate  # noqa: PLW0603  that is what initializers of pools are for
    gate = event


def wait_at_gate(number):
    assert gate.wait(PATIENCE)
    return number


@pytest.fixture
def metrics():
    with PerformanceMetrics(max_workers=2 * WORKERS, max_series=64) as metrics:
        yield metrics


@pytest.fixture(params=START_METHODS)
def method(request):
    return request.param


# What comes back ------------------------------------------------------------------------------------------------------


def test_every_way_to_give_a_pool_a_task_gives_its_result_and_counts_each_task_once(metrics, method):
    pairs = [(1, 10), (2, 20)]
    with metrics.pool(WORKERS, context=method) as pool:
        assert pool.apply(add, (1,), {"second": 2}) == 3
        assert pool.apply_async(add, (1, 2)).get(PATIENCE) == 3
        assert pool.map(double, range(7)) == [2 * number for number in range(7)]
        assert pool.map(double, (number for number in range(3)), chunksize=2) == [0, 2, 4]
        assert pool.map_async(double, range(3)).get(PATIENCE) == [0, 2, 4]
        assert pool.starmap(add, pairs) == [11, 22]
        assert pool.starmap_async(add, iter(pairs)).get(PATIENCE) == [11, 22]
        assert list(pool.imap(double, iter(range(5)), chunksize=2)) == [0, 2, 4, 6, 8]
        assert sorted(pool.imap_unordered(double, range(5))) == [0, 2, 4, 6, 8]
        pool.close()
        pool.join()
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (29, 0)
    assert (figures["workers_seen"], figures["active_workers"]) == (WORKERS, 0)
    ran = {key: each["count"] for key, each in by_name(metrics, "shmetrics_task_run_seconds").items()}
    assert ran == {("tests.test_pools.add",): 6, ("tests.test_pools.double",): 23}
    waited = by_name(metrics, "shmetrics_task_queue_seconds")
    assert {key: each["count"] for key, each in waited.items()} == ran
    assert all(each["sum"] > 0.0 for each in waited.values())


def test_every_way_to_give_an_executor_a_task_gives_its_result_and_counts_each_task_once(metrics, method):
    with metrics.executor(WORKERS, method) as executor:
        assert executor.submit(add, 1, second=2).result(PATIENCE) == 3
        assert list(executor.map(add, range(5), range(9), chunksize=2)) == [0, 2, 4, 6, 8]
        assert list(executor.map(double, range(3), timeout=PATIENCE)) == [0, 2, 4]
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"], figures["active_workers"]) == (9, 0, 0)
    counted = {key: each["value"] for key, each in by_name(metrics, "shmetrics_tasks_total").items()}
    assert counted == {("tests.test_pools.add", "succeeded"): 6, ("tests.test_pools.double", "succeeded"): 3}


def test_a_tasks_exception_comes_back_unchanged_and_is_an_error(metrics, method):
    with metrics.pool(1, context=method) as pool, pytest.raises(OwnError) as caught:
        pool.map(fail, [7])
    assert (caught.value.code, caught.value.detail) == (7, {"why": "asked for"})
    assert "in fail" in str(caught.value.__cause__)  # where it was raised
    with metrics.executor(1, method) as executor, pytest.raises(OwnError) as caught:
        executor.submit(fail, 8).result(PATIENCE)
    assert (caught.value.code, caught.value.detail) == (8, {"why": "asked for"})
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (2, 2)


def test_callbacks_are_called_as_the_standard_librarys(metrics):
    results, errors = [], []
    with metrics.pool(1, context="fork") as pool:
        pool.apply_async(double, (2,), callback=results.append).wait(PATIENCE)
        pool.map_async(double, [3], callback=results.append).wait(PATIENCE)
        pool.apply_async(fail, (1,), error_callback=errors.append).wait(PATIENCE)
        pool.starmap_async(fail, [(2,)], error_callback=errors.append).wait(PATIENCE)
    assert results == [4, [6]]
    assert [error.code for error in errors] == [1, 2]


@pytest.mark.parametrize("call", ["map", "imap", "starmap"])
def test_bad_arguments_are_the_errors_of_the_standard_library(metrics, call):
    with metrics.pool(1, context="fork") as pool, pytest.raises(TypeError, match="not iterable"):
        getattr(pool, call)(double, 5)


def test_an_executor_ends_what_waits_when_asked_to(metrics, method):
    event = multiprocessing.get_context(method).Event()
    executor = metrics.executor(1, method, set_gate, (event,))
    futures = [executor.submit(wait_at_gate, number) for number in range(20)]
    event.set()
    wait(futures, PATIENCE, FIRST_COMPLETED)
    executor.shutdown(cancel_futures=True)
    done = sum(not future.cancelled() for future in futures)
    assert metrics.get_statistics()["total_requests"] == done


def set_metrics(name):
    """The initializer of those tests whose tasks know their hub."""
    global own_metrics  # noqa: PLW0603
    own_metrics = PerformanceMetrics.attach(name)


def work_in_stages(_number):
    with own_metrics.stage("preprocessing", batch_size=8):
        return own_metrics.current_request is not None


def test_stages_of_a_task_are_of_its_record(metrics, method):
    with metrics.pool(1, set_metrics, (metrics.name,), context=method) as pool:
        assert pool.map(work_in_stages, range(3)) == [True] * 3
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["workers_seen"]) == (3, 1)
    assert figures["min_preprocessing_time"] > 0.0
    assert figures["max_batch_size"] == 8.0


# Workers --------------------------------------------------------------------------------------------------------------


def test_workers_take_their_slots_at_start_and_run_the_users_initializer(metrics, method):
    event = multiprocessing.get_context(method).Event()
    with metrics.pool(WORKERS, set_gate, (event,), context=method) as pool:
        wait_until(lambda: metrics.get_statistics()["active_workers"] == WORKERS)
        assert metrics.get_statistics()["total_requests"] == 0
        event.set()
        assert pool.map(wait_at_gate, range(4)) == [0, 1, 2, 3]


def test_a_task_is_in_flight_while_it_runs_and_waits_while_it_does_not(metrics, method):
    event = multiprocessing.get_context(method).Event()
    with metrics.executor(1, method, set_gate, (event,)) as executor:
        futures = [executor.submit(wait_at_gate, number) for number in range(2)]
        wait_until(lambda: in_flight(metrics) == 1)
        (worker,) = metrics.get_comprehensive_statistics()["workers"]
        assert [request["label"] for request in worker["requests_in_flight"]] == ["tests.test_pools.wait_at_gate"]
        event.set()
        assert [future.result(PATIENCE) for future in futures] == [0, 1]
    first, *_ = by_name(metrics, "shmetrics_task_queue_seconds").values()
    assert first["count"] == 2
    assert in_flight(metrics) == 0


def test_recycled_workers_give_their_slots_back(metrics, method):
    """Fifteen processes and more through a hub of six slots."""
    with metrics.pool(WORKERS, maxtasksperchild=1, context=method) as pool:
        pids = pool.map(own_pid, range(15), chunksize=1)
        pool.close()
        pool.join()
    figures = metrics.get_comprehensive_statistics()
    assert len(set(pids)) == 15
    assert figures["total_requests"] == 15
    assert figures["workers_seen"] >= 15  # the pool starts the next ones as well
    assert (figures["active_workers"], figures["dropped_records"]) == (0, 0)
    assert by_name(metrics, "shmetrics_tasks_total")[("tests.test_pools.own_pid", "succeeded")]["value"] == 15


def test_a_pool_that_replaces_a_killed_worker_loses_no_completed_task(metrics, method):
    with metrics.pool(WORKERS, context=method) as pool:
        assert pool.map(double, range(30)) == [2 * number for number in range(30)]
        pool.apply_async(die)  # its result never comes, so a join would never end
        wait_until(lambda: metrics.get_statistics()["workers_seen"] == WORKERS + 1)
        assert pool.map(double, range(30)) == [2 * number for number in range(30)]
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"], figures["active_workers"]) == (60, 0, 0)


def test_an_executor_that_breaks_loses_no_completed_task(metrics, method):
    with metrics.executor(WORKERS, method) as executor:
        assert list(executor.map(double, range(30))) == [2 * number for number in range(30)]
        with pytest.raises(BrokenProcessPool):
            executor.submit(die).result(PATIENCE)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"], figures["active_workers"]) == (30, 0, 0)


def test_a_worker_that_ends_finds_places_for_what_waits(metrics, method):
    """Nobody can place new series while the tasks run; their records do not need that."""
    target = metrics._attachment.segment
    with metrics.pool(1, context=method) as pool:
        wait_until(lambda: metrics.get_statistics()["active_workers"] == 1)
        with ByteLock(target.descriptor, REGISTRY) as registry:
            assert registry.try_acquire()
            assert pool.map(double, range(5)) == [0, 2, 4, 6, 8]
            assert metrics.get_statistics()["total_requests"] == 5
            assert by_name(metrics, "shmetrics_tasks_total") == {}
        pool.close()
        pool.join()
    assert by_name(metrics, "shmetrics_tasks_total")[("tests.test_pools.double", "succeeded")]["value"] == 5


def test_more_workers_than_slots_give_their_results_all_the_same():
    with PerformanceMetrics(max_workers=1, max_series=16) as metrics, metrics.pool(3, context="fork") as pool:
        assert pool.map(double, range(20), chunksize=1) == [2 * number for number in range(20)]


# Which hub ------------------------------------------------------------------------------------------------------------


def test_a_hub_that_is_gone_costs_the_measurements_and_no_result(metrics, method):
    metrics.unlink()
    with metrics.pool(1, context=method) as pool:
        assert pool.map(double, range(3)) == [0, 2, 4]
        with pytest.raises(OwnError):
            pool.apply(fail, (1,))
    assert metrics.get_statistics()["total_requests"] == 0


def test_a_process_that_cannot_attach_says_so_once(metrics, caplog, monkeypatch):
    monkeypatch.setattr(pools, "_meters", {})
    metrics.unlink()
    with caplog.at_level(logging.WARNING, "shmetrics"):
        task = pickle.loads(pickle.dumps(metrics.task(double)))
        assert [task(2), task(3)] == [4, 6]
    assert len(caplog.records) == 1
    assert f"hub {metrics.name!r}" in caplog.text
    assert "unmeasured" in caplog.text


def test_a_process_that_outlives_a_hub_measures_in_its_successor(hub_name, monkeypatch):
    monkeypatch.setattr(pools, "_meters", {})
    for _ in range(2):
        with PerformanceMetrics(name=hub_name) as metrics:
            task = pickle.loads(pickle.dumps(metrics.task(double)))
            assert task(2) == 4
            assert metrics.get_statistics()["total_requests"] == 1
            metrics.unlink()
    pools._meters[hub_name][1].metrics.close()


def test_two_pools_measure_in_their_own_hubs(metrics):
    with PerformanceMetrics(max_workers=4) as other:
        with metrics.pool(1, context="fork") as one, other.pool(1, context="fork") as two:
            one.map(double, range(3))
            two.map(double, range(4))
        assert metrics.get_statistics()["total_requests"] == 3
        assert other.get_statistics()["total_requests"] == 4


def test_a_subclass_has_pools_too():
    class Own(PerformanceMetrics):
        def __init__(self):
            super().__init__(max_workers=4)

    with Own() as metrics, metrics.pool(1, context="fork") as pool:
        assert pool.map(double, [1]) == [2]
        assert metrics.get_statistics()["total_requests"] == 1


# A task by itself -----------------------------------------------------------------------------------------------------


def test_a_task_is_called_like_its_function_anywhere(metrics, method):
    task = metrics.task(add)
    assert task(1, second=2) == 3
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(task, range(3), range(3))) == [0, 2, 4]
    with multiprocessing.get_context(method).Pool(2) as pool:  # one that knows nothing of hubs
        assert pool.starmap(task, [(1, 2), (3, 4)]) == [3, 7]
        pool.close()
        pool.join()
    assert metrics.get_statistics()["total_requests"] == 6
    assert "add" in repr(task)


def test_what_a_task_raises_is_the_functions_own_whatever_it_is(metrics):
    failure = OwnError(7, None)

    def raising(kind=None):
        raise failure if kind is None else kind

    with pytest.raises(OwnError) as caught:
        metrics.task(raising)()
    assert caught.value is failure
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(kind):
            metrics.task(raising)(kind=kind)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (4, 4)


def test_more_names_than_there_is_room_for_share_the_overflow_series():
    with PerformanceMetrics(max_workers=2, max_series=16) as metrics:
        for number in range(30):
            kind = type(f"Kind{number}", (), {"__call__": lambda self: 1, "__module__": "app"})
            assert metrics.task(kind())() == 1
        assert metrics.get_statistics()["total_requests"] == 30
        counted = CustomMetrics(metrics).get_all_metrics()["shmetrics_tasks_total"]["series"]
        assert sum(each["value"] for each in counted) == 30


def test_a_task_pickles_small():
    with PerformanceMetrics(name=None, max_workers=2) as metrics:
        assert len(pickle.dumps(metrics.task(double))) < 250


def test_threads_may_share_a_pool(metrics):
    with metrics.executor(2, "fork") as executor, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda number: executor.submit(double, number).result(PATIENCE), range(40)))
    assert metrics.get_statistics()["total_requests"] == 40


def test_a_child_of_fork_attaches_for_itself(metrics):
    """It may have the meter of a parent that was a worker; the hub is the same, the slot is not."""
    attached = pickle.loads(pickle.dumps(metrics.task(double)))
    attached(1)

    def child():
        assert pools._meters == {}
        pickle.loads(pickle.dumps(metrics.task(double)))(2)
        metrics.close()

    in_forked_child(child)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["workers_seen"]) == (2, 2)
    pools._meters.clear()


def test_attaching_by_name_takes_the_hub_as_it_is(hub_name):
    with PerformanceMetrics(name=hub_name, window_size=77, max_workers=3) as metrics:
        with PerformanceMetrics.attach(hub_name) as other:
            assert (other.window_size, other.instance) == (77, metrics.instance)
            other.update_inference(0.5)
        assert metrics.get_statistics()["total_requests"] == 1
        with Hub.attach(hub_name) as hub:
            assert hub.statistics()["total_requests"] == 1


def test_the_metrics_by_name_are_defined_once_for_all_processes(metrics):
    """In the process that makes the pool, so that no task waits for that."""
    with metrics.pool(1, context="fork"):
        names = set(CustomMetrics(metrics).get_all_metrics())
    assert names == {"shmetrics_tasks_total", "shmetrics_task_run_seconds", "shmetrics_task_queue_seconds"}


def test_a_pool_made_in_a_thread_ends_with_its_block(metrics):
    def use():
        with metrics.pool(1, context="fork") as pool:
            results.extend(pool.map(double, range(3)))

    results = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join(PATIENCE)
    assert results == [0, 2, 4]
