"""Timing that a noisy machine cannot fool easily: candidates take turns round by round, and medians are compared."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Microseconds per call over all rounds."""

    median: float
    low: float
    high: float


def interleaved(
    candidates: Mapping[str, Callable[[], object]], calls: int, rounds: int, before: Callable[[], object] | None = None
) -> dict[str, Timing]:
    """Time every candidate in every round, in turn; `calls` calls each after as many tenths to warm up.

    ``before``: called before each round, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(calls // 10):
            call()
    for done in range(rounds):
        if before is not None:
            before()
        for name, call in candidates.items():
            start = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append(time.perf_counter() - start)
        progress(done + 1, rounds)
    return {
        name: Timing(*(1e6 * value / calls for value in (statistics.median(times), min(times), max(times))))
        for name, times in seconds.items()
    }


def progress(done: int, total: int) -> None:
    """A bar on stderr, where there is a terminal to see it."""
    if sys.stderr.isatty():
        filled = 30 * done // total
        end = "\n" if done == total else ""
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total}", end=end, file=sys.stderr, flush=True)
