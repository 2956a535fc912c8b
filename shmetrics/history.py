"""The history: what the aggregator remembers of the fleet, at several resolutions, in memory of a fixed size.

    1 s for 15 minutes, 10 s for 6 hours, 1 min for 7 days

At each tick the leader adds a snapshot. Where a second (ten, sixty) has passed, the difference between the totals then
and now becomes a bin (`bins`): counts, busy time, and sketches, since a difference of cumulative sketches is the sketch
of what came between. So percentiles of any window of the last days exist without Prometheus, within the sketch's error.

Times are monotonic, so the wall clock may jump. A gap, in which nobody looked, is one long bin (the process was
stopped) or none (another aggregator led); windows say how much of the time they cover. Totals that went back mean
another hub, and the first snapshot of it is a new beginning.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmetrics import sketch
from shmetrics.bins import AT, BUCKETS, COLUMNS, Bins, Buckets, Figures
from shmetrics.layout import MEASURES
from shmetrics.samples import Samples
from shmetrics.snapshot import Snapshot
from shmetrics.statistics import Statistics, busy_fraction

TIERS: Final = ((1.0, 900, 1024), (10.0, 2160, 1024), (60.0, 10080, 512))
"""Each resolution: seconds of a bin, how many bins, and room for how many buckets in use in each."""

_LATENCY: Final = MEASURES.index("total_time")
_COUNTED: Final = slice(AT["requests"], AT["records"] + 1)
"""The columns that are counts of the hub; the others are sums that this history keeps."""


@dataclass(frozen=True)
class Series:
    """Values over time: ``times`` (monotonic seconds) and ``values``, both float64 of shape (n,), oldest first."""

    times: NDArray[np.float64]
    """When each step ended."""
    values: NDArray[np.float64]


@dataclass(frozen=True)
class WindowFigures:
    """What happened in the last so many seconds. Every figure is finite; 0.0 of nothing."""

    requests: int
    errors: int
    cache_hits: int
    cache_misses: int
    seconds: float
    """How much time that is: less than was asked for where there is no history, a bin more where it is coarse."""
    _buckets: Callable[[], Buckets]
    _minimum: NDArray[np.float64]
    _maximum: NDArray[np.float64]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def error_rate(self) -> float:
        """Errors / requests, at most 1.0; 1.0 too of errors without requests."""
        return _ratio(self.errors, self.requests)

    @property
    def cache_hit_rate(self) -> float:
        """Hits / (hits + misses)."""
        return _ratio(self.cache_hits, self.cache_hits + self.cache_misses)

    def percentile(self, measure: str, percent: float) -> float:
        """The percentile of a measure over the window, as ``numpy.percentile`` (linear) has it; 0.0 when it is empty.

        ``measure``: one of `layout.MEASURES`; ``percent``: 0 to 100; ValueError for others. The relative error is the
        sketch's, 1.1 %, but in windows with bins that use more buckets than they have room for: see `bins`.
        """
        row = _measure(measure)
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"percent must be from 0 to 100, not {percent!r}")
        counts = self._buckets().reshape(len(MEASURES), sketch.SIZE)[row]
        fraction = np.array([percent / 100.0])
        return float(sketch.quantiles(counts, fraction, float(self._minimum[row]), float(self._maximum[row]))[0])

    def share_above(self, measure: str, limit: float) -> float:
        """Which share of the records has a larger value of a measure than `limit`, from 0 to 1; 0.0 when it is empty.

        To the bucket: what is above `limit` by less than the sketch's width, 2.2 %, may count as below.
        """
        row = _measure(measure)
        counts = self._buckets().reshape(len(MEASURES), sketch.SIZE)[row]
        total = int(counts.sum())
        above = int(counts[int(sketch.bucket_index(np.array([limit]))[0]) + 1 :].sum())
        return above / total if total else 0.0


class Totals(NamedTuple):
    """All that the fleet ever did, at one instant."""

    at: float
    figures: Figures
    buckets: Buckets


class History:
    """What the aggregator that leads remembers of the fleet; it takes up its memory, `nbytes`, once.

    The thread that ticks calls `add`; any thread of the process may read. A reader holds the lock for as long as it
    adds bins up, milliseconds at most.
    """

    def __init__(self, tiers: Sequence[tuple[float, int, int]] = TIERS) -> None:
        self.tiers = tuple(Bins(*tier) for tier in tiers)
        self.latest: Snapshot | None = None
        """The last snapshot that was added."""
        self.minimum = np.full(len(MEASURES), np.inf)
        self.maximum = np.zeros(len(MEASURES))
        """The least and the greatest value of each measure that any hub here ever had."""
        self._lock = threading.Lock()
        self._now: Totals | None = None
        self._hub: tuple[float, frozenset[str] | None] = (0.0, frozenset())
        """Which hub that was: when it was created, and which parts of it were corrupt, None where that is not known."""
        nothing = Totals(-math.inf, np.zeros(len(COLUMNS)), _no_buckets())
        self._starts = [nothing] * len(self.tiers)
        """For each resolution: where the bin that has not ended yet begins."""
        self._latency_max = [0.0] * len(self.tiers)

    @property
    def nbytes(self) -> int:
        """Bytes of all bins; they never change."""
        return sum(tier.nbytes for tier in self.tiers)

    # Adding -----------------------------------------------------------------------------------------------------------

    def add(self, snapshot: Snapshot, rows: Sequence[Statistics] | None = None) -> None:
        """Take in the fleet as it is now. Called by the leader at each tick; one that is no later than the last is
        left out.

        ``rows``: the workers' rows of `View.comprehensive` of this snapshot, where the caller has them: they save
        looking for busy workers, and know how much memory each uses.
        """
        with self._lock:
            last, now = self._now, self._totals(snapshot, rows)
            if last is not None and now.at <= last.at:
                return
            goes_on = last is not None and self._is_same_hub(snapshot) and not _went_back(last, now)
            highest = _latency_max(snapshot, last.at) if last is not None and goes_on else 0.0
            for at, tier in enumerate(self.tiers):
                if last is not None and not goes_on:
                    self._end_bin(at, last)  # what is known of it is all that ever will be
                self._latency_max[at] = max(self._latency_max[at], highest)
                start = self._starts[at] if goes_on else now
                self._starts[at] = start
                if math.floor(now.at / tier.step) > math.floor(start.at / tier.step):
                    self._end_bin(at, now)
            self.latest, self._now = snapshot, now
            self._hub = snapshot.created_at, frozenset(snapshot.health.corrupt)
            if snapshot.folded.valid:
                self.minimum = np.minimum(self.minimum, snapshot.folded.minimum)
                self.maximum = np.maximum(self.maximum, snapshot.folded.maximum)

    def _end_bin(self, at: int, now: Totals) -> None:
        """Let a resolution's bin end, and the next one begin."""
        start = self._starts[at]
        if now.at > start.at:
            growth = now.buckets - start.buckets
            self.tiers[at].add(start.at, now.at, now.figures - start.figures, self._latency_max[at], growth)
        self._starts[at] = now
        self._latency_max[at] = 0.0

    def _is_same_hub(self, snapshot: Snapshot) -> bool:
        """Whether totals are of the same thing as before: of one hub, with the same parts left out as corrupt."""
        created_at, corrupt = self._hub
        return created_at == snapshot.created_at and (corrupt is None or corrupt == snapshot.health.corrupt.keys())

    def _totals(self, snapshot: Snapshot, rows: Sequence[Statistics] | None) -> Totals:
        """The fleet's totals, and the sums over time that this history keeps of what does not add up by itself."""
        counters, folded, last = snapshot.counters, snapshot.folded, self._now
        figures = np.zeros(len(COLUMNS))
        elapsed = 0.0
        if last is not None:
            figures[:] = last.figures
            elapsed = max(0.0, snapshot.taken_at - last.at)
        figures[_COUNTED] = (
            counters.requests,
            counters.errors,
            counters.cache_hits,
            counters.cache_misses,
            int(folded.valid),
        )
        figures[AT["latency_sum"]] = folded.sum[_LATENCY]
        figures[AT["busy"]] += elapsed * _busy(snapshot, rows)
        figures[AT["workers"]] += elapsed * snapshot.health.slots_live
        known = [row["rss_bytes"] for row in rows or () if row["rss_bytes"] is not None]
        if known:
            figures[AT["rss"]] += elapsed * sum(known) / len(known)
            figures[AT["rss_seconds"]] += elapsed
        return Totals(snapshot.taken_at, figures, folded.sketch.reshape(-1).copy())  # not a view of the whole area

    # Reading ----------------------------------------------------------------------------------------------------------

    def window(self, seconds: float) -> WindowFigures:
        """The figures of the last `seconds` before the latest snapshot, to the nearest tick. ValueError for no time.

        Whatever was asked for, the time since the last but one tick is in it. Ask the percentiles before 15 minutes
        are over: what is replaced meanwhile is left out of them.
        """
        _check("seconds", seconds)
        with self._lock:
            now = self._now
            if now is None:
                return WindowFigures(0, 0, 0, 0, 0.0, _no_buckets, self.minimum, self.maximum)
            at = self._reaching(seconds)
            tier, start = self.tiers[at], self._starts[at]
            numbers = tier.since(now.at - seconds - tier.step / 2)
            if not len(numbers) and start.at == now.at:
                numbers = tier.numbers()[-1:]
            places = tier.places(numbers)
            figures = tier.figures[places].sum(axis=0) + now.figures - start.figures
            covered = float((tier.end[places] - tier.begin[places]).sum()) + now.at - start.at

        def buckets() -> Buckets:
            with self._lock:
                return tier.buckets(tier.places(numbers)) + (now.buckets - start.buckets)

        requests, errors, hits, misses = figures[: AT["records"]].astype(int).tolist()
        return WindowFigures(requests, errors, hits, misses, covered, buckets, self.minimum, self.maximum)

    def series(self, name: str, seconds: float, step: float) -> Series:
        """A figure over the last `seconds`, a value for each `step`; steps without data are left out.

        ``name``: requests, errors, rate (per second), error_rate, latency_mean, latency_max, p50, p95, p99 (all of
        total_time, in seconds), busy (fraction, of the mean worker), workers, rss (bytes, of the mean worker);
        ValueError for others. A step shorter than the bins that reach back so far is as long as they are. The bins
        that have not ended are left out.
        """
        if name not in _FIGURES:
            raise ValueError(f"there is no series {name!r}; there are {', '.join(_FIGURES)}")
        with self._lock:
            steps = self._steps(seconds, step)
            values = _FIGURES[name](steps)
        known = np.isfinite(values)
        return Series(steps.end[known], values[known])

    def samples(self, seconds: float, step: float) -> Samples:
        """What trends are judged by, over the last `seconds`, one for each `step`."""
        with self._lock:
            steps = self._steps(seconds, step)
            columns = (steps.of(name) for name in ("requests", "errors", "records", "latency_sum"))
            return Samples(steps.end, steps.covered, *columns)

    def _steps(self, seconds: float, step: float) -> "_Steps":
        _check("seconds", seconds)
        _check("step", step)
        tier = self.tiers[self._reaching(seconds, step)]
        numbers = tier.numbers()
        if len(numbers):
            newest = float(tier.end[(tier.added - 1) % tier.rows]) if self._now is None else self._now.at
            begin = tier.begin[numbers % tier.rows]
            first, after = math.floor((newest - seconds) / step) * step, math.floor(newest / step) * step
            numbers = numbers[(begin >= first) & ((begin < after) | (tier.step >= step))]
        extremes = float(self.minimum[_LATENCY]), float(self.maximum[_LATENCY])
        return _Steps(tier, tier.places(numbers), step, extremes)

    def _reaching(self, seconds: float, step: float = 0.0) -> int:
        """The finest resolution that reaches back so far; one with bins up to `step` long where there is a choice."""
        reaching = [at for at, tier in enumerate(self.tiers) if tier.rows * tier.step >= seconds]
        if not reaching:
            return len(self.tiers) - 1
        return max((at for at in reaching if self.tiers[at].step <= step), default=reaching[0])

    # Keeping (history_file) -------------------------------------------------------------------------------------------

    def state(self) -> "State | None":
        """Where it is now; None before the first snapshot."""
        with self._lock:
            if self._now is None:
                return None
            return State(self._hub[0], self._now, tuple(self._starts), tuple(self._latency_max))

    def restore(self, state: "State") -> None:
        """Go on where another process stopped: before the first `add`, after its bins were added to the tiers.

        If the hub is still the same, the time between becomes one bin, and nothing is lost.
        """
        with self._lock:
            self._hub = state.created_at, None
            self._now = state.now
            self._starts = list(state.starts)
            self._latency_max = list(state.latency_max)


