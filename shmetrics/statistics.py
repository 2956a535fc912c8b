"""Statistics: what the numbers mean. Pure functions of a `Snapshot`, returning plain JSON-ready dictionaries.

Every figure is finite; before the first record every figure is 0.0. Times are in seconds, rates per second, fractions
from 0 to 1.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import sketch
from shmetrics.folded import Folded
from shmetrics.layout import MEASURES, SECONDS
from shmetrics.snapshot import Snapshot, WorkerSnapshot
from shmetrics.window import Window, window_of

PERCENTILES: Final = (50, 95, 99)
CURRENT_SECONDS: Final = 5.0
"""What `current_throughput` looks back over."""
STABILITY_SECONDS: Final = 60
"""What `stability_score` looks back over."""
BUSY_SECONDS: Final = 10.0
"""What `busy_fraction` looks back over."""

_BASIC_MEASURES: Final = ("inference_time", "total_time", "batch_size")

Statistics = dict[str, Any]


def statistics(
    snapshot: Snapshot, *, detailed: bool = True, percentiles: bool = True, max_age: float | None = None
) -> Statistics:
    """The figures of the whole fleet.

    ``detailed=False`` leaves out minimum, maximum and standard deviation and the detail of each stage;
    ``percentiles=False`` leaves out the percentiles; ``max_age`` narrows the window to the last so many seconds
    (ValueError when it is negative or NaN).
    """
    if max_age is not None and not max_age >= 0.0:
        raise ValueError(f"max_age must be seconds, 0 or more, not {max_age!r}")
    since = 0.0 if max_age is None else snapshot.taken_at - max_age
    window = window_of((worker for worker in snapshot.workers if worker.counted), since=since)
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
        "peak_throughput": max(snapshot.peak_recorded, seconds.peak()),
        "total_runtime": runtime,
        "stability_score": seconds.stability(error_rate) if counters.requests else 0.0,
        "active_workers": snapshot.health.slots_live,
        "workers_seen": snapshot.workers_seen,
        "window_count": window.count,
    }


def comprehensive(
    snapshot: Snapshot, *, detailed: bool = True, percentiles: bool = True, max_age: float | None = None
) -> Statistics:
    """`statistics`, and beside them lifetime percentiles, a row for each worker, and the health of the hub."""
    figures = statistics(snapshot, detailed=detailed, percentiles=percentiles, max_age=max_age)
    if percentiles:
        figures |= lifetime_percentiles(snapshot.folded, detailed=detailed)
    health = snapshot.health
    figures["workers"] = [
        worker_row(worker, snapshot.taken_at, percentiles=percentiles) for worker in snapshot.workers if worker.counted
    ]
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


def worker_row(worker: WorkerSnapshot, now: float, *, percentiles: bool = True) -> Statistics:
    """The figures of one worker."""
    window = window_of([worker])
    age = now - worker.claimed_at
    seconds = PerSecond(worker.folded, now, age)
    row = {
        "slot": worker.slot,
        "pid": worker.pid,
        "role": worker.role,
        "alive": worker.alive,
        "generation": worker.generation,
        "age": age,
        "last_seen": now - worker.last_seen,
        "requests": worker.counters.requests,
        "errors": worker.counters.errors,
        "error_rate": _ratio(worker.counters.errors, worker.counters.requests),
        "cache_hit_rate": _ratio(worker.counters.cache_hits, worker.counters.cache_hits + worker.counters.cache_misses),
        "throughput": window.throughput,
        "current_throughput": seconds.rate(CURRENT_SECONDS) if worker.alive else 0.0,
        "busy_fraction": busy_fraction(worker, now, seconds),
        "in_flight": len(worker.in_flight),
        "oldest_in_flight": now - min((request.started_at for request in worker.in_flight), default=now),
        "window_count": window.count,
        "avg_inference_time": float(window.measures[0].mean()) if window.count else 0.0,
        "stale": worker.stale,
    }
    if percentiles:
        row |= _percentiles(np.sort(window.measures[0]) if window.count else np.zeros(1), "inference_time")
    return row


def busy_fraction(worker: WorkerSnapshot, now: float, seconds: "PerSecond | None" = None) -> float:
    """Time spent serving over the last BUSY_SECONDS, requests under way included; at most 1; 0.0 of the dead.

    ``seconds``: the worker's history, where the caller has it.
    """
    if not worker.alive:
        return 0.0
    age = now - worker.claimed_at
    seconds = PerSecond(worker.folded, now, age) if seconds is None else seconds
    under_way = sum(min(BUSY_SECONDS, now - request.started_at) for request in worker.in_flight)
    period = min(BUSY_SECONDS, age)
    return min(1.0, seconds.busy(BUSY_SECONDS) + (under_way / period if period > 0.0 else 0.0))


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
        values = np.sort(window.measures[row]) if window.count else np.zeros(1)
        middle = values[(len(values) - 1) // 2 : len(values) // 2 + 1]
        figures[f"avg_{measure}"] = float(values.mean())
        figures[f"median_{measure}"] = float(middle.mean())
        if detailed:
            figures[f"min_{measure}"] = float(values[0])
            figures[f"max_{measure}"] = float(values[-1])
            figures[f"std_{measure}"] = float(values.std())
        if percentiles:
            figures |= _percentiles(values, measure)
    return figures


def _percentiles(values: NDArray[np.float64], measure: str) -> Statistics:
    """``p50_<measure>`` and so on of sorted values: to the last bit what ``numpy.percentile`` (linear) gives.

    numpy would select anew for each call; one sort serves all figures. The formula is numpy's, including that it
    interpolates from the nearer end.
    """
    figures: Statistics = {}
    for percent in PERCENTILES:
        position = (len(values) - 1) * (percent / 100)
        below = math.floor(position)
        fraction = position - below
        low, high = float(values[below]), float(values[min(below + 1, len(values) - 1)])
        step = high - low
        figures[f"p{percent}_{measure}"] = low + step * fraction if fraction < 0.5 else high - step * (1 - fraction)
    return figures


def _ratio(part: int, whole: int) -> float:
    """Part / whole from 0 to 1; 0.0 of nothing; 1.0 when the part is larger (errors of requests never recorded)."""
    if whole <= 0:
        return 1.0 if part > 0 else 0.0
    return min(1.0, part / whole)


class PerSecond:
    """The per-second history of a fleet or a worker of a certain age, as seen at one instant.

    Second `s` counts what was recorded from `s` to `s + 1` on the monotonic clock; the history is `SECONDS` long.
    """

    def __init__(self, folded: Folded, now: float, age: float) -> None:
        self._into_second = now - math.floor(now)
        self._lifetime = age
        ages = math.floor(now) - folded.second.astype(np.int64)
        known = (folded.requests > 0) & (ages >= 0) & (ages < SECONDS)
        self._age = ages[known]
        self._requests = folded.requests[known].astype(np.float64)
        self._latency = folded.latency_sum[known]

    def _mean(self, values: NDArray[np.float64], seconds: float) -> float:
        """A per-second column's mean over the last `seconds`, or over the lifetime where that is shorter.

        The second in which the period starts counts by the part of it that is inside.
        """
        period = min(seconds, self._lifetime)
        if period <= 0.0:
            return 0.0
        inside = period - self._into_second - self._age + 1.0
        weight = np.clip(inside, 0.0, 1.0) if period == seconds else inside > 0.0
        return float(values @ weight) / period

    def rate(self, seconds: float) -> float:
        """Requests per second over the last `seconds`."""
        return self._mean(self._requests, seconds)

    def busy(self, seconds: float) -> float:
        """Seconds of service per second over the last `seconds`: the mean number of requests being served."""
        return self._mean(self._latency, seconds)

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
