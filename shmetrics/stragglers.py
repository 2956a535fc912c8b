"""Stragglers: the rules that compare each worker with its fleet. Pure.

By the modified z-score of B. Iglewicz and D. Hoaglin ("How to Detect and Handle Outliers", 1993): 0.6745 (x - median) /
MAD, where MAD is the median of all |x - median|; beyond 3.5 is an outlier. Where workers are alike the MAD says little:
of few it is small or large by chance, of idle ones 0. So it is never taken for smaller than what chance alone makes of
as many requests, of fewer than LEAST_FOR_MAD workers that is all that counts, the difference must matter as well, and
fewer than LEAST_WORKERS workers with enough to go by are no fleet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from shmetrics.arrays import np
from shmetrics.evidence import Evidence, Finding, Rule, about
from shmetrics.folded import LIMIT, fill_measures
from shmetrics.layout import MEASURES, SECONDS
from shmetrics.snapshot import WorkerSnapshot
from shmetrics.statistics import BUSY_MINUTE, busy_fraction, rings
from shmetrics.texts import duration, percent, size

LEAST_WORKERS: Final = 3
LEAST_FOR_MAD: Final = 5
OUTLIER: Final = 3.5
"""The bound on the modified z-score."""
RECENT: Final = 60.0
"""Seconds that traffic is compared over."""
_TO_SIGMA: Final = 0.6745
"""MAD / sigma of a normal distribution: the third quartile of the standard one."""


def median(values: Iterable[float]) -> float:
    """The middle of some."""
    return float(np.median([*values]))


def modified_z(values: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Each value's modified z-score. ``noise``: the standard error of each, below which no spread is believed."""
    middle = median(values)
    mad = median(abs(value - middle) for value in values) if len(values) >= LEAST_FOR_MAD else 0.0
    return [
        _TO_SIGMA * (value - middle) / max(mad, _TO_SIGMA * error) for value, error in zip(values, noise, strict=True)
    ]


SLOWER: Final = 1.5
"""Times the fleet's latency."""
_LEAST_RECORDS: Final = 40
_MOST_RECORDS: Final = 250
_LATENCY_SECONDS: Final = 300.0
"""How many records of each worker's window count, and how old one may be."""
_ALIKE: Final = 0.05
"""Workers whose latencies differ by less are alike."""
_SURE: Final = 4.5
"""Standard errors between a worker and the fleet: of 40 records one chance in 30,000, by Student's t."""


def _slow(evidence: Evidence) -> Iterator[Finding]:
    """A worker whose latency is far above the fleet's: by the mean of its logarithm, which no single request moves."""
    latencies = _log_latencies(evidence.live, evidence.fleet.taken_at - _LATENCY_SECONDS)
    if len(latencies) < LEAST_WORKERS:
        return
    means, errors = [each.mean for each in latencies], [each.error for each in latencies]
    fleet = median(means)
    scores = modified_z(means, [max(error, _ALIKE) for error in errors])
    for (worker, mean, error), score in zip(latencies, scores, strict=True):
        ratio = math.exp(mean - fleet)
        if score > OUTLIER and ratio >= SLOWER and mean - fleet > _SURE * error:
            text = (
                f"is {ratio:.1f} times slower than the fleet: its last requests take {duration(math.exp(mean))} "
                f"(geometric mean), where half of all workers need {duration(math.exp(fleet))} at most; look at what "
                f"it does (py-spy dump --pid {worker.pid})"
            )
            yield about(worker, "slow_worker", "warning", text, value=ratio, threshold=SLOWER)


class _LogLatency(NamedTuple):
    """The mean of the logarithms of a worker's last latencies, and its standard error."""

    worker: WorkerSnapshot
    mean: float
    error: float


_TOTAL_TIME: Final = MEASURES.index("total_time")


