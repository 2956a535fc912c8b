"""What is kept of each profiled function, and the wrappers that keep it.

A call is one write, to the sum and to a bucket, with one token; and to one part of it, where it has no more. Whatever
else there is to say of a call costs more, and is said by `Function.record`.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Final, NamedTuple

from shmetrics import forks, native
from shmetrics.book import Metric
from shmetrics.instruments import Counter, Histogram
from shmetrics.measurement import is_failure
from shmetrics.profiling import calls, slowest
from shmetrics.profiling.calls import Call, NestedCall, begin_within, end
from shmetrics.profiling.families import BOUNDS, CALL, CPROFILE, EXACT, Key
from shmetrics.profiling.slowest import REMEMBERED, SlowCall
from shmetrics.spent import spend, sums

MOST_PARTS: Final = 40
"""Parts of one function that a process tells apart; the rest is one part, OTHER."""
OTHER: Final = "(other)"
_FIRST: Final = 2
"""Cell of a histogram's first bucket."""
_NO_ERRORS: Final = (StopIteration, StopAsyncIteration)
"""How an iterator says that it has no more."""


native.tell("use_calls", variable=calls.current, call=Call, nested=NestedCall, most_spent=calls.MANY)


class Series(NamedTuple):
    """The metrics of a hub that functions are kept in."""

    duration: Metric[Histogram]
    errors: Metric[Counter]
    parts: Metric[Counter]
    sampled: Metric[Counter]


