"""Celery's signals, under real workers of the prefork pool and others."""

import re
from pathlib import Path

import pytest
from celery import signals
from celery.app.task import Context
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from shmetrics import Hub, PerformanceMetrics
from shmetrics.workers import celery_signals
from shmetrics.workers.celery_signals import HEADER, CelerySignals
from tests.celeries import Celery, redis
from tests.cli import until
from tests.test_tasks import by_name, in_flight

APP = """
import os, signal, time
from celery import Celery
from shmetrics import PerformanceMetrics
from shmetrics.workers import celery_signals

app = Celery("served")
metrics = PerformanceMetrics(max_workers=16, max_series=64)
celery_signals.install(metrics)

@app.task
def add(first, second):
    return first + second

@app.task
def fail():
    raise KeyError("mine")

@app.task(bind=True, max_retries=1)
def insist(self):
    raise self.retry(countdown=0)

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

@app.task(time_limit=0.5)
def linger():
    time.sleep(60)

@app.task
def hold(path):
    deadline = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)
    return os.path.exists(path)
"""


@pytest.fixture
def broker():
    with redis() as address:
        yield address


@pytest.fixture
def served(tmp_path, hub_name, broker):
    """An application, and the name of its hub. (`hub_name`, so that its hub is removed afterwards.)"""
    (tmp_path / "served.py").write_text(APP)
    return Celery(tmp_path, hub_name, "served", broker)


def figures(served):
    with Hub.attach(served.hub) as hub:
        return hub.statistics()


def counted(served):
    """Tasks by name and state."""
    with PerformanceMetrics.attach(served.hub) as metrics:
        return {key: each["value"] for key, each in by_name(metrics, "shmetrics_tasks_total").items() if each["value"]}


def queue_times(served):
    """Of how many tasks it is known how long they waited, by name."""
    with PerformanceMetrics.attach(served.hub) as metrics:
        return {key[0]: each["count"] for key, each in by_name(metrics, "shmetrics_task_queue_seconds").items()}


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_task_is_counted_once(served, pool):
    with served.worker("--pool", pool, "--concurrency", "2"):
        assert served.client("print([add.delay(n, n).get(timeout=60) for n in range(10)])") == str(
            [2 * n for n in range(10)]
        )
        until(lambda: figures(served)["total_requests"] == 10)  # a record is made just after its result
    after = figures(served)
    assert (after["total_requests"], after["total_errors"], after["active_workers"]) == (10, 0, 0)
    assert after["max_inference_time"] > 0.0
    assert counted(served) == {("served.add", "succeeded"): 10}
    assert queue_times(served) == {"served.add": 10}


def test_failures_come_back_and_are_errors_and_retries_are_not(served):
    # One process: another might end the retry before the first says of the task that it is to be retried, for ever.
    with served.worker("--concurrency", "1"):
        assert served.client("print(repr(fail.delay().get(timeout=60, propagate=False)))") == "KeyError('mine')"
        assert "Retries" in served.client("print(repr(insist.delay().get(timeout=60, propagate=False)))")
        until(lambda: figures(served)["total_requests"] == 3)
    assert figures(served)["total_errors"] == 2
    assert counted(served) == {
        ("served.fail", "failed"): 1,
        ("served.insist", "retried"): 1,
        ("served.insist", "failed"): 1,
    }
    assert queue_times(served) == {"served.fail": 1, "served.insist": 1}  # a retry waits because it was told to


def test_processes_take_their_slots_at_start_and_show_what_they_run(served, tmp_path):
    with served.worker("--concurrency", "2"):
        until(lambda: figures(served)["active_workers"] == 2)
        served.client(f"hold.delay({str(tmp_path / 'go')!r}); add.apply_async((1, 1), countdown=0)")
        until(lambda: sum(row["in_flight"] for row in figures(served)["workers"]) == 1)
        (tmp_path / "go").touch()
        until(lambda: figures(served)["total_requests"] == 2)
        assert sum(row["in_flight"] for row in figures(served)["workers"]) == 0


def test_a_killed_process_loses_no_completed_task_and_its_own_task_is_an_error(served):
    with served.worker("--concurrency", "2"):
        served.client("print([add.delay(n, n).get(timeout=60) for n in range(5)])")
        until(lambda: figures(served)["total_requests"] == 5)
        assert "WorkerLost" in served.client("print(repr(die.delay().get(timeout=60, propagate=False)))")
        assert served.client("print(add.delay(1, 2).get(timeout=60))") == "3"
        until(lambda: figures(served)["total_requests"] == 7)
    assert figures(served)["total_errors"] == 1
    assert counted(served) == {("served.add", "succeeded"): 6, ("served.die", "lost"): 1}


def test_a_task_that_runs_into_its_hard_limit_is_one_error(served):
    with served.worker("--concurrency", "1"):
        assert "TimeLimit" in served.client("print(repr(linger.delay().get(timeout=60, propagate=False)))")
        assert served.client("print(add.delay(1, 2).get(timeout=60))") == "3"
        until(lambda: figures(served)["total_requests"] == 2)
    assert figures(served)["total_errors"] == 1
    assert counted(served) == {("served.linger", "lost"): 1, ("served.add", "succeeded"): 1}