def _log_latencies(workers: Sequence[WorkerSnapshot], since: float) -> list[_LogLatency]:
    """Of each worker's last _MOST_RECORDS records, where enough of them can be used.

    Of all workers at once, since numpy's calls are dear; the variance by its definition, after the mean.
    """
    parts = [worker.window[-_MOST_RECORDS:] for worker in workers]
    if not parts:
        return []
    whose = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    times, measures = np.concatenate([part["time"] for part in parts]), np.empty((len(MEASURES), len(whose)))
    fill_measures(measures, parts)
    latency = measures[_TOTAL_TIME]
    good = (times > since) & (latency > 0.0) & (latency < LIMIT)
    if not good.all():
        whose, latency = whose[good], latency[good]
    logs = np.log(latency)
    counts = np.bincount(whose, minlength=len(parts))
    means = np.bincount(whose, logs, len(parts)) / np.maximum(counts, 1)
    squares = np.bincount(whose, (logs - means[whose]) ** 2, len(parts))
    errors = np.sqrt(squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1))
    found = zip(workers, means.tolist(), errors.tolist(), counts.tolist(), strict=True)
    return [_LogLatency(*latencies) for *latencies, count in found if count >= _LEAST_RECORDS]


MORE_ERRORS: Final = 3.0
"""Times the fleet's median error rate."""
_LEAST_ERRORS: Final = 5
_LEAST_ERROR_RATE: Final = 0.01
_ERROR_SECONDS: Final = SECONDS - 1.0
"""Seconds that errors, which are rare, are compared over."""
_BY_CHANCE: Final = 0.002
"""The chance at which a whole fleet without a failing worker may look as if it had one."""


def _failing(evidence: Evidence) -> Iterator[Finding]:
    """A worker whose error rate is far above the fleet's; as square roots, since those of counts spread all alike."""
    recent = zip(evidence.live, _recent_counts(evidence.live, evidence.fleet.taken_at, _ERROR_SECONDS), strict=True)
    counts = [(worker, requests, errors) for worker, (requests, errors) in recent if requests >= _LEAST_RECORDS]
    if len(counts) < LEAST_WORKERS:
        return
    rates = [errors / requests for _, requests, errors in counts]
    fleet = median(rates)
    scores = modified_z([math.sqrt(rate) for rate in rates], [0.5 / math.sqrt(requests) for _, requests, _ in counts])
    all_requests, all_errors = sum(requests for _, requests, _ in counts), sum(errors for _, _, errors in counts)
    for (worker, requests, errors), rate, score in zip(counts, rates, scores, strict=True):
        threshold = max(_LEAST_ERROR_RATE, MORE_ERRORS * fleet)
        if score <= OUTLIER or errors < _LEAST_ERRORS or rate < threshold:
            continue
        expected = requests * (all_errors - errors + 0.5) / (all_requests - requests)
        if _at_least(errors, expected) < _BY_CHANCE / len(counts):
            text = (
                f"fails more than the fleet: {errors:,} of its {requests:,} last requests ({percent(rate)}), where "
                f"half of all workers have {percent(fleet)} at most; look at its log"
            )
            yield about(worker, "failing_worker", "warning", text, value=rate, threshold=threshold)


def _at_least(count: int, expected: float) -> float:
    """The chance of so many events or more where so many are expected, at most: Poisson's distribution.

    Each of its terms from `count` on is at most ``expected / (count + 1)`` times the one before, so a geometric series
    is above them all, and close where `count` is far above what was expected. Counts are from shared memory and may be
    anything: to add the terms up one by one could take for ever.
    """
    if count <= expected:
        return 1.0
    logarithm = count * math.log(expected) - expected - math.lgamma(count + 1)
    first = math.exp(min(0.0, logarithm))  # of huge counts it may be off by more than it is
    return min(1.0, first / (1.0 - expected / (count + 1)))


SKEW: Final = 3.0
"""Times the fleet's median share of traffic, or that part of it."""
_LEAST_SHARE: Final = 50
_LOADED: Final = 0.5
_UNLOADED: Final = 0.1