class Function:
    """What is kept of one profiled function in this process. Any thread may call."""

    def __init__(self, name: str, kind: str, series: Series, wall_clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.called = CALL, name
        self.kind = kind
        """``function``, ``generator``, ``coroutine`` or ``async generator``."""
        self._histogram = series.duration.labels(name)
        self.add, self._add_with = self._histogram.add, self._histogram.add_with
        self._errors = series.errors.labels(name)
        self.runs_at_once = kind in ("function", "generator")
        """Whether it is on a thread's stack for as long as it takes."""
        self._metric, self._sampled = series.parts, series.sampled
        self._parts: dict[Key, Counter] = {}
        self._wall_clock = wall_clock
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's calls."""
        self.process: object = object()
        """Another one in each process."""
        self.slowest: tuple[SlowCall, ...] = ()
        """The slowest calls of this process, the slowest first."""
        self.quick = -1.0
        """Seconds of a call that is none of them for sure."""

    begin = calls.begin
    """A call begins; the caller makes it the innermost of the context."""

    def over(self, call: Call, seconds: float, error: BaseException | None = None) -> None:
        """A call is over that was one step."""
        if call.function is None:  # it was under way at a fork, and is the parent's
            return
        counted, spent = seconds, call.spent
        if call.outer is None:
            call.function = None
        elif not end(call, seconds):
            counted = 0.0
        if error is not None or not 0.0 <= seconds <= self.quick:
            self.record(seconds, counted, spent, error)
        elif spent is None:  # these two are most calls: `record` would do the same
            add = self.add  # fetched first, as in `Writer`: so it is not looked for in the class
            add(counted, _FIRST + bisect_left(BOUNDS, seconds), 1.0)
        elif len(spent) == 1 and spent[0][1] > 0.0:
            key, took = spent[0]
            add_with, part = self._add_with, self._parts.get(key) or self.part(key)
            add_with(counted, _FIRST + bisect_left(BOUNDS, seconds), part, took)
        else:
            self.record(seconds, counted, spent, None)

    def record(
        self, seconds: float, counted: float, spent: list[tuple[Key, float]] | None, error: BaseException | None
    ) -> None:
        """A call took so many seconds.

        ``counted``: those of them in which no other call of the same function was around it. ``spent``: what is known
        of where they went.
        """
        if not seconds >= 0.0:  # an injected clock that went back
            return
        cell = _FIRST + bisect_left(BOUNDS, seconds)
        parts = _settled(spent, counted) if spent else []
        for key, took in parts[1:]:
            self.part(key).inc(took)
        if parts:
            key, took = parts[0]
            self._add_with(counted, cell, self.part(key), took)
        else:
            self.add(counted, cell, 1.0)
        if error is None and seconds <= self.quick:
            return
        failed = error is not None and is_failure(error) and not isinstance(error, _NO_ERRORS)
        if failed:
            self._errors.inc()
        if seconds > self.quick:
            name = type(error).__name__ if failed else ""
            self._remember(SlowCall(seconds, self._wall_clock(), os.getpid(), name, _shown(parts, seconds)))

    def part(self, key: Key) -> Counter:
        """The seconds of one part."""
        counter = self._parts.get(key)
        if counter is None:
            means, name = key if len(self._parts) < MOST_PARTS else (key[0], OTHER)
            counter = self._parts[means, name] = self._metric.labels(self.name, means, name)
        return counter

    def sampled(self, outcome: str) -> Counter:
        """Calls that were chosen to be looked at, and what came of it."""
        return self._sampled.labels(self.name, outcome)

    def _remember(self, call: SlowCall) -> None:
        """One of the slowest. Of two threads at once, one may be forgotten again."""
        if not self.slowest or call.seconds > self.slowest[0].seconds:
            self._histogram.note(call.seconds, slowest.labels(call))
        self.slowest = kept = slowest.inserted(self.slowest, call)
        if len(kept) == REMEMBERED:
            self.quick = kept[-1].seconds


def _settled(spent: list[tuple[Key, float]], counted: float) -> list[tuple[Key, float]]:
    """Where the time of a call went, each part once. What went on at the same time, tasks say, shares the time."""
    took = sums(spent)
    told = 0.0
    for (means, _), seconds in took.items():
        if means in EXACT:
            told += seconds
    if told > counted:
        took = {key: seconds * (counted / told if key[0] in EXACT else 1.0) for key, seconds in took.items()}
    return [part for part in took.items() if part[1] > 0.0]


def _shown(parts: Iterable[tuple[Key, float]], seconds: float) -> tuple[tuple[str, float], ...]:
    """The parts of one call for people: what was looked for, or else what is always known."""
    looked = {name: took for (means, name), took in parts if means == CPROFILE}
    if looked:
        scale = seconds / (sum(looked.values()) or 1.0)
        return tuple((name, took * scale) for name, took in looked.items())
    return tuple((name, took) for (means, name), took in parts if means in EXACT)


class Steps:
    """One call of a generator or coroutine, in steps; see `decorated.Call`. For one thread or task at a time."""

    __slots__ = ("_call", "_clock", "_counted", "_function", "_process", "_seconds", "_spent", "_start")

    def __init__(self, function: Function, clock: Callable[[], float]) -> None:
        self._function = function
        self._process = function.process
        self._clock = clock
        self._seconds = self._counted = 0.0
        self._spent: list[tuple[Key, float]] | None = None
        self._call: Call | None = None

    def __enter__(self) -> None:
        self._call = call = self._function.begin()
        clock = self._clock  # fetched first, as in `Writer`
        self._start = clock()
        calls.current.set(call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._call
        if call is None or call.function is None:  # it was under way at a fork
            return
        clock = self._clock
        seconds = clock() - self._start
        self._seconds += seconds
        if call.outer is None:
            call.function = None
            self._counted += seconds
        elif end(call, seconds):
            self._counted += seconds
        if call.spent:
            spent = self._spent = self._spent or []
            for key, took in sums(call.spent).items():
                spend(spent, key, took)

    def finish(self, error: BaseException | None) -> None:
        """The call is over."""
        if self._call is not None:  # its last step, unless a signal handler raised before that could end
            self._call.function = None
        if self._process is not self._function.process:  # it was under way at a fork, and is the parent's
            return
        self._function.record(self._seconds, self._counted, self._spent, error)


def plain(target: Callable[..., Any], kept: Function, clock: Callable[[], float]) -> Callable[..., Any]:
    """A function whose calls are kept. This is the hot path: `shmetrics bench profiling` has what it costs."""
    if type(kept) is Function:  # and no class with C in front
        return _plain_in_python(target, kept, clock)
    begin, put, over = kept.begin, calls.current.set, kept.over

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin()
        start = clock()
        try:
            put(call)
            result = target(*args, **kwargs) if kwargs else target(*args)  # which is faster
            over(call, clock() - start)
            return result
        except BaseException as error:
            try:
                over(call, clock() - start, error)
            finally:  # a signal handler may raise anywhere: what would stay under way would be around all that follows
                call.function = None
            raise

    return wrapper


def _plain_in_python(target: Callable[..., Any], kept: Function, clock: Callable[[], float]) -> Callable[..., Any]:
    """The same, with what most calls take of `begin` and `over` in its own frame: a quarter cheaper."""
    get, put, add, over = calls.current.get, calls.current.set, kept.add, kept.over

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = get()
        while outer is not None and outer.function is None:
            outer = outer.outer
        if outer is None:
            call = Call()
            call.function = kept
            call.outer = call.spent = None
        else:
            call = begin_within(outer, kept)
        start = clock()
        try:
            put(call)
            result = target(*args, **kwargs) if kwargs else target(*args)
            seconds = clock() - start
            if call.spent is None and 0.0 <= seconds <= kept.quick:
                counted = seconds
                if outer is None:
                    call.function = None
                elif not end(call, seconds):
                    counted = 0.0
                add(counted, _FIRST + bisect_left(BOUNDS, seconds), 1.0)
            else:
                over(call, seconds)
            return result
        except BaseException as error:
            try:
                over(call, clock() - start, error)
            finally:
                call.function = None
            raise

    return wrapper


def coroutine(
    target: Callable[..., Awaitable[Any]], kept: Function, clock: Callable[[], float]
) -> Callable[..., Awaitable[Any]]:
    """A coroutine function whose calls are kept; the same as `plain`, but for what awaits."""
    begin, put, over = kept.begin, calls.current.set, kept.over

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin()
        start = clock()
        try:
            put(call)
            result = await target(*args, **kwargs)
            over(call, clock() - start)
            return result
        except BaseException as error:
            try:
                over(call, clock() - start, error)
            finally:
                call.function = None
            raise

    return wrapper
