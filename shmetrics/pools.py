"""Pools whose tasks are measured: `multiprocessing.Pool` and `ProcessPoolExecutor` with a hub, under any start method.

    with metrics.pool(4) as pool:                  # as multiprocessing.Pool(4)
        results = pool.map(work, items)
    with metrics.executor(4) as executor:          # as concurrent.futures.ProcessPoolExecutor(4)
        results = list(executor.map(work, items))
    task = metrics.task(work)                      # for any other pool: pickles, and is called like work

What travels to a worker is the function and the hub's name; a worker attaches once, when it starts. A record is
committed before its result is sent back, so no kill of a worker loses one whose result came. Results and exceptions
are the function's own, and a worker that cannot attach runs its tasks all the same, which is logged.
"""

from __future__ import annotations  # IMapIterator[Any] is one for type checkers only

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.context import BaseContext
from multiprocessing.pool import AsyncResult, IMapIterator, MapResult, Pool
from typing import Any, Final

from shmetrics.errors import ShmetricsError
from shmetrics.metrics import PerformanceMetrics
from shmetrics.tasks import FAILED, SUCCEEDED, TaskMeter, name_of

_log: Final = logging.getLogger("shmetrics")
_meters: Final[dict[str, tuple[int, TaskMeter | None]]] = {}
"""Of this process, by the hub's name: which hub of that name, and its meter; None where it could not be attached."""

_NO_NAMED: Final[Mapping[str, Any]] = {}

_Initializer = Callable[..., object] | None
_Stamped = tuple[float, Any]
"""When a task was handed over, and its argument or arguments."""