def _skewed(evidence: Evidence) -> Iterator[Finding]:
    """A worker that gets far more than its share and is busy with it, or far less while the others are busy.

    Not every skew is bad: where load is low, the kernel wakes the same few workers again and again.
    """
    now = evidence.fleet.taken_at
    workers = [each for each in evidence.live if evidence.age(each) >= RECENT]
    counts = [(each, count) for each, (count, _) in zip(workers, _recent_counts(workers, now, RECENT), strict=True)]
    if len(counts) < LEAST_WORKERS or (fleet := median(count for _, count in counts)) < _LEAST_SHARE:
        return
    scores = modified_z([math.sqrt(count) for _, count in counts], [0.5] * len(counts))
    for (worker, count), score in zip(counts, scores, strict=True):
        if abs(score) <= OUTLIER or fleet / SKEW < count < SKEW * fleet:
            continue
        own = busy_fraction(worker, now, BUSY_MINUTE)
        share = f"{count:,} requests in the last minute, where half of all workers got {fleet:,.0f} or"
        if score > 0.0 and own >= _LOADED:
            text = f"gets more than its share, {share} fewer, and is busy {percent(own)} of the time; {_BALANCE}"
            yield about(worker, "overloaded_worker", "warning", text, value=count / fleet, threshold=SKEW)
        elif score < 0.0 and own < _UNLOADED and _half_are_loaded(counts, now):
            text = f"gets less than its share, {share} more, and is busy {percent(own)} of the time; {_BALANCE}"
            yield about(worker, "idle_worker", "warning", text, value=count / fleet, threshold=1.0 / SKEW)


def _half_are_loaded(counts: Sequence[tuple[WorkerSnapshot, int]], now: float) -> bool:
    """Whether half of these workers or more are busy half of the time or more."""
    return median(busy_fraction(worker, now, BUSY_MINUTE) for worker, _ in counts) >= _LOADED


_BALANCE: Final = "look at how connections are spread (keep-alive, reuse_port, the load balancer)"

GROWTH: Final = 2**20 / 60
"""Bytes per second: one MiB a minute."""
_GROWN_UP: Final = 300.0
"""Seconds after which a worker has loaded and cached what it needs."""
_LEAST_GROWTH_SPREAD: Final = GROWTH / 4


def _growing(evidence: Evidence) -> Iterator[Finding]:
    """A worker whose memory grows and grows, or a whole fleet whose does."""
    known = [(each, evidence.usages.get(each.slot)) for each in evidence.live if evidence.age(each) > _GROWN_UP]
    growths = [(each, usage.rss_growth) for each, usage in known if usage is not None and usage.rss_growth is not None]
    if not growths:
        return
    fleet = median(growth for _, growth in growths)
    if fleet >= GROWTH:
        text = f"the memory of all workers grows, half of them by {_a_minute(fleet)} or more; look for what they keep"
        yield Finding("growing_fleet", "warning", text, value=fleet, threshold=GROWTH)
    if len(growths) < LEAST_WORKERS:
        return
    scores = modified_z([growth for _, growth in growths], [_LEAST_GROWTH_SPREAD] * len(growths))
    for (worker, growth), score in zip(growths, scores, strict=True):
        if score > OUTLIER and growth >= GROWTH:
            text = (
                f"grows by {_a_minute(growth)}, where half of all workers grow by {_a_minute(fleet)} at most; look for "
                f"what it keeps, or recycle workers (max_requests)"
            )
            yield about(worker, "growing_worker", "warning", text, value=growth, threshold=GROWTH)


def _a_minute(growth: float) -> str:
    return f"{size(max(0.0, 60.0 * growth))} a minute"


def _recent_counts(workers: Sequence[WorkerSnapshot], now: float, seconds: float) -> list[tuple[int, int]]:
    """Each worker's valid requests and their errors in the last so many seconds."""
    second, requests, errors = rings(workers, "second", "requests", "second_errors")
    ages = math.floor(now) - second.astype(np.int64)
    recent = (ages >= 0) & (ages < seconds)
    counts = (column.sum(axis=1, where=recent).tolist() for column in (requests, errors))
    return list(zip(*counts, strict=True))


RULES: Final[tuple[Rule, ...]] = (_slow, _failing, _skewed, _growing)
