"""What a metric does around a block of code or a function: times it, counts its exceptions, counts it as in progress.

Each is a context manager and a decorator. A coroutine function is decorated as one: what is measured is its run, and
not the making of the coroutine.
"""

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Self = TypeVar("_Self", bound="_Around")


class _Around:
    """A context manager that decorates, too."""

    def __enter__(self: _Self) -> _Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def __call__(self, function: _Function) -> _Function:
        """`function` with this around each of its calls."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped_coroutine(*args: Any, **named: Any) -> Any:
                with self._anew():
                    return await function(*args, **named)

            return cast(_Function, wrapped_coroutine)

        @functools.wraps(function)
        def wrapped(*args: Any, **named: Any) -> Any:
            with self._anew():
                return function(*args, **named)

        return cast(_Function, wrapped)

    def _anew(self: _Self) -> _Self:
        """One for a call of its own: functions are called by several threads, and call themselves."""
        return self

    def _begin(self) -> None:
        """What happens before the block."""

    def _end(self, error: BaseException | None) -> None:
        """What happens after it, however it ended."""


class _HasLabels(Protocol):
    def labels(self, *labelvalues: object, **labelkwargs: object) -> Any: ...


class Timer(_Around):
    """Tells a metric how many seconds a block took."""

    def __init__(self, metric: _HasLabels, method: str) -> None:
        self._metric: Any = metric
        self._method = method
        self._start = 0.0
        self.duration: float | None = None
        """Seconds; None until the block has ended."""

    def labels(self, *labelvalues: object, **labelkwargs: object) -> None:
        """Choose the series while the block runs, when it is known by then only."""
        self._metric = self._metric.labels(*labelvalues, **labelkwargs)

    def _anew(self) -> "Timer":
        return Timer(self._metric, self._method)

    def _begin(self) -> None:
        self._start = perf_counter()

    def _end(self, error: BaseException | None) -> None:
        self.duration = perf_counter() - self._start
        getattr(self._metric, self._method)(self.duration)


class ExceptionCounter(_Around):
    """Counts the exceptions of some types that leave a block; they go on."""

    def __init__(
        self, count: Callable[[], None], exception: type[BaseException] | tuple[type[BaseException], ...]
    ) -> None:
        self._count = count
        self._exception = exception

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, self._exception):
            self._count()


class InprogressTracker(_Around):
    """Adds one to a gauge while a block runs."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin_one = begin
        self._end_one = end

    def _begin(self) -> None:
        self._begin_one()

    def _end(self, error: BaseException | None) -> None:
        self._end_one()