class Task:
    """A function as a measured task, in whatever process it is called. Called like the function, pickles if it does."""

    __slots__ = ("_function", "_hub", "_meter", "_name", "_sent")

    def __init__(
        self, function: Callable[..., Any], hub: tuple[str, int], meter: TaskMeter | None, sent: float | None = None
    ) -> None:
        self._function = function
        self._name = name_of(function)
        self._hub = hub
        self._meter = meter
        self._sent = sent

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns or raises."""
        return self._run(args, kwargs, self._sent)

    def _run(self, args: Iterable[Any], kwargs: Mapping[str, Any], sent: float | None) -> Any:
        if self._meter is None:
            return self._function(*args, **kwargs)
        running = self._meter.begin(self._name, sent)
        try:
            result = self._function(*args, **kwargs)
        except BaseException:
            running.end(FAILED)
            raise
        running.end(SUCCEEDED)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self._function, self._hub, self._sent)

    def __repr__(self) -> str:
        return f"<task {self._function!r} of hub {self._hub[0]!r}>"


class _MapTask(Task):
    """One function for many tasks: each comes with the time at which it was handed over."""

    __slots__ = ()

    def __call__(self, stamped: _Stamped) -> Any:
        sent, item = stamped
        return self._run((item,), _NO_NAMED, sent)


class _StarTask(_MapTask):
    """The same for tasks of several arguments."""

    __slots__ = ()

    def __call__(self, stamped: _Stamped) -> Any:
        sent, args = stamped
        return self._run(args, _NO_NAMED, sent)


class TaskSource:
    """Where tasks for one hub are handed over."""

    def __init__(self, metrics: PerformanceMetrics) -> None:
        self._meter = TaskMeter(metrics)
        self.hub = (metrics.name, metrics.instance)

    def task(self, function: Callable[..., Any]) -> Task:
        """One task, handed over now."""
        return Task(function, self.hub, self._meter, self._meter.clock())

    def many(self, function: Callable[..., Any], *, star: bool) -> Task:
        """A function for items that were `stamped`."""
        return (_StarTask if star else _MapTask)(function, self.hub, self._meter)

    def stamped(self, items: Iterable[Any]) -> Iterator[_Stamped]:
        """The items, each with the time at which it was taken to be handed over."""
        clock = self._meter.clock
        return ((clock(), item) for item in items)


def task(metrics: PerformanceMetrics, function: Callable[..., Any]) -> Task:
    """See `PerformanceMetrics.task`."""
    return Task(function, (metrics.name, metrics.instance), TaskMeter(metrics))


class MeasuredPool(Pool):
    """`multiprocessing.Pool` with measured tasks. Made by `PerformanceMetrics.pool`."""

    def __init__(  # noqa: PLR0917  as Pool has them
        self,
        metrics: PerformanceMetrics,
        processes: int | None = None,
        initializer: _Initializer = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | str | None = None,
    ) -> None:
        self._source = TaskSource(metrics)
        super().__init__(
            processes,
            start_worker,
            (self._source.hub, initializer, tuple(initargs)),
            maxtasksperchild,
            _context(context),
        )

    # `apply` is `apply_async` and a wait, in the class above. All others come here first, and here only.

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[Any]:
        """Like `multiprocessing.pool.Pool.apply_async`."""
        return super().apply_async(self._source.task(func), args, kwds, callback, error_callback)

    def map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Like `multiprocessing.pool.Pool.map`."""
        return super().map(self._source.many(func, star=False), self._source.stamped(iterable), chunksize)

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[Any]:
        """Like `multiprocessing.pool.Pool.map_async`."""
        stamped = self._source.stamped(iterable)
        return super().map_async(self._source.many(func, star=False), stamped, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Like `multiprocessing.pool.Pool.starmap`."""
        return super().map(self._source.many(func, star=True), self._source.stamped(iterable), chunksize)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[Any]:
        """Like `multiprocessing.pool.Pool.starmap_async`."""
        stamped = self._source.stamped(iterable)
        return super().map_async(self._source.many(func, star=True), stamped, chunksize, callback, error_callback)

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1) -> IMapIterator[Any]:
        """Like `multiprocessing.pool.Pool.imap`."""
        return super().imap(self._source.many(func, star=False), self._source.stamped(iterable), chunksize)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator[Any]:
        """Like `multiprocessing.pool.Pool.imap_unordered`."""
        return super().imap_unordered(self._source.many(func, star=False), self._source.stamped(iterable), chunksize)


class MeasuredExecutor(Executor):
    """`concurrent.futures.ProcessPoolExecutor` with measured tasks. Made by `PerformanceMetrics.executor`.

    It has an executor rather than being one: `ProcessPoolExecutor.map` submits whole chunks by its own `submit`.
    """

    def __init__(
        self,
        metrics: PerformanceMetrics,
        max_workers: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: _Initializer = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> None:
        self._source = TaskSource(metrics)
        self._executor = ProcessPoolExecutor(
            max_workers,
            _context(mp_context),
            start_worker,
            (self._source.hub, initializer, tuple(initargs)),
            **options,
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Like `concurrent.futures.Executor.submit`."""
        return self._executor.submit(self._source.task(fn), *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        """Like `concurrent.futures.Executor.map`; ``options``: timeout, chunksize."""
        items = self._source.stamped(zip(*iterables, strict=False))
        return self._executor.map(self._source.many(fn, star=True), items, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Like `concurrent.futures.Executor.shutdown`."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


# In a worker ----------------------------------------------------------------------------------------------------------


def start_worker(hub: tuple[str, int], initializer: _Initializer, initargs: tuple[Any, ...]) -> None:
    """What a worker of a pool does first: take a slot, so that no task waits for it, then the user's own."""
    meter = meter_of(hub)
    if meter is not None:
        meter.metrics.claim()
    if initializer is not None:
        initializer(*initargs)


def meter_of(hub: tuple[str, int]) -> TaskMeter | None:
    """The meter of this process for a hub that exists: name and instance. None, once and for all, where it is gone."""
    name, instance = hub
    known = _meters.get(name)
    if known is not None and known[0] == instance:
        return known[1]
    meter = None
    try:
        meter = TaskMeter(PerformanceMetrics.attach(name))
    except (ShmetricsError, ValueError, OSError) as error:
        _log.warning("hub %r, pid %d: tasks run here unmeasured: %s", name, os.getpid(), error)
    _meters[name] = (instance, meter)
    return meter


def _arrived(kind: type[Task], function: Callable[..., Any], hub: tuple[str, int], sent: float | None) -> Task:
    return kind(function, hub, meter_of(hub), sent)


os.register_at_fork(after_in_child=_meters.clear)  # a child attaches anew, which shares what it inherited


def _context(context: BaseContext | str | None) -> BaseContext | None:
    return multiprocessing.get_context(context) if isinstance(context, str) else context
