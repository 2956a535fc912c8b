"""joblib's real processes of loky, with the backend that measures."""

import os
import signal

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from shmetrics import PerformanceMetrics
from shmetrics.workers import joblib_pools
from tests.test_tasks import by_name

JOBS = 2


def square(number):
    return number * number


def fail(number):
    raise LookupError(number)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def metrics():
    """A hub that joblib's backend measures in; loky's processes end with it, and so give their slots up."""
    with PerformanceMetrics(max_workers=8, max_series=64) as metrics:
        joblib_pools.install(metrics)
        yield metrics
        get_reusable_executor().shutdown(wait=True)


def test_every_call_is_counted_once_however_joblib_batches_them(metrics):
    for batch_size in ("auto", 1, 7):
        with joblib.parallel_config(backend="shmetrics"):
            parallel = joblib.Parallel(n_jobs=JOBS, batch_size=batch_size)
            assert parallel(joblib.delayed(square)(number) for number in range(50)) == [n * n for n in range(50)]
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (150, 0)
    assert figures["workers_seen"] == JOBS  # used again and again
    for name in ("shmetrics_task_run_seconds", "shmetrics_task_queue_seconds"):
        (series,) = by_name(metrics, name).values()
        assert series["count"] == 150


def test_functions_that_only_cloudpickle_can_send_are_tasks_too(metrics):
    base = 10
    results = joblib.Parallel(n_jobs=JOBS, backend="shmetrics")(
        joblib.delayed(lambda number: base + number)(number) for number in range(4)
    )
    assert results == [10, 11, 12, 13]
    assert metrics.get_statistics()["total_requests"] == 4


def test_results_may_come_as_a_generator(metrics):
    parallel = joblib.Parallel(n_jobs=JOBS, backend="shmetrics", return_as="generator")
    assert list(parallel(joblib.delayed(square)(number) for number in range(5))) == [0, 1, 4, 9, 16]
    assert metrics.get_statistics()["total_requests"] == 5


def test_a_tasks_exception_comes_back_and_is_an_error(metrics):
    with pytest.raises(LookupError, match="3"):
        joblib.Parallel(n_jobs=JOBS, backend="shmetrics")([joblib.delayed(fail)(3)])
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (1, 1)


def test_a_killed_process_loses_no_completed_task(metrics):
    parallel = joblib.Parallel(n_jobs=JOBS, backend="shmetrics")
    assert parallel(joblib.delayed(square)(number) for number in range(10)) == [n * n for n in range(10)]
    with pytest.raises(TerminatedWorkerError):
        parallel([joblib.delayed(die)()])
    assert parallel([joblib.delayed(square)(2)]) == [4]
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (11, 0)


def test_the_users_initializer_runs(metrics):
    with joblib.parallel_config(backend="shmetrics", initializer=os.putenv, initargs=("MARK", "1")):
        assert joblib.Parallel(n_jobs=JOBS)([joblib.delayed(os.getpid)()]) != [os.getpid()]
    assert metrics.get_statistics()["total_requests"] == 1


def test_with_one_job_a_task_by_hand_is_measured(metrics):
    """joblib then calls the functions itself."""
    parallel = joblib.Parallel(n_jobs=1, backend="shmetrics")
    assert parallel([joblib.delayed(square)(2)]) == [4]
    assert metrics.get_statistics()["total_requests"] == 0
    assert parallel([joblib.delayed(metrics.task(square))(2)]) == [4]
    assert metrics.get_statistics()["total_requests"] == 1


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_a_task_by_hand_is_measured_by_any_backend(metrics, backend):
    parallel = joblib.Parallel(n_jobs=JOBS, backend=backend)
    assert parallel(joblib.delayed(metrics.task(square))(number) for number in range(4)) == [0, 1, 4, 9]
    assert metrics.get_statistics()["total_requests"] == 4


def test_two_hubs_may_have_a_backend_each(metrics):
    with PerformanceMetrics(max_workers=8, max_series=64) as other:
        joblib_pools.install(other, name="other")
        for backend, count in (("shmetrics", 2), ("other", 3)):
            joblib.Parallel(n_jobs=JOBS, backend=backend)(joblib.delayed(square)(number) for number in range(count))
        assert metrics.get_statistics()["total_requests"] == 2
        assert other.get_statistics()["total_requests"] == 3
        get_reusable_executor().shutdown(wait=True)
