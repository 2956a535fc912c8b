"""How far figures differ, and whether the rounds that were taken are enough to say so. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

FEW: Final = 8
"""Of fewer rounds the middle half says nothing."""


def spread(values: Sequence[float]) -> float:
    """How far the middle half of `values` lies apart, or all of them where they are few, as a part of their median."""
    middle = statistics.median(values)
    if len(values) < FEW:
        low, high = min(values), max(values)
    else:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / abs(middle) if middle else float(high > low)


SURE: Final = 0.95
"""How probable it is that the median lies where `between` says."""
ENOUGH: Final = 6
"""Rounds: fewer cannot make anything so sure."""
OPEN: Final = (-math.inf, math.inf)
"""Between what a figure is of which nothing is sure."""


def between(values: Sequence[float]) -> tuple[float, float]:
    """Between what the true median lies, as sure as `SURE`, however the values are distributed.

    Fewer than `ENOUGH` say nothing that is so sure: of these, `OPEN`.

    Any value is below the true median as often as above it. So the number of those below is binomial, and the k-th
    value from either end is beyond the median only where fewer than k are on that side of it (the confidence interval
    of the sign test: David and Nagaraja, Order Statistics, 3rd edition, section 7.1).
    """
    count, beyond, k = len(values), 0.0, 0
    while (beyond := beyond + math.comb(count, k) / 2**count) <= (1.0 - SURE) / 2:
        k += 1
    ordered = sorted(values)
    return (ordered[k - 1], ordered[-k]) if k else OPEN


@dataclass(frozen=True)
class Ratio:
    """A figure that was taken once a round."""

    median: float
    low: float
    high: float
    between: tuple[float, float]
    """Where the median surely is; see `between`."""


def over_rounds(values: Sequence[float]) -> Ratio:
    """The figure, of what each round gave."""
    return Ratio(statistics.median(values), min(values), max(values), between(values))


def exactly(value: float) -> Ratio:
    """The figure, of what has no noise: a count, or the size of a file."""
    return Ratio(value, value, value, (value, value))


def paired(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """How many times ``under`` goes into ``over``, round by round: both had the same moment of the machine."""
    return over_rounds([one / other for one, other in zip(over, under, strict=True)])


@dataclass(frozen=True)
class Standing:
    """Who is before whom, as far as can be said."""

    order: tuple[str, ...]
    """By their medians."""
    places: Mapping[str, str]
    """"1", or "2-4" of one that cannot be told from two others."""
    refusals: tuple[str, ...]
    """Why not, of each two neighbours that cannot."""


def standing(rounds: Mapping[str, Sequence[float]], *, most: bool = False) -> Standing:
    """Rank by the figures of the rounds; the least is the best, or the most. Two are not ranked whose rounds leave open
    which of them that is.
    """
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    order = sorted(medians, key=lambda name: medians[name], reverse=most)
    places = {}
    for at, name in enumerate(order):
        before = sum(not _refusal(rounds, other, name, most) for other in order[:at])
        behind = sum(not _refusal(rounds, name, other, most) for other in order[at + 1 :])
        best, worst = 1 + before, len(order) - behind
        places[name] = f"{best}-{worst}" if best < worst else f"{best}"
    refusals = filter(None, (_refusal(rounds, one, other, most) for one, other in pairwise(order)))
    return Standing(tuple(order), places, tuple(dict.fromkeys(refusals)))


def _refusal(rounds: Mapping[str, Sequence[float]], one: str, other: str, most: bool) -> str:
    """Why it cannot be said that one is before the other; "" where it can."""
    difference = paired(rounds[one], rounds[other])
    low, high = difference.between
    if (low, high) == OPEN:
        return f"too few rounds to rank: --rounds {ENOUGH} or more may say more"
    if low > 1.0 if most else high < 1.0:
        return ""
    found = f"{one} is {difference.median:.3g} times {other}, and surely between {low:.3g} and {high:.3g} times"
    return f"too noisy to rank: {found}"
