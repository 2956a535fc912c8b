"""How far figures differ, and whether that says anything: not when they differ as much from round to round. Pure."""

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


@dataclass(frozen=True)
class Ratio:
    """A figure that was taken once a round."""

    median: float
    low: float
    high: float
    noise: float
    """See `spread`."""


def over_rounds(values: Sequence[float]) -> Ratio:
    """The figure, of what each round gave."""
    return Ratio(statistics.median(values), min(values), max(values), spread(values))


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
    """Rank by the figures of the rounds; the least is the best, or the most. Two whose figures differ by less than
    that difference does from round to round are not ranked.
    """
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    order = sorted(medians, key=lambda name: medians[name], reverse=most)
    places = {}
    for at, name in enumerate(order):
        before = sum(not _refusal(rounds, other, name) for other in order[:at])
        behind = sum(not _refusal(rounds, name, other) for other in order[at + 1 :])
        best, worst = 1 + before, len(order) - behind
        places[name] = f"{best}-{worst}" if best < worst else f"{best}"
    refusals = (_refusal(rounds, one, other) for one, other in pairwise(order))
    return Standing(tuple(order), places, tuple(filter(None, refusals)))


def _refusal(rounds: Mapping[str, Sequence[float]], one: str, other: str) -> str:
    """Why two cannot be told apart; "" where they can."""
    difference = paired(rounds[one], rounds[other])
    apart = abs(difference.median - 1.0)
    if apart > difference.noise:
        return ""
    return (
        f"too noisy to rank: {one} and {other} differ by {apart:.0%}, and that from round to round by "
        f"{difference.noise:.0%}"
    )
