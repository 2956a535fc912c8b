"""Trends: whether throughput, latency and errors rise, fall or stay, and how steady they are. Pure.

The Mann-Kendall test (Mann 1945, Kendall 1975) says whether there is a trend: it counts the pairs of values that rise,
less those that fall, so that bursts count no more than any other value and gaps do not matter. The slope is Theil and
Sen's (Sen 1968): the median of the slopes of all pairs. Three things keep the test honest:

* ties: the variance of the count is corrected for equal values (Kendall 1975);
* serial correlation, by which busy seconds follow busy seconds: the variance is multiplied by the factor of Hamed and
  Rao (Journal of Hydrology 204, 1998), with the autocorrelation of the ranks, once the trend is taken out, modelled as
  a first-order process, as Yue and Wang do (Water Resources Management 18, 2004); its coefficient is corrected for the
  bias that short series have (Marriott and Pope, Biometrika 41, 1954), and a negative one counts as none;
* a practical floor: with enough data any slope is significant, so a change that is too small to matter is "stable".

The values are made from samples of a second. Neighbours are merged until there are 60 values at most and five events
(requests, errors) stand behind each on average, but never to fewer than 12 values: rates of rare events are mostly
zeros otherwise, and the median slope of zeros is zero.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics.samples import Samples

INCREASING: Final = "increasing"
DECREASING: Final = "decreasing"
STABLE: Final = "stable"
INSUFFICIENT: Final = "insufficient_data"

SIGNIFICANCE: Final = 0.01
"""A trend of pure noise is called one in so many cases at most, as far as the noise is what was assumed."""
RELATIVE_FLOOR: Final = 0.10
"""Throughput and latency: a change over the whole span of less than this part of the median is stable."""
ERROR_FLOOR: Final = 0.01
"""Error rate: a change over the whole span of less than so many errors a request is stable."""
FEWEST: Final = 12
"""Values that a judgement needs."""
MOST: Final = 60
"""Values that it is made of at most."""
SHORTEST: Final = 30.0
"""Seconds that a judgement needs."""
_EVENTS: Final = 5
_EVENTS_OF_VARIATION: Final = 50

RATINGS: Final = ("excellent", "good", "fair", "poor")
RATING_LIMITS: Final = {
    "throughput_variation": (0.10, 0.25, 0.50),
    "latency_variation": (0.10, 0.25, 0.50),
    "error_rate": (0.001, 0.01, 0.05),
}
"""Up to which value each input is excellent, good and fair."""


@dataclass(frozen=True)
class Trend:
    """A judgement, and what it is made of."""

    direction: str
    """INCREASING, DECREASING, STABLE or INSUFFICIENT."""
    slope_per_minute: float
    """Of the unit of the values: requests per second, seconds, errors per request."""
    change: float
    """What the slope comes to over the whole span; relative to the median for throughput and latency."""
    confidence: float
    """From 0 to 1: how likely the direction is right, the slope's error taken as normal. Of a rise, that the slope is
    above zero; of what is stable, that the change is below the floor. 0.0 of insufficient data."""
    p_value: float
    """How likely so clear a trend is where there is none; two-sided, corrected as above."""
    step: float
    """Seconds behind each value, as a rule."""
    times: NDArray[np.float64]
    """Monotonic seconds; float64 of shape (n,), and so are the values."""
    values: NDArray[np.float64]

    def as_dict(self) -> dict[str, Any]:
        """The same, JSON-ready; times are seconds before the last one."""
        return {
            "direction": self.direction,
            "slope_per_minute": self.slope_per_minute,
            "change": self.change,
            "confidence": self.confidence,
            "p_value": self.p_value,
            "step": self.step,
            "ages": (self.times[-1:] - self.times).tolist(),
            "values": self.values.tolist(),
        }


# Judging --------------------------------------------------------------------------------------------------------------


def throughput_trend(samples: Samples) -> Trend:
    """Requests per second."""
    merged = _merged(samples, samples.requests)
    return _judge(merged.times, merged.requests / merged.seconds, samples.span, RELATIVE_FLOOR, relative=True)


def latency_trend(samples: Samples) -> Trend:
    """Mean total_time, in seconds, of the seconds that had any."""
    known = samples.where(samples.records > 0.0)
    merged = _merged(known, known.records)
    return _judge(merged.times, merged.latency_sum / merged.records, known.span, RELATIVE_FLOOR, relative=True)


def error_trend(samples: Samples) -> Trend:
    """Errors per request, of the seconds that had any."""
    known = samples.where(samples.requests > 0.0)
    merged = _merged(known, known.errors)
    rates = np.minimum(1.0, merged.errors / merged.requests)
    return _judge(merged.times, rates, known.span, ERROR_FLOOR, relative=False)


def stability(samples: Samples) -> dict[str, Any]:
    """``rating``, the inputs it is made of, and ``limited_by``, the one that is worst.

    Variations are coefficients of variation (standard deviation / mean) of values made as those of trends are, but with
    50 requests behind each; of throughput, what chance alone makes of requests that come independently (Poisson: the
    variance of a count is its mean) is taken off. The rating is that of the worst input.
    """
    merged = _merged(samples, samples.requests, _EVENTS_OF_VARIATION)
    if len(merged) < FEWEST or samples.span < SHORTEST:
        return {"rating": INSUFFICIENT, "limited_by": None, **dict.fromkeys(RATING_LIMITS, 0.0)}
    known = merged.records > 0.0
    inputs = {
        "throughput_variation": _variation(
            merged.requests / merged.seconds, chance=1.0 / max(1.0, float(merged.requests.mean()))
        ),
        "latency_variation": _variation(merged.latency_sum[known] / merged.records[known]),
        "error_rate": min(1.0, float(samples.errors.sum()) / max(1.0, float(samples.requests.sum()))),
    }
    grades = {name: sum(value > limit for limit in RATING_LIMITS[name]) for name, value in inputs.items()}
    worst = max(grades, key=lambda name: grades[name])
    return {"rating": RATINGS[grades[worst]], "limited_by": worst if grades[worst] else None, **inputs}


def analyze(samples: Samples) -> dict[str, Any]:
    """All of it, JSON-ready: see `PerformanceAnalyzer.analyze_performance_trends`."""
    found = {
        "throughput": throughput_trend(samples),
        "latency": latency_trend(samples),
        "error": error_trend(samples),
    }
    steady = stability(samples)
    return {
        **{f"{name}_trend": trend.direction for name, trend in found.items()},
        "stability_rating": steady["rating"],
        "seconds": samples.span,
        "trends": {name: trend.as_dict() for name, trend in found.items()},
        "stability": steady,
    }


def _merged(samples: Samples, events: NDArray[np.float64], each: int = _EVENTS) -> Samples:
    """Samples of which each has enough events behind it, as far as that is possible."""
    wanted = min(MOST, max(FEWEST, float(events.sum()) // each))
    return samples.merged(max(1, min(math.ceil(len(samples) / wanted), len(samples) // FEWEST)))


def _judge(
    times: NDArray[np.float64], values: NDArray[np.float64], span: float, floor: float, *, relative: bool
) -> Trend:
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if len(values) < FEWEST or span < SHORTEST:
        return Trend(INSUFFICIENT, 0.0, 0.0, 0.0, 1.0, step, times, values)
    test = mann_kendall(times, values)
    level = (float(np.median(values)) or float(np.mean(values)) or 1.0) if relative else 1.0
    change = test.slope * span / level
    if test.p_value < SIGNIFICANCE and abs(change) >= floor:
        direction = INCREASING if change > 0.0 else DECREASING
        confidence = 1.0 - test.p_value / 2.0
    else:
        direction = STABLE
        error = test.slope_error * span / level
        confidence = _normal_between(-floor, floor, change, error)
    return Trend(direction, 60.0 * test.slope, change, confidence, test.p_value, step, times, values)


def _normal_between(low: float, high: float, mean: float, deviation: float) -> float:
    """How likely a normal value lies between two others."""
    if deviation <= 0.0:
        return float(low <= mean <= high)
    scale = deviation * math.sqrt(2.0)
    return 0.5 * (math.erf((high - mean) / scale) - math.erf((low - mean) / scale))


def _variation(values: NDArray[np.float64], chance: float = 0.0) -> float:
    """Standard deviation over mean, less `chance`, the square of what it would be by chance alone."""
    most = float(values.max(initial=0.0))
    if most <= 0.0:
        return 0.0
    scaled = values / most  # whatever the unit, and whatever nonsense somebody recorded, a square is finite
    return math.sqrt(max(0.0, float(scaled.std() / scaled.mean()) ** 2 - chance))


# The test -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MannKendall:
    """The test's result."""

    p_value: float
    slope: float
    """Theil and Sen's, per second."""
    slope_error: float
    """Half of the interval that has the true slope in it two times in three (Sen 1968, with the corrected variance)."""


