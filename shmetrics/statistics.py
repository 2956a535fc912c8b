"""Statistics: what the numbers mean. Pure functions of a `Snapshot`, returning plain JSON-ready dictionaries.

Every figure is finite; before the first record every figure is 0.0. Times are in seconds, rates per second, fractions
from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import repeat
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shmetrics import native, sketch
from shmetrics.arrays import np
from shmetrics.folded import AT, LATEST, Folded
from shmetrics.layout import FOLDED, MEASURES, SECONDS
from shmetrics.percentiles import PERCENTILES
from shmetrics.percentiles import percentiles as percentiles_of
from shmetrics.snapshot import Garbage, Snapshot, WorkerSnapshot
from shmetrics.window import Window, Windows, moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

CURRENT_SECONDS: Final = 5.0
"""What `current_throughput` looks back over."""
STABILITY_SECONDS: Final = 60
"""What `stability_score` looks back over."""
BUSY_SECONDS: Final = 10.0
"""What `busy_fraction` looks back over."""
BUSY_MINUTE: Final = 60.0
"""What `busy_fraction_1m` looks back over."""
_RECENT: Final = math.ceil(max(CURRENT_SECONDS, BUSY_SECONDS, BUSY_MINUTE)) + 1
"""Seconds that begin within those, and the one in which they start."""

_NAMES: Final = {measure: tuple(f"p{percent}_{measure}" for percent in PERCENTILES) for measure in MEASURES}
"""Of each measure's percentiles."""
_BASIC_MEASURES: Final = ("inference_time", "total_time", "batch_size")

Statistics = dict[str, Any]

native.tell(
    "use_seconds",
    **{name: AT[name] for name in ("second", "requests", "latency_sum")},
    seconds=SECONDS,
    recent=_RECENT,
    current=CURRENT_SECONDS,
    busy=BUSY_SECONDS,
    minute=BUSY_MINUTE,
)


def statistics(
    snapshot: Snapshot, *, detailed: bool = True, percentiles: bool = True, max_age: float | None = None
) -> Statistics:
    """The figures of the whole fleet.

    ``detailed=False`` leaves out minimum, maximum and standard deviation and the detail of each stage;
    ``percentiles=False`` leaves out the percentiles; ``max_age`` narrows the window to the last so many seconds
    (TypeError when it is no number, ValueError when it is negative or NaN).
    """
    return _fleet(snapshot, _windows(snapshot, max_age), detailed=detailed, percentiles=percentiles)


def page_figures(snapshot: Snapshot) -> Statistics:
    """Those of `statistics` that a scrape shows: percentiles over the window, and the rates that are levels."""
    windows = _windows(snapshot, None)
    found = percentiles_of(windows.measures if windows.measures.size else np.zeros((len(MEASURES), 1)))
    seconds = PerSecond(snapshot.folded, snapshot.taken_at, snapshot.taken_at - snapshot.created_at)
    figures: Statistics = {
        "throughput": windows.rates[0],
        "current_throughput": seconds.rate(CURRENT_SECONDS),
        "peak_throughput": _peak(snapshot, seconds),
    }
    for measure, values in zip(MEASURES, zip(*found.each, strict=True), strict=True):
        figures.update(zip(_NAMES[measure], values, strict=True))
    return figures


def _windows(snapshot: Snapshot, max_age: float | None) -> Windows:
    """The windows of every worker that counts, narrowed to the last `max_age` seconds where that is given."""
    since = 0.0 if max_age is None else snapshot.taken_at - _seconds(max_age)
    return Windows([worker for worker in snapshot.workers if worker.counted], since=since)


