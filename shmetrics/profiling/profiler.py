"""The profiler: which functions are profiled, and what became of them in the whole fleet."""

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar, overload

from shmetrics import native
from shmetrics.custom import CustomMetrics
from shmetrics.decorated import decorated, kind_of
from shmetrics.metrics import PerformanceMetrics
from shmetrics.profiling.choosing import Share
from shmetrics.profiling.deterministic import SHARE, profiled
from shmetrics.profiling.families import CPROFILE, DURATION, ERRORS, PARTS, SAMPLED, SAMPLING
from shmetrics.profiling.frames import frame
from shmetrics.profiling.functions import Function, Series, Steps, coroutine, plain
from shmetrics.profiling.results import FunctionResults, Results, found
from shmetrics.profiling.sampler import RATE
from shmetrics.profiling.slowest import SlowCall
from shmetrics.profiling.stages import Stage
from shmetrics.profiling.statistical import Watch, WatchedSteps, watched

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INNERMOST = "<locals>."
_MOST_STAGES = 1000
"""Stages that are kept for the next time."""


class Profiler:
    """Profiles functions of every worker of a hub. Any thread may call any method.

    ``metrics``: the hub. Functions that are decorated before a fork are profiled in the children, too. ``clock``:
    seconds, monotonic. ``rate``: looks a second of ``sampling``. ValueError when the hub has other metrics of the names
    in `families`.
    """

    def __init__(
        self, metrics: PerformanceMetrics, *, clock: Callable[[], float] = time.perf_counter, rate: float = RATE
    ) -> None:
        CustomMetrics(metrics)  # TypeError for what is no PerformanceMetrics
        self._metrics = metrics
        self._clock = clock
        self._rate = rate
        self._watch: Watch | None = None
        define = metrics.book.define
        self._series = Series(*[define(definition) for definition in (DURATION, ERRORS, PARTS, SAMPLED)])
        self._functions: dict[str, Function] = {}
        self._stages: dict[str, Stage] = {}

    @overload
    def profile_function(self, function: _Function) -> _Function: ...

    @overload
    def profile_function(
        self, *, name: str | None = None, breakdown: str | None = None, share: float | None = None
    ) -> Callable[[_Function], _Function]: ...

    def profile_function(
        self, function: Any = None, *, name: str | None = None, breakdown: str | None = None, share: float | None = None
    ) -> Any:
        """Decorate a function, method, generator, coroutine or asynchronous generator: each call is profiled.

        ``name``: what it is called in the results, ``module:function`` unless given. ``breakdown``: how to find out by
        itself which functions the time goes to that this one calls: ``cprofile``, which looks closely at a ``share`` of
        the calls, 0.01 unless given, and at the first of each process; or ``sampling``, a thread that looks a hundred
        times a second while such a function is under way. Stages and profiled functions within are known without.

        Works above and below ``@staticmethod`` and ``@classmethod``. Of a generator the time in it counts, and not that
        of its consumer; of a coroutine all the time from its start to its end. A call that raises an exception counts
        as an error. TypeError for what cannot be called, for classes, whose methods can be decorated, and for what
        cannot be broken down like that; ValueError for another breakdown or share.
        """
        if breakdown not in (None, CPROFILE, SAMPLING):
            raise ValueError(f"breakdown must be {CPROFILE!r}, {SAMPLING!r} or None, not {breakdown!r}")
        if share is not None and breakdown != CPROFILE:
            raise ValueError(f"share is of the calls that breakdown={CPROFILE!r} looks at; without it there is none")
        if function is None:
            return functools.partial(self.profile_function, name=name, breakdown=breakdown, share=share)
        if isinstance(function, staticmethod | classmethod):
            options = {"name": name, "breakdown": breakdown, "share": share}
            return type(function)(self.profile_function(function.__func__, **options))
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"wanted a function or a method to profile, not {function!r}{_instead(function)}")
        called = _name_of(function) if name is None else name
        if not isinstance(called, str) or not called:
            raise TypeError(f"the name of a profiled function must be a text that is not empty, not {name!r}")
        kind = kind_of(function)
        if breakdown == CPROFILE and kind != "function":
            raise TypeError(f"{CPROFILE!r} looks at plain functions, and {called} is a {kind}; use {SAMPLING!r}")
        kept = self._function(called, kind)
        if kind == "function":
            target = function
            if breakdown == CPROFILE:
                target = profiled(function, kept, Share(SHARE if share is None else share), self._clock)
            elif breakdown == SAMPLING:
                target = watched(function, self._watching(function, kept))
            return functools.wraps(function)(plain(target, kept, self._clock))
        if kind == "coroutine" and breakdown is None:
            return functools.wraps(function)(coroutine(function, kept, self._clock))
        watch = self._watching(function, kept) if breakdown == SAMPLING else None
        make = Steps if watch is None else functools.partial(WatchedSteps, watch=watch)
        return decorated(function, lambda args, kwargs: make(kept, self._clock))

    def _watching(self, function: Callable[..., Any], kept: Function) -> Watch:
        """What looks at the function from now on. TypeError for one that is not written in Python: none is seen."""
        if self._watch is None:
            self._watch = Watch(self._rate)
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None:
            raise TypeError(f"{SAMPLING!r} looks at functions written in Python, and {function!r} is none")
        inside = getattr(code, "co_qualname", code.co_name)
        module = str(inspect.unwrap(function).__globals__.get("__name__", "?"))  # as the sampler sees it
        self._watch.add(frame(code.co_filename, inside, module).name, kept)
        return self._watch

    def _function(self, name: str, kind: str) -> Function:
        known = self._functions.get(name)
        if known is None:
            kept = native.in_front("Function", Function)
            known = self._functions.setdefault(name, kept(name, kind, self._series))
        return known

    def stage(self, name: str) -> Stage:
        """A stage of whichever profiled function it is in: ``with profiler.stage("inference"):``, or a decorator.

        Its time is without that of stages within it. ValueError for what is no text of 1 to 100 characters.
        """
        known = self._stages.get(name) if isinstance(name, str) else None
        if known is None:
            known = Stage(name, self._clock, self._metrics.mention)
            if len(self._stages) < _MOST_STAGES:  # else names are made up as it goes, and there would be no end of them
                known = self._stages.setdefault(name, known)
        return known

    # Reading ----------------------------------------------------------------------------------------------------------

    def get_profile_results(self, name: str) -> dict[str, Any]:
        """What the whole fleet knows of a profiled function: a JSON-ready dictionary.

        ``name``: of the function, with or without its module and class: ``Model.predict`` or ``predict``. KeyError for
        one that is not known, or not the only one of that name; the message lists those that are.

        ``total_calls``, ``total_time`` (of recursive calls the outermost counts), ``avg_time_per_call``, ``self_time``
        (without other profiled functions), ``total_errors``, ``error_rate``; ``p50_time``, ``p90_time``, ``p95_time``,
        ``p99_time``, to 14 %; ``time_breakdown``, seconds by component, which add up to ``total_time``, and
        ``breakdowns``, one by each means; ``workers``, a row for each; ``slowest_calls``, the slowest first.
        """
        return self.results(name).as_dict()

    def results(self, name: str) -> FunctionResults:
        """The same as data."""
        known = Results(self._metrics.snapshot())
        full = found(name, known.names, list(self._functions))
        return known.of(full, self.remembered(full))

    def all_results(self) -> Results:
        """What the fleet knows of all functions at this instant."""
        return Results(self._metrics.snapshot())

    def remembered(self, name: str) -> tuple[SlowCall, ...]:
        """The slowest calls of a function in this process, by its whole name."""
        here = self._functions.get(name)
        return () if here is None else here.slowest

    def kind(self, name: str) -> str:
        """What a function is; empty where this process has not decorated it, and cannot know."""
        here = self._functions.get(name)
        return "" if here is None else here.kind


def _instead(given: object) -> str:
    """What to do about something that is no function, where that is plain."""
    if isinstance(given, type):
        return "; decorate its methods"
    if isinstance(given, property):
        return "; decorate the function, and make that a property: @property above @profiler.profile_function"
    return f"; a name is given as profile_function(name={given!r})" if isinstance(given, str) else ""


def _name_of(function: Callable[..., Any]) -> str:
    """What a function is called in the results: as profiles call it, but not within which function it was made."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__func__", inner)
    qualified = getattr(inner, "__qualname__", type(inner).__qualname__).rpartition(_INNERMOST)[2]
    module = getattr(inner, "__module__", None) or type(inner).__module__
    code = getattr(inner, "__code__", None)
    if module == "__mp_main__":  # the program, in children of spawn and forkserver
        module = "__main__"
    return f"{module}:{qualified}" if code is None else frame(code.co_filename, qualified, module).name
