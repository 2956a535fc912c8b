"""Celery: measures every task of a worker, by Celery's signals.

    # tasks.py
    app = Celery("tasks", broker=...)
    metrics = PerformanceMetrics(name="tasks")
    celery_signals.install(metrics)

A task is one record, made when it has ended, whatever the worker's pool: prefork, threads, gevent, solo. A process of
the prefork pool takes its slot when it starts and gives it up when it leaves. A task whose process was killed, or ran
into its hard time limit, is an error of the worker's main process, and "lost" by name; nobody knows how long it ran.

Queue time runs from publishing to start, where both happen on one machine since its last boot: the publisher's clock
reading travels in the message's headers, with the boot's id. There is none for a task that was to wait: one with a
countdown or an eta, a retry.

The signals are described at https://docs.celeryq.dev/en/stable/userguide/signals.html.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from shmetrics.metrics import PerformanceMetrics, claim_all, close_all
from shmetrics.process import boot_id
from shmetrics.tasks import FAILED, SUCCEEDED, RunningTask, TaskMeter

HEADER: Final = "shmetrics_sent"
"""Header of a message: the boot's id and the clock when it was published."""
_REMEMBERED: Final = 256
"""Lost tasks whose ids are kept, so that none counts twice."""
_STATES: Final = {"SUCCESS": SUCCEEDED, "FAILURE": FAILED, "RETRY": "retried", "IGNORED": "ignored",
                  "REJECTED": "rejected"}  # fmt: skip


def install(metrics: PerformanceMetrics) -> "CelerySignals":
    """Measure the tasks that this process and its children run, and stamp those it publishes.

    To be called where the application is made, so that publishers do so too. A second call replaces the first.
    """
    handlers = CelerySignals(metrics)
    handlers.connect()
    return handlers


class CelerySignals:
    """What is done at each signal. Celery itself logs what a handler raises, and goes on."""

    def __init__(self, metrics: PerformanceMetrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = TaskMeter(metrics, clock=clock)
        self._clock = clock
        self._boot = boot_id()
        self._running: dict[str, RunningTask] = {}
        self._lost: deque[str] = deque(maxlen=_REMEMBERED)

    def connect(self) -> None:
        """Connect to Celery's signals, instead of whatever did so before."""
        for name in _SIGNALS:
            signal = getattr(signals, name)
            uid = f"shmetrics {name}"
            signal.disconnect(dispatch_uid=uid)
            signal.connect(getattr(self, name), weak=False, dispatch_uid=uid)

    # Each as the signal of that name --------------------------------------------------------------------------------

    def before_task_publish(self, headers: Any = None, **_: Any) -> None:
        """In the publisher: stamp a message that is to be run as soon as possible."""
        if isinstance(headers, dict):
            headers.pop(HEADER, None)  # a retry has the headers of its first try
            if self._boot and not headers.get("eta") and not headers.get("retries"):
                headers[HEADER] = [self._boot, self._clock()]

    def worker_process_init(self, **_: Any) -> None:
        """In a process of the prefork pool, at its start: take the slot, so that no task waits for it."""
        self._running.clear()
        claim_all()

    def task_prerun(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        """Where the task runs, before it does."""
        self._running[task_id] = self._meter.begin(task.name, self._sent(task.request))

    def task_postrun(self, task_id: str = "", state: Any = None, **_: Any) -> None:
        """Where the task ran, after it did."""
        running = self._running.pop(task_id, None)
        if running is None:
            return
        if state is None:  # this process is made to leave, and the main one will say that the task was lost
            running.abandon()
        else:
            running.end(_STATES.get(state, "other"))

    def task_failure(self, sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """In the worker's main process, for a task whose own process is gone. (Others have their `task_postrun`.)

        Celery says it of a hard time limit twice: for the limit, and for the process that was ended for it.
        """
        if isinstance(exception, WorkerLostError | TimeLimitExceeded) and task_id not in self._lost:
            self._lost.append(task_id)
            self._meter.lose(sender.name)

    def worker_process_shutdown(self, **_: Any) -> None:
        """In a process of the prefork pool, at its orderly end: give the slot up."""
        close_all()

    def _sent(self, request: Any) -> float | None:
        """When a task was published, by this machine's clock; None when that is not known."""
        match getattr(request, HEADER, None):
            case [str(boot), float(sent)] if boot == self._boot:
                return sent
        return None


_SIGNALS: Final = ("before_task_publish", "worker_process_init", "task_prerun", "task_postrun", "task_failure",
                   "worker_process_shutdown")  # fmt: skip