def _fleet(snapshot: Snapshot, windows: Windows, *, detailed: bool, percentiles: bool) -> Statistics:
    window = windows.union()
    counters, runtime = snapshot.counters, snapshot.taken_at - snapshot.created_at
    seconds = PerSecond(snapshot.folded, snapshot.taken_at, runtime)
    error_rate = _ratio(counters.errors, counters.requests)
    return {
        "total_requests": counters.requests,
        "total_errors": counters.errors,
        "cache_hits": counters.cache_hits,
        "cache_misses": counters.cache_misses,
        "invalid_records": int(snapshot.folded.invalid),
        "dropped_records": counters.dropped,
        **_window_figures(window, detailed=detailed, percentiles=percentiles),
        "error_rate": error_rate,
        "window_error_rate": _ratio(window.errors, window.requests),
        "cache_hit_rate": _ratio(counters.cache_hits, counters.cache_hits + counters.cache_misses),
        "window_cache_hit_rate": _ratio(window.cache_hits, window.cache_hits + window.cache_misses),
        "throughput": window.throughput,
        "samples_per_second": window.samples_per_second,
        "current_throughput": seconds.rate(CURRENT_SECONDS),
        "average_throughput": counters.requests / runtime if runtime > 0.0 else 0.0,
        "peak_throughput": _peak(snapshot, seconds),
        "total_runtime": runtime,
        "stability_score": seconds.stability(error_rate) if counters.requests else 0.0,
        "active_workers": snapshot.health.slots_live,
        "workers_seen": snapshot.workers_seen,
        "window_count": window.count,
    }


def _peak(snapshot: Snapshot, seconds: PerSecond) -> float:
    return max(snapshot.peak_recorded, seconds.peak())


def _seconds(max_age: Any) -> float:
    if isinstance(max_age, bool) or not isinstance(max_age, Real):
        raise TypeError(f"max_age must be seconds, 0 or more, not {max_age!r}")
    seconds = float(max_age)
    if not seconds >= 0.0:
        raise ValueError(f"max_age must be seconds, 0 or more, not {max_age!r}")
    return seconds


def comprehensive(
    snapshot: Snapshot, *, detailed: bool = True, percentiles: bool = True, max_age: float | None = None
) -> Statistics:
    """`statistics`, and beside them lifetime percentiles, a row for each worker, and the health of the hub."""
    windows = _windows(snapshot, max_age)
    figures = _fleet(snapshot, windows, detailed=detailed, percentiles=percentiles)
    if percentiles:
        figures |= lifetime_percentiles(snapshot.folded, detailed=detailed)
    health = snapshot.health
    rows = figures["workers"] = worker_rows(
        [worker for worker in snapshot.workers if worker.counted],
        snapshot.taken_at,
        percentiles=percentiles,
        windows=windows if max_age is None else None,
    )
    figures |= in_flight_figures(rows)
    figures["hub"] = {
        "name": snapshot.name,
        "taken_at": snapshot.taken_at_wall,
        "window_size": snapshot.window_size,
        "bytes": health.bytes,
        "slots_total": health.slots_total,
        "slots_live": health.slots_live,
        "slots_dead": health.slots_dead,
        "slots_fill": (health.slots_live + health.slots_dead) / health.slots_total,
        "dropped_records": snapshot.counters.dropped,
        "invalid_records": int(snapshot.folded.invalid),
        "stale": health.stale,
        "stale_slots": health.stale_slots,
        "corrupt": dict(health.corrupt),
        "corrupt_reaped": health.corrupt_reaped,
        "unlinked": health.unlinked,
        "catalog_used": health.catalog_used,
        "catalog_total": health.catalog_total,
        "cells_used": health.cells_used,
        "cells_total": health.cells_total,
        "refused_series": health.refused_series,
    }
    return figures


def in_flight_figures(rows: list[Statistics]) -> Statistics:
    """What the rows of the workers say of the fleet's requests in flight: the mean busy fractions of the living too."""
    live = [row for row in rows if row["alive"]]
    return {
        "busy_fraction": sum(row["busy_fraction"] for row in live) / len(live) if live else 0.0,
        "busy_fraction_1m": sum(row["busy_fraction_1m"] for row in live) / len(live) if live else 0.0,
        "in_flight": sum(row["in_flight"] for row in live),
        "oldest_in_flight": max((row["oldest_in_flight"] for row in live), default=0.0),
    }


