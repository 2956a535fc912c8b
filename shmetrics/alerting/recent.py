"""The last so many measurements of a fleet: what "over the last 50 measurements" means. Pure.

A *measurement* is a request that was recorded, and for the cache hit rate a lookup of the cache. Workers call
``record_error()`` and ``record_cache_miss()`` without recording a request, too: one that fails may never come to
``update_inference()``, and a hit needs no inference. Such events carry no time. So they are told by growth: what the
fleet's totals grew by from one look to the next happened in between, whichever worker it was, dead ones included.

Each figure looks back over the last `count` measurements of its kind, or over everything since the look before where
that was more: at a thousand requests a second nothing goes by unseen between two looks.

What happened before the first look is taken from the records that are still in the window, whose cumulative columns
say how many errors and lookups there were since. Errors from before it that no record followed have no time at all,
and are not judged.
"""

from collections import deque
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmetrics.folded import is_valid, measures_of
from shmetrics.layout import MEASURES
from shmetrics.snapshot import Counters, Snapshot

_SHORTEST: Final = 1e-6
"""Seconds; a rate over less says nothing."""


class Recent:
    """The last `count` measurements, as seen at the latest `add`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._served = _Growth(count)
        self._looked_up = _Growth(count)
        self._last_look: float | None = None

    def add(self, snapshot: Snapshot) -> "RecentFigures":
        """Look at the fleet; the figures as of now. Snapshots come in the order in which they were taken."""
        rows = _rows(snapshot, self.count, self._last_look)
        now = snapshot.counters
        if self._last_look is None:
            before = _before(snapshot, rows.since)
            self._served.begin(before.requests, before.errors)
            self._looked_up.begin(before.cache_hits + before.cache_misses, before.cache_misses)
        self._last_look = snapshot.taken_at
        served = self._served.grown(now.requests, now.errors)
        looked_up = self._looked_up.grown(now.cache_hits + now.cache_misses, now.cache_misses)
        return RecentFigures(served, looked_up, rows, snapshot.taken_at)


class _Rows(NamedTuple):
    """The latest valid records of a fleet."""

    times: NDArray[np.float64]
    measures: NDArray[np.float64]
    """Shape (len(MEASURES), n)."""
    since: float
    """The time of the first; that of the snapshot where there are none."""


class RecentFigures:
    """What the last measurements say (`readings.Figures`)."""

    def __init__(self, served: tuple[int, int], looked_up: tuple[int, int], rows: _Rows, now: float) -> None:
        self.requests, self.errors = served
        lookups, self.cache_misses = looked_up
        self.cache_hits = lookups - self.cache_misses
        self.measured = len(rows.times)
        """Records that percentiles and the rate rest on; `requests` counts those without a valid record too."""
        self.seconds = now - rows.since
        """Since the first of them: the rate of a fleet that has fallen silent goes down with every look."""
        self._measures = rows.measures

    @property
    def rate(self) -> float:
        """Records per second, from the first of them until now."""
        return self.measured / max(self.seconds, _SHORTEST) if self.measured else 0.0

    @property
    def error_rate(self) -> float:
        """Errors / requests, at most 1; 1.0 where nothing but errors came."""
        return min(1.0, self.errors / self.requests) if self.requests else float(self.errors > 0)

    @property
    def cache_hit_rate(self) -> float:
        """Hits / lookups; 0.0 without lookups."""
        lookups = self.cache_hits + self.cache_misses
        return self.cache_hits / lookups if lookups else 0.0

    def percentile(self, measure: str, percent: float) -> float:
        """What ``numpy.percentile`` gives; 0.0 without records."""
        values = self._measures[MEASURES.index(measure)]
        return float(np.percentile(values, percent)) if len(values) else 0.0

    def share_above(self, measure: str, limit: float) -> float:
        """Exact; 0.0 without records."""
        values = self._measures[MEASURES.index(measure)]
        return float(np.count_nonzero(values > limit)) / len(values) if len(values) else 0.0


class _Growth:
    """Two totals that grow, and by how much they did over the last `count` events. Memory: 2 * count looks at most."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._looks: deque[tuple[int, int]] = deque()

    def begin(self, whole: int, part: int) -> None:
        """What the totals were before the first look."""
        self._looks.append((whole, part))

    def grown(self, whole: int, part: int) -> tuple[int, int]:
        """The totals now; what they grew by since the latest look that is at least `count` events ago."""
        looks = self._looks
        while len(looks) > 1 and max(whole - looks[1][0], part - looks[1][1]) >= self._count:
            looks.popleft()
        first_whole, first_part = looks[0]
        if looks[-1] != (whole, part):
            looks.append((whole, part))
        # Totals of a hub never go down; a snapshot that is older than the last one, being stale, may look like it.
        return max(0, whole - first_whole), max(0, part - first_part)


def _rows(snapshot: Snapshot, count: int, last_look: float | None) -> _Rows:
    """The last `count` valid records of all workers, or all since the last look where that is more."""
    parts = []
    for worker in snapshot.workers:
        rows = worker.window
        if not worker.counted or not len(rows):
            continue
        times = rows["time"]
        fresh = 0 if last_look is None else len(rows) - int(np.searchsorted(times, last_look, side="right"))
        parts.append(rows[-max(count, fresh) :])
    if not parts:
        return _Rows(np.zeros(0), np.zeros((len(MEASURES), 0)), snapshot.taken_at)
    merged = np.concatenate(parts)
    measures = measures_of(merged)
    good = is_valid(measures) & np.isfinite(merged["time"])
    times, measures = merged["time"][good], measures[:, good]
    order = np.argsort(times, kind="stable")
    fresh = 0 if last_look is None else int(np.count_nonzero(times > last_look))
    kept = order[-max(count, fresh) :]
    times = times[kept]
    return _Rows(times, measures[:, kept], float(times[0]) if len(times) else snapshot.taken_at)


def _before(snapshot: Snapshot, since: float) -> Counters:
    """The fleet's totals just before the time `since`, as far as records tell."""
    requests = errors = hits = misses = 0
    for worker in snapshot.workers:
        rows = worker.window
        inside = int(np.count_nonzero(rows["time"] >= since)) if worker.counted else 0
        if not inside:
            continue
        at = len(rows) - inside - 1
        if at >= 0:
            last = rows[at]
            known = Counters(0, int(last["errors"]), int(last["cache_hits"]), int(last["cache_misses"]))
        else:
            known = worker.before_window
        requests += inside
        errors += max(0, worker.counters.errors - known.errors)
        hits += max(0, worker.counters.cache_hits - known.cache_hits)
        misses += max(0, worker.counters.cache_misses - known.cache_misses)
    total = snapshot.counters
    return Counters(
        max(0, total.requests - requests),
        max(0, total.errors - errors),
        max(0, total.cache_hits - hits),
        max(0, total.cache_misses - misses),
    )