class State(NamedTuple):
    """What is needed to go on: see `History.state`."""

    created_at: float
    """Of the hub: monotonic seconds."""
    now: Totals
    starts: tuple[Totals, ...]
    latency_max: tuple[float, ...]


class _Steps:
    """Bins put together to the steps of a series. A bin belongs to the step in which it begins."""

    def __init__(self, tier: Bins, places: NDArray[np.intp], step: float, extremes: tuple[float, float]) -> None:
        self._tier = tier
        self._places = places
        self._extremes = extremes
        cells = np.floor(tier.begin[places] / step)
        self._first = np.flatnonzero(np.diff(cells, prepend=-math.inf))
        self._after = np.append(self._first, len(places))[1:]
        self.end = tier.end[places[self._after - 1]]
        self.covered = self._sums(tier.end[places] - tier.begin[places])

    def of(self, column: str) -> NDArray[np.float64]:
        """A column of the bins, added up for each step."""
        return self._sums(self._tier.figures[self._places, AT[column]])

    def latency_max(self) -> NDArray[np.float64]:
        """The longest total_time of each step."""
        values = self._tier.latency_max[self._places]
        return np.asarray(np.maximum.reduceat(values, self._first)) if len(values) else values

    def percentile(self, percent: float) -> NDArray[np.float64]:
        """The percentile of total_time of each step; NaN where there was no record."""
        fraction, values = np.array([percent / 100.0]), np.full(len(self.end), np.nan)
        for at, (first, after) in enumerate(zip(self._first.tolist(), self._after.tolist(), strict=True)):
            counts = self._tier.buckets(self._places[first:after]).reshape(len(MEASURES), sketch.SIZE)[_LATENCY]
            if counts.any():
                values[at] = sketch.quantiles(counts, fraction, *self._extremes)[0]
        return values

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values, self._first)) if len(values) else values


