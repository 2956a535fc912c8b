"""Tasks: what a pool or a queue gives its workers to do, measured one by one.

A task is one record of the hub: its inference time is the time it ran, a task that failed is an error, and while it
runs it is on the in-flight board. By its name it also counts in three custom metrics:

    shmetrics_tasks_total{task, state}        how often it ran, and how that ended
    shmetrics_task_run_seconds{task}          how long it ran
    shmetrics_task_queue_seconds{task}        how long it waited for a worker, where that is known

Queue time is the difference of two readings of CLOCK_MONOTONIC, which all processes of a machine share, one where the
task was handed over and one where it started. Where the first is missing, or of another machine, there is none.
"""

import time
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Final, NamedTuple

from shmetrics.custom import DEFAULT_BUCKETS, CustomMetrics
from shmetrics.instruments import Counter, Histogram
from shmetrics.measurement import RequestMeasurement, Source
from shmetrics.metrics import PerformanceMetrics
from shmetrics.slots import UNCOUNTED

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
LOST: Final = "lost"

_BUCKETS: Final = (0.001, 0.0025, *DEFAULT_BUCKETS, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: tasks are shorter than requests, and longer."""


class TaskSeries(NamedTuple):
    """What the tasks of one name change, looked up once."""

    name: str
    ran: Histogram
    waited: Histogram
    succeeded: Counter


class TaskMeter:
    """Measures the tasks that this process runs for one hub. Any thread may call any method; none raises.

    Made before a fork it works in the children. ``ValueError`` when the hub has a metric of one of the names above that
    is defined in another way.
    """

    def __init__(self, metrics: PerformanceMetrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = metrics
        self.clock = clock
        self.source = Source(metrics.recorder, clock)
        self._series: dict[str, TaskSeries] = {}
        custom = CustomMetrics(metrics)
        self._ended = custom.counter("shmetrics_tasks_total", "Tasks that ended.", labels=["task", "state"])
        self._ran, self._waited = (
            custom.histogram(name, description, unit="seconds", labels=["task"], buckets=_BUCKETS)
            for name, description in (
                ("shmetrics_task_run_seconds", "Time that tasks ran."),
                ("shmetrics_task_queue_seconds", "Time that tasks waited for a worker, where it is known."),
            )
        )

    def begin(self, name: str, sent: float | None = None) -> "RunningTask":
        """A task of that name starts now. ``sent``: when it was handed over, by `clock`, in this process or another."""
        series = self._series.get(name) or self._series_of(name)
        if sent is not None:
            waited = self.clock() - sent
            if waited >= 0.0:  # less: by the clock of another time namespace, which is none of ours
                series.waited.observe(waited)
        return RunningTask(self, series)

    def count(self, series: TaskSeries, state: str, seconds: float) -> None:
        """Count by name that a task ended so after running so long."""
        series.ran.observe(seconds)
        if state == SUCCEEDED:
            series.succeeded.inc()
        else:
            self._ended.labels(series.name, state).inc()

    def lose(self, name: str) -> None:
        """A task ended with its process: a request and an error, of which nobody knows how long it ran."""
        self.metrics.recorder.add(UNCOUNTED, 1)
        self.metrics.record_error()
        self._ended.labels(name, LOST).inc()

    def _series_of(self, name: str) -> TaskSeries:
        labels = self._ran.labels(name), self._waited.labels(name), self._ended.labels(name, SUCCEEDED)
        series = TaskSeries(name, *labels)
        if not any(each.overflows for each in labels):  # else there may be room for them later, or no end of them
            self._series[name] = series
        return series


class RunningTask:
    """A task that runs in this process: a request, so that stages within it are of its record."""

    __slots__ = ("_meter", "_request", "_series")

    def __init__(self, meter: TaskMeter, series: TaskSeries) -> None:
        self._meter = meter
        self._series = series
        self._request = RequestMeasurement(meter.source, series.name)
        self._request.begin()

    def end(self, state: str) -> None:
        """It ended so; to be called once. The record is committed when this returns."""
        request = self._request
        if state == FAILED:
            request.fail()
        request.finish()
        self._meter.count(self._series, state, max(0.0, request.elapsed))

    def abandon(self) -> None:
        """It runs no longer, and nothing is to be recorded of it here."""
        self._request.discard()
        self._request.finish()


def name_of(function: object) -> str:
    """The name of a task by what is called: module and qualified name of a function, or of an object's class."""
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, FunctionType | BuiltinFunctionType | MethodType | type):
        function = type(function)
    module = function.__module__ or "builtins"
    # What children of spawn and forkserver call their parent's __main__.
    return f"{'__main__' if module == '__mp_main__' else module}.{function.__qualname__}"