def test_recycled_processes_give_their_slots_back(served):
    """Twenty processes through a hub of sixteen slots."""
    with served.worker("--concurrency", "2", "--max-tasks-per-child", "1"):
        served.client("print([add.delay(n, n) for n in range(20)][-1].get(timeout=60))")
        until(lambda: figures(served)["total_requests"] == 20)
    after = figures(served)
    assert after["workers_seen"] >= 20
    assert (after["active_workers"], after["dropped_records"]) == (0, 0)
    assert counted(served) == {("served.add", "succeeded"): 20}


def test_the_application_of_the_documentation_works_as_it_is_printed(tmp_path, hub_name, broker):
    page = (Path(__file__).parents[2] / "docs" / "celery.md").read_text()
    (source,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    name, options = re.search(r"^SHMETRICS_HUB=\w+ celery --app (\w+) worker (.*)$", page, re.MULTILINE).groups()
    (tmp_path / f"{name}.py").write_text(source)
    celery = Celery(tmp_path, hub_name, name, broker)
    with celery.worker(*options.split()):
        assert (
            celery.client("print([convert.delay(number).get(timeout=60) for number in range(5)])") == "[0, 1, 4, 9, 16]"
        )
        until(lambda: figures(celery)["total_requests"] == 5)
        assert figures(celery)["active_workers"] == 4
    assert counted(celery) == {(f"{name}.convert", "succeeded"): 5}


# Without a worker -----------------------------------------------------------------------------------------------------


class Task:
    """As much of a task as a signal's receiver looks at."""

    name = "served.add"

    def __init__(self, **message):
        self.request = Context(message)


@pytest.fixture
def metrics():
    with PerformanceMetrics(max_workers=4, max_series=64) as metrics:
        yield metrics


@pytest.fixture
def handlers(metrics, clock):
    return CelerySignals(metrics, clock=clock)


def run(handlers, clock, sent):
    """A task that waits five seconds and runs for two."""
    task = Task(**({} if sent is None else {HEADER: sent}))
    clock.now += 5.0
    handlers.task_prerun(sender=task, task_id="1", task=task)
    clock.now += 2.0
    handlers.task_postrun(sender=task, task_id="1", task=task, state="SUCCESS", retval=3)


def test_a_stamped_message_tells_how_long_its_task_waited(metrics, handlers, clock):
    headers = {"id": "1", "task": "served.add", "eta": None, "retries": 0}
    handlers.before_task_publish(sender="served.add", headers=headers)
    run(handlers, clock, headers[HEADER])
    assert by_name(metrics, "shmetrics_task_queue_seconds")["served.add",]["sum"] == 5.0
    assert metrics.get_statistics()["max_inference_time"] == 2.0


@pytest.mark.parametrize(
    "sent", [None, ["another boot", 1.0], ["another boot"], "now", 7, {"boot": 1}, [None, None]], ids=str
)
def test_a_stamp_of_another_machine_or_none_tells_nothing(metrics, handlers, clock, sent):
    run(handlers, clock, sent)
    assert by_name(metrics, "shmetrics_task_queue_seconds")["served.add",]["count"] == 0
    assert metrics.get_statistics()["total_requests"] == 1


@pytest.mark.parametrize("headers", [{"eta": "2026-01-01T00:00:00"}, {"retries": 1, HEADER: []}, None], ids=str)
def test_what_is_to_wait_is_not_stamped(handlers, headers):
    handlers.before_task_publish(sender="served.add", headers=headers)
    assert HEADER not in (headers or {})


def test_tasks_within_tasks_and_unknown_ones_are_kept_apart(metrics, handlers, clock):
    for task_id in ("outer", "inner"):
        handlers.task_prerun(task_id=task_id, task=Task())
        clock.now += 1.0
    for task_id in ("inner", "outer", "never begun"):
        handlers.task_postrun(task_id=task_id, task=Task(), state="FAILURE")
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (2, 2)
    assert (figures["min_inference_time"], figures["max_inference_time"]) == (1.0, 2.0)


def test_a_task_that_ends_with_its_process_is_off_the_board_and_lost_once(metrics, handlers):
    handlers.task_prerun(task_id="1", task=Task())
    handlers.task_postrun(task_id="1", task=Task(), state=None)
    assert in_flight(metrics) == 0
    assert metrics.get_statistics()["total_requests"] == 0
    for failure in (TimeLimitExceeded(1), WorkerLostError("signal 9"), KeyError("its own")):
        handlers.task_failure(sender=Task(), task_id="1", exception=failure)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (1, 1)


def test_installing_again_replaces_what_was_installed(metrics):
    with PerformanceMetrics(max_workers=4, max_series=64) as other:
        celery_signals.install(other)
        celery_signals.install(metrics)
        task = Task()
        signals.task_prerun.send(sender=task, task_id="1", task=task, args=(), kwargs={})
        signals.task_postrun.send(sender=task, task_id="1", task=task, args=(), kwargs={}, retval=1, state="SUCCESS")
        assert metrics.get_statistics()["total_requests"] == 1
        assert other.get_statistics()["total_requests"] == 0
    for name in celery_signals._SIGNALS:
        assert getattr(signals, name).disconnect(dispatch_uid=f"shmetrics {name}")
