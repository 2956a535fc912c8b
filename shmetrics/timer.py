"""A timer: tells a histogram or a summary the seconds of a block, or of each call of a function.

    with latency.time():
        answer()

    @latency.time()
    async def answer(): ...

It knows nothing of requests and stages; whoever wants to know what part of a request takes how long has `stages`.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from shmetrics.decorated import decorated

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Timer:
    """One block, or the decorator of one function. A block that raises is timed as well.

    ``observe``: is told the seconds. ``clock``: monotonic seconds. For one thread or task at a time; blocks within one
    another take a timer each.
    """

    __slots__ = ("_begun", "_clock", "_observe")

    def __init__(self, observe: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._observe = observe
        self._clock = clock

    def __enter__(self) -> None:
        clock = self._clock  # fetched first, as in `Writer`
        self._begun = clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clock, observe = self._clock, self._observe
        observe(clock() - self._begun)

    def __call__(self, function: _Function) -> _Function:
        """The same function, its calls timed: a coroutine while it runs, a generator without what its consumer does."""
        return decorated(function, lambda _args, _kwargs: _Call(self._observe, self._clock))


class _Call:
    """One call of a decorated function; see `decorated.Call`."""

    __slots__ = ("_begun", "_clock", "_observe", "_seconds")

    def __init__(self, observe: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._observe = observe
        self._clock = clock
        self._seconds = 0.0

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds += self._clock() - self._begun

    def finish(self, error: BaseException | None) -> None:
        """The call is over."""
        self._observe(self._seconds)