def worker_rows(
    workers: Sequence[WorkerSnapshot], now: float, *, percentiles: bool = True, windows: Windows | None = None
) -> list[Statistics]:
    """The figures of each of these workers. ``windows``: theirs, whole, where the caller has them."""
    windows = Windows(workers) if windows is None else windows
    rates, times = recent_rates(workers, now), _inference_times(windows, percentiles=percentiles)
    each = zip(windows.counts, windows.throughputs, strict=True)
    return list(map(_worker_row, workers, repeat(now), each, rates, times))


def _worker_row(
    worker: WorkerSnapshot, now: float, window: tuple[int, float], rates: RecentRates, times: Statistics
) -> Statistics:
    """``window``: its records, and its throughput."""
    counters, (count, throughput) = worker.counters, window
    return {
        "slot": worker.slot,
        "pid": worker.pid,
        "role": worker.role,
        "alive": worker.alive,
        "generation": worker.generation,
        "age": now - worker.claimed_at,
        "last_seen": now - worker.last_seen,
        "requests": counters.requests,
        "errors": counters.errors,
        "error_rate": _ratio(counters.errors, counters.requests),
        "cache_hit_rate": _ratio(counters.cache_hits, counters.cache_hits + counters.cache_misses),
        "throughput": throughput,
        "current_throughput": rates.current_throughput,
        "busy_fraction": rates.busy_fraction,
        "busy_fraction_1m": rates.busy_fraction_1m,
        "in_flight": worker.in_flight_count,
        "oldest_in_flight": now - worker.in_flight[0].started_at if worker.in_flight else 0.0,
        "requests_in_flight": [
            {"label": request.label, "age": now - request.started_at} for request in worker.in_flight
        ],
        "window_count": count,
        "stale": worker.stale,
        **dict(zip(_GARBAGE, worker.garbage, strict=True)),
        **times,
    }


_GARBAGE: Final = tuple(f"gc_{name}" for name in Garbage._fields)


def _inference_times(windows: Windows, *, percentiles: bool) -> list[Statistics]:
    """The mean of each window's inference times, and their percentiles."""
    nothing = _times_of(np.zeros((1, 1)), percentiles=percentiles)
    found = nothing * len(windows.counts)
    for which, values in windows.alike(MEASURES.index("inference_time")):
        for at, figures in zip(which, _times_of(values, percentiles=percentiles), strict=True):
            found[at] = figures
    return found


def _times_of(values: NDArray[np.float64], *, percentiles: bool) -> list[Statistics]:
    """The mean of each row of inference times, and their percentiles."""
    names, columns = ["avg_inference_time"], [values.mean(axis=1).tolist()]
    if percentiles:
        names += _NAMES["inference_time"]
        columns += percentiles_of(values).each
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class RecentRates(NamedTuple):
    """What a worker did in the last seconds; nothing if it is dead."""

    current_throughput: float
    """Requests per second over the last CURRENT_SECONDS."""
    busy_fraction: float
    """See `busy_fraction`: over the last BUSY_SECONDS."""
    busy_fraction_1m: float
    """Over the last BUSY_MINUTE."""


def recent_rates(workers: Sequence[WorkerSnapshot], now: float) -> list[RecentRates]:
    """The recent rates of each of these workers."""
    rates = [RecentRates(0.0, 0.0, 0.0)] * len(workers)
    recording = [at for at, worker in enumerate(workers) if worker.alive and worker.counters.requests]
    for at, recorded in zip(recording, _recently([workers[at] for at in recording], now), strict=True):
        rates[at] = recorded
    for at, worker in enumerate(workers):
        if worker.alive and worker.busy.is_known:
            shown = (busy_fraction(worker, now, period) for period in (BUSY_SECONDS, BUSY_MINUTE))
            rates[at] = RecentRates(rates[at].current_throughput, *shown)
    return rates


