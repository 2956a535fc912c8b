"""Where the time of a call went, by cProfile: its components are the functions that it called itself.

Nothing happens to a call that cannot be profiled, since another profiler is at work: it is made, and is counted as
skipped. From Python 3.12 on cProfile sees what all threads do as if one did it; there calls are left out, likewise,
during which another thread of the interpreter ran.
"""

import cProfile
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any, Final

from shmetrics.profiling import calls
from shmetrics.profiling.choosing import Share
from shmetrics.profiling.families import CPROFILE, OWN, PROFILED, SKIPPED
from shmetrics.profiling.frames import ITSELF, frame, module_of
from shmetrics.profiling.functions import Function

SHARE: Final = 0.01
"""Of the calls."""
_ALL_THREADS: Final = sys.version_info >= (3, 12)
_BUILTIN: Final = re.compile(r"<built-in method ([\w.]+)>|<method '\w+' of '([\w.]+)' objects>")
_LIKE_SYNTAX: Final = ("builtins", "_io", "_abc", "_functools", "_operator", "_collections", "itertools")
"""Modules whose functions are part of the code that calls them."""

_busy: Final[set[int]] = set()
"""Threads in which a call is being profiled: one within it is part of it."""
os.register_at_fork(after_in_child=_busy.clear)


def profiled(target: Callable[..., Any], function: Function, share: Share, clock: Callable[[], float]) -> Any:
    """The target, some of whose calls are profiled; to be called in a call of the function."""
    take, skipped, sampled = share.take, function.sampled(SKIPPED), function.sampled(PROFILED)
    standard = clock is time.perf_counter

    def call(*args: Any, **kwargs: Any) -> Any:
        weight = take()
        ident = threading.get_ident()
        if not weight or ident in _busy:
            return target(*args, **kwargs)
        profile = cProfile.Profile() if standard else cProfile.Profile(clock)
        try:
            _busy.add(ident)
            before = _others()
            if not _enable(profile):
                skipped.inc()
                return target(*args, **kwargs)
            try:
                return _root(target, args, kwargs)
            finally:
                try:
                    profile.disable()  # calls nothing of ours before, where a signal handler could raise
                    entries = profile.getstats()
                except MemoryError:  # says so, too, when a signal handler raised while it looked for a function's name
                    entries = []
                under_way = calls.innermost()
                if (
                    isinstance(under_way, calls.Call)
                    and under_way.function is function  # not a coroutine that the call has begun, and left
                    and _is_right(entries, before)
                ):
                    sampled.inc()
                    found = components(entries)
                    calls.spend(under_way, CPROFILE, {name: took * weight for name, took in found.items()})
                else:
                    skipped.inc()
        finally:
            _busy.discard(ident)

    return call


def _root(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return target(*args, **kwargs)


def _enable(profile: cProfile.Profile) -> bool:
    """Begin, unless another profiler is at work."""
    if sys.getprofile() is not None:
        return False
    try:
        profile.enable()
    except ValueError:  # Python 3.12 and newer: "Another profiling tool is already active"
        return False
    except BaseException:  # a signal handler's, once it had begun
        profile.disable()
        raise
    return True


def _others() -> float:
    """Processor time that other threads have used, those that Python started.

    The clock of a thread is numbered by its id (``MAKE_THREAD_CPUCLOCK`` of the kernel).
    """
    used = 0.0
    if _ALL_THREADS:
        own = threading.get_native_id()
        for native in [thread.native_id for thread in threading.enumerate()]:
            if native is not None and native != own:
                try:
                    used += time.clock_gettime((~native << 3) | 6)
                except OSError:  # it has ended
                    continue
    return used


def _is_right(entries: list[Any], before: float) -> bool:
    """Whether what was found is of this call alone: one step of another thread mixes everything up."""
    return any(entry.code is _root.__code__ for entry in entries) and (not _ALL_THREADS or _others() == before)


def components(entries: list[Any]) -> dict[str, float]:
    """Seconds by what the profiled function called itself, and OWN. ``entries``: as ``getstats`` has them."""
    by_code = {_key(entry.code): entry for entry in entries}
    called = by_code[_key(_root.__code__)].calls or ()
    found: dict[str, float] = {}
    for each in called:
        target = by_code.get(_key(each.code)) if isinstance(each.code, CodeType) else None
        if target is None:
            _add(found, _name(each.code) or OWN, each.totaltime)
            continue
        _add(found, OWN, target.inlinetime)
        for callee in target.calls or ():
            if callee.code is not each.code:  # of itself, all levels are in its own figures already
                _spread(found, callee.code, callee.totaltime, by_code, {_key(each.code)})
    return found


def _spread(found: dict[str, float], code: Any, seconds: float, by_code: dict[Any, Any], seen: set[Any]) -> None:
    """Add a called function's seconds; of our own wrappers, to what they called in its turn."""
    name = _name(code)
    entry = by_code.get(_key(code))
    if name != ITSELF or entry is None or _key(code) in seen:
        if _key(code) not in seen:
            _add(found, name or OWN, seconds)
        return
    inner: Iterable[Any] = entry.calls or ()
    total = entry.inlinetime + sum(each.totaltime for each in inner)
    if total > 0.0:
        _add(found, ITSELF, seconds * entry.inlinetime / total)
        for each in inner:
            _spread(found, each.code, seconds * each.totaltime / total, by_code, {*seen, _key(code)})


def _add(found: dict[str, float], name: str, seconds: float) -> None:
    found[name] = found.get(name, 0.0) + seconds


def _key(code: Any) -> Any:
    return id(code) if isinstance(code, CodeType) else code


def _name(code: Any) -> str:
    """What a called function is called as a component; nothing for what is part of the calling code."""
    if isinstance(code, CodeType):
        function = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on with the class
        called = frame(code.co_filename, function, module_of(code.co_filename, sys.path))
        return called.package or called.name
    match = _BUILTIN.search(str(code))
    where = "" if match is None else (match[1] or match[2])
    module, _, _ = where.rpartition(".")
    return "" if module in _LIKE_SYNTAX else module.partition(".")[0]
