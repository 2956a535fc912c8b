"""Garbage collections: how many a worker made, what they found, and, where asked for, how long they took.

The counts are the interpreter's own, and are shown at every fold. Times are only to be had by a callback in Python, and
where there is one the interpreter loses every exception that a signal handler raises for a signal that comes during a
collection (it prints "Exception ignored in", CPython 3.10 to 3.13): time-outs by SIGALRM, Ctrl-C, the quick shutdown
of a server. So there is none unless ``SHMETRICS_GC_SECONDS=1`` asks for it.
"""

import gc
import time
from typing import Final

from shmetrics import settings
from shmetrics.layout import GENERATIONS, OWNER, Layout, offset_of
from shmetrics.strict import Words

_FIRST: Final = (offset_of(Layout().slot, "owner") + offset_of(OWNER, "collections")) // 8
"""Index of the first of our words among those of a slot; the others follow it."""
_COUNTS: Final = ("collections", "collected", "uncollectable")

_nanoseconds: Final = [0] * GENERATIONS
_started_at = 0


class Garbage:
    """One worker's. Its caller has the write token. ValueError where SHMETRICS_GC_SECONDS says neither yes nor no."""

    def __init__(self) -> None:
        if settings.switch("SHMETRICS_GC_SECONDS") and _time not in gc.callbacks:
            gc.callbacks.append(_time)
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._before = _counts()

    def show(self, words: Words) -> None:
        """Bring a slot's words up to date."""
        for index, (now, before) in enumerate(zip(_counts(), self._before, strict=True), _FIRST):
            words[index] = now - before


def _counts() -> list[int]:
    """In the order of the slot's words."""
    stats = gc.get_stats()
    return [generation[name] for name in _COUNTS for generation in stats] + _nanoseconds


def _time(phase: str, info: dict[str, int]) -> None:
    """Called by the interpreter, in any thread, before and after each collection; never for two at once."""
    global _started_at  # noqa: PLW0603  one collector, one clock
    if phase == "start":
        _started_at = time.perf_counter_ns()
    elif _started_at:
        _nanoseconds[info["generation"]] += time.perf_counter_ns() - _started_at
        _started_at = 0
