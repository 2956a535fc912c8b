"""Those that keep a distribution in little room and answer for any percentile: ours, and what it is compared with.

Each is given values in seconds, one after the other where that is how it takes them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np

from shmetrics import sketch
from shmetrics.benchmarks.peers import OURS, needs

Quantile = Callable[[float], float]
_DDSKETCH_ACCURACY: Final = 0.01
_HDR_RANGE: Final = (1, 3_600_000_000_000, 2)
"""Nanoseconds up to an hour, two digits: about what ours promises, as the accuracy above is."""


@dataclass(frozen=True)
class Estimator:
    """One of them."""

    name: str
    keep: Callable[[Sequence[float]], tuple[Quantile, int]]
    """Of values: what answers, and how many counts it keeps for that."""
    lacking: Callable[[], str]
    """See `Peer.lacking`."""


def _ours(values: Sequence[float]) -> tuple[Quantile, int]:
    """As a worker folds its records, and a reader asks for lifetime percentiles."""
    counts = np.bincount(sketch.bucket_index(np.asarray(values)), minlength=sketch.SIZE)
    low, high = min(values), max(values)
    return (lambda q: float(sketch.quantiles(counts, np.array([q]), low, high)[0])), sketch.SIZE


def _ddsketch(values: Sequence[float]) -> tuple[Quantile, int]:
    from ddsketch import DDSketch  # noqa: PLC0415  others do without

    kept = DDSketch(_DDSKETCH_ACCURACY)
    for value in values:
        kept.add(value)
    growth = (1.0 + _DDSKETCH_ACCURACY) / (1.0 - _DDSKETCH_ACCURACY)
    between = math.log(
        max(values) / min(values), growth
    )  # it has a count for each power from the least to the greatest
    return (lambda q: float(kept.get_quantile_value(q) or 0.0)), math.ceil(between) + 1


def _hdrhistogram(values: Sequence[float]) -> tuple[Quantile, int]:
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415  others do without

    kept: Any = HdrHistogram(*_HDR_RANGE)
    for value in values:
        kept.record_value(round(value * 1e9))
    return (lambda q: float(kept.get_value_at_percentile(100.0 * q)) / 1e9), int(kept.counts_len)


def _prometheus(values: Sequence[float]) -> tuple[Quantile, int]:
    """Its client's buckets, and between their bounds a straight line."""
    from prometheus_client import Histogram  # noqa: PLC0415  others do without

    bounds = [bound for bound in Histogram.DEFAULT_BUCKETS if bound != float("inf")]
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return (lambda q: interpolated(q, bounds, counts)), len(counts)


def interpolated(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """What `histogram_quantile` of PromQL makes of counts by bucket, the last of which has no upper bound."""
    below = list(accumulate(counts))
    rank = q * below[-1]
    at = bisect_left(below, rank)
    if at == len(bounds):
        return bounds[-1]
    begins = bounds[at - 1] if at else 0.0
    before = below[at - 1] if at else 0
    return begins + (bounds[at] - begins) * (rank - before) / counts[at] if counts[at] else bounds[at]


ESTIMATORS: Final = (
    Estimator(OURS, _ours, lambda: ""),
    Estimator("ddsketch, 1 %", _ddsketch, needs("ddsketch")),
    Estimator("hdrhistogram, 2 digits", _hdrhistogram, needs("hdrh")),
    Estimator("Prometheus, default buckets", _prometheus, needs("prometheus_client")),
)