def mann_kendall(times: NDArray[np.float64], values: NDArray[np.float64]) -> MannKendall:
    """Test for a monotone trend. ``times``: ascending, no two alike; both of shape (n,), n from 3 to some thousands.

    Takes memory and time in proportion to the square of n.
    """
    n = len(values)
    earlier, later = np.triu_indices(n, 1)
    rises = values[later] - values[earlier]
    slopes = np.sort(rises / (times[later] - times[earlier]))
    slope = float(np.median(slopes))
    score = float(np.sign(rises).sum())
    _, ties = np.unique(values, return_counts=True)
    variance = float(n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18.0
    variance *= _serial_factor(values - slope * times)
    if variance <= 0.0:
        return MannKendall(1.0, slope, 0.0)
    deviation = math.sqrt(variance)
    z = max(0.0, abs(score) - 1.0) / deviation
    low = max(0, math.floor((len(slopes) - deviation) / 2.0))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + deviation) / 2.0))
    return MannKendall(math.erfc(z / math.sqrt(2.0)), slope, float(slopes[high] - slopes[low]) / 2.0)


def _serial_factor(residuals: NDArray[np.float64]) -> float:
    """By how much serial correlation raises the variance: Hamed and Rao's factor for a first-order process."""
    n = len(residuals)
    ranks = _ranks(residuals)
    ranks -= ranks.mean()
    power = float(ranks @ ranks)
    if power <= 0.0:
        return 1.0
    first = float(ranks[:-1] @ ranks[1:]) / power
    first = min(0.99, max(0.0, (n * first + 1.0) / (n - 4.0)))
    lag = np.arange(1, n)
    weights = (n - lag) * (n - lag - 1.0) * (n - lag - 2.0)
    return 1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * float(weights @ first**lag)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value's rank; equal ones share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[which.reshape(-1)])