def _recently(workers: Sequence[WorkerSnapshot], now: float) -> list[RecentRates]:
    """What the records of each worker say."""
    if native.is_used() and 0.0 <= now < LATEST:
        areas, lifetimes = [worker.kept for worker in workers], [now - worker.claimed_at for worker in workers]
        return list(map(RecentRates._make, native.recent_rates(areas, lifetimes, now)))
    seconds = math.floor(now) - np.arange(_RECENT)
    ages = np.flatnonzero(seconds >= 0)  # a machine may have booted just now
    at = seconds[ages] % SECONDS
    second, requests, latency = (column[:, at] for column in rings(workers, "second", "requests", "latency_sum"))
    requests = np.where(second == seconds[ages], requests, 0)
    service = _spread(np.where(requests > 0, latency, 0.0), now)
    lifetime = np.array([now - worker.claimed_at for worker in workers])
    throughput = _per_second(requests, ages, now, CURRENT_SECONDS, lifetime)
    busy, busy_1m = (
        np.minimum(1.0, _per_second(service, ages, now, period, lifetime)) for period in (BUSY_SECONDS, BUSY_MINUTE)
    )
    return list(map(RecentRates, throughput.tolist(), busy.tolist(), busy_1m.tolist()))


def rings(workers: Sequence[WorkerSnapshot], *names: str) -> list[NDArray[Any]]:
    """Those columns of the workers' per-second rings: each of shape (len(workers), SECONDS)."""
    if not workers:
        return [np.empty((0, SECONDS), FOLDED.dtype[name].base) for name in names]
    return [np.concatenate([worker.area[name] for worker in workers]).reshape(-1, SECONDS) for name in names]


def busy_fraction(
    worker: WorkerSnapshot, now: float, period: float = BUSY_SECONDS, *, seconds: PerSecond | None = None
) -> float:
    """Part of the last `period` seconds, 62 at most, in which a worker was serving, from 0 to 1; 0.0 of the dead.

    What its board says (`board`); where it shows no requests there, what follows from its records: each lasted for its
    ``total_time`` up to when it was recorded. ``seconds``: the worker's history, where the caller has it.
    """
    age = now - worker.claimed_at
    if not worker.alive or age <= 0.0:
        return 0.0
    if worker.busy.is_known:
        return worker.busy.fraction(now, min(period, age))
    seconds = PerSecond(worker.folded, now, age) if seconds is None else seconds
    return seconds.busy(period)


def lifetime_percentiles(folded: Folded, *, detailed: bool = True) -> Statistics:
    """``lifetime_p50_<measure>`` and so on, over every valid record ever, within 1.1 % (`sketch`)."""
    fractions = np.array(PERCENTILES) / 100.0
    figures: Statistics = {}
    for row, measure in enumerate(MEASURES):
        if not detailed and measure not in _BASIC_MEASURES:
            continue
        values = sketch.quantiles(folded.sketch[row], fractions, float(folded.minimum[row]), float(folded.maximum[row]))
        for percent, value in zip(PERCENTILES, values.tolist(), strict=True):
            figures[f"lifetime_p{percent}_{measure}"] = value
    return figures


def _window_figures(window: Window, *, detailed: bool, percentiles: bool) -> Statistics:
    """Figures over the window, exact, for each measure."""
    figures: Statistics = {}
    for row, measure in enumerate(MEASURES):
        if not detailed and measure not in _BASIC_MEASURES:
            continue
        values = window.measures[row] if window.count else np.zeros(1)
        mean, deviation, least, largest = moments(values)
        # A stage that nobody measures is 0.0 throughout, and one value has the percentiles of many equal ones.
        found = percentiles_of(values[None, : 1 if least == largest else None])
        figures[f"avg_{measure}"] = mean
        figures[f"median_{measure}"] = found.medians[0]
        if detailed:
            figures[f"min_{measure}"] = least
            figures[f"max_{measure}"] = largest
            figures[f"std_{measure}"] = deviation
        if percentiles:
            for name, (value,) in zip(_NAMES[measure], found.each, strict=True):
                figures[name] = value
    return figures


def _ratio(part: int, whole: int) -> float:
    """Part / whole from 0 to 1; 0.0 of nothing; 1.0 when the part is larger (errors of requests never recorded)."""
    if whole <= 0:
        return 1.0 if part > 0 else 0.0
    return min(1.0, part / whole)