def _per(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part / whole; NaN of nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0.0))


def _error_rate(steps: _Steps) -> NDArray[np.float64]:
    """Errors / requests, at most 1.0; 1.0 too of errors without requests."""
    errors, requests = steps.of("errors"), steps.of("requests")
    return np.where((errors > 0.0) & (requests == 0.0), 1.0, np.minimum(1.0, _per(errors, requests)))


_FIGURES: Final[dict[str, Callable[[_Steps], NDArray[np.float64]]]] = {
    "requests": lambda steps: steps.of("requests"),
    "errors": lambda steps: steps.of("errors"),
    "rate": lambda steps: _per(steps.of("requests"), steps.covered),
    "error_rate": _error_rate,
    "latency_mean": lambda steps: _per(steps.of("latency_sum"), steps.of("records")),
    "latency_max": lambda steps: np.where(steps.of("records") > 0.0, steps.latency_max(), np.nan),
    "p50": lambda steps: steps.percentile(50.0),
    "p95": lambda steps: steps.percentile(95.0),
    "p99": lambda steps: steps.percentile(99.0),
    "busy": lambda steps: _per(steps.of("busy"), steps.covered),
    "workers": lambda steps: _per(steps.of("workers"), steps.covered),
    "rss": lambda steps: _per(steps.of("rss"), steps.of("rss_seconds")),
}
"""Every series: NaN where a step has no data for it."""


def _busy(snapshot: Snapshot, rows: Sequence[Statistics] | None) -> float:
    """The busy fraction of the mean live worker."""
    if rows is not None:
        busy = [row["busy_fraction"] for row in rows if row["alive"]]
    else:
        busy = [busy_fraction(worker, snapshot.taken_at) for worker in snapshot.workers if worker.alive]
    return sum(busy) / len(busy) if busy else 0.0


def _latency_max(snapshot: Snapshot, since: float) -> float:
    """The longest total_time since then, to the second, of the last five minutes."""
    folded = snapshot.folded
    recent = (folded.second >= max(0.0, math.floor(since))) & (folded.second <= snapshot.taken_at)
    return float(folded.latency_max[recent].max(initial=0.0))


def _went_back(last: Totals, now: Totals) -> bool:
    return bool((now.figures[_COUNTED] < last.figures[_COUNTED]).any() or (now.buckets < last.buckets).any())


def _no_buckets() -> Buckets:
    return np.zeros(BUCKETS, np.uint64)


def _measure(name: str) -> int:
    try:
        return MEASURES.index(name)
    except ValueError:
        raise ValueError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}") from None


def _check(name: str, seconds: float) -> None:
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"{name} must be seconds, above 0 and finite, not {seconds!r}")


def _ratio(part: int, whole: int) -> float:
    """Part / whole, at most 1.0; 1.0 too of a part of nothing, as in `statistics`."""
    if whole <= 0:
        return 1.0 if part > 0 else 0.0
    return min(1.0, part / whole)