def _per_second(
    values: NDArray[Any], ages: NDArray[Any], now: float, seconds: float, lifetime: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """The mean of per-second columns over the last `seconds`, or over the lifetime where that is shorter.

    ``values``: shape (..., n); ``ages``: of each, by how many seconds it began before the one that is under way;
    ``lifetime``: shape (...). The second in which the period starts counts by the part of it that is inside.
    """
    period = np.minimum(seconds, lifetime)[..., None]
    inside = period - (now - math.floor(now)) - ages + 1.0
    weight = np.where(period == seconds, np.clip(inside, 0.0, 1.0), inside > 0.0)
    total = (values * weight).sum(axis=-1, keepdims=True)
    mean: NDArray[np.float64] = np.divide(total, period, out=np.zeros_like(total), where=period > 0.0)[..., 0]
    return mean


def _spread(service: NDArray[np.float64], now: float) -> NDArray[np.float64]:
    """When there was service, of the service that was recorded: both by age in seconds, shape (..., n).

    The times of the records of a second fill it from its end, and what does not fit fills the seconds before: right for
    one request after another; of requests that overlap, an estimate from above.
    """
    room = np.ones(service.shape[-1])
    room[0] = now - math.floor(now)
    if not (service > room).any():
        return service
    by_age = service.T.copy()  # numpy is quicker with what lies together
    left = np.zeros(service.shape[:-1])
    for age, fits in enumerate(room.tolist()):
        here = by_age[age, ...]
        left += here
        np.minimum(left, fits, out=here)
        left -= here
    spread: NDArray[np.float64] = by_age.T
    return spread


class PerSecond:
    """The per-second history of a fleet of a certain age, as seen at one instant.

    Second `s` counts what was recorded from `s` to `s + 1` on the monotonic clock; the history is `SECONDS` long.
    """

    def __init__(self, folded: Folded, now: float, age: float) -> None:
        self._now = now
        self._lifetime = age
        ages = math.floor(now) - folded.second.astype(np.int64)
        known = (folded.requests > 0) & (ages >= 0) & (ages < SECONDS)
        self._age = ages[known]
        self._requests = folded.requests[known].astype(np.float64)
        self._latency = folded.latency_sum[known]

    def rate(self, seconds: float) -> float:
        """Requests per second over the last `seconds`."""
        return float(_per_second(self._requests, self._age, self._now, seconds, self._lifetime))

    def busy(self, seconds: float) -> float:
        """Part of the last `seconds` in which records say that there was service, from 0 to 1: see `_spread`."""
        service = np.zeros(SECONDS)
        service[self._age] = self._latency
        ages = np.arange(SECONDS)
        return min(1.0, float(_per_second(_spread(service, self._now), ages, self._now, seconds, self._lifetime)))

    def peak(self) -> float:
        """Requests in the best second that is over."""
        return float(self._requests[self._age > 0].max(initial=0.0))

    def stability(self, error_rate: float) -> float:
        """``(1 - error_rate) / (1 + (cv_throughput + cv_latency) / 2)``, from 0 to 1; 1 is perfectly steady.

        The coefficients of variation (standard deviation / mean) are those of the requests per second, idle seconds
        included, and of the mean latency of each second with requests, over the full seconds of the last minute, from
        the first of them that had a request.
        """
        inside = (self._age > 0) & (self._age <= STABILITY_SECONDS)
        if not inside.any():
            return 1.0 - error_rate
        ages = self._age[inside]
        requests = np.zeros(int(ages.max()))
        requests[ages - 1] = self._requests[inside]
        latency = self._latency[inside] / self._requests[inside]
        return (1.0 - error_rate) / (1.0 + (_variation(requests) + _variation(latency)) / 2.0)


def _variation(values: NDArray[np.float64]) -> float:
    """Standard deviation over mean; 0.0 when the mean is."""
    mean = float(values.mean())
    return float(values.std()) / mean if mean > 0.0 else 0.0
