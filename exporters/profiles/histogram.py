"""A latency distribution as bars of equal width on a logarithmic scale. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from shmetrics.exporters.profiles.report_data import Bucket
from shmetrics.sketch import PER_OCTAVE

MOST_BARS: Final = 48
_LEAST: Final = 2.0**-20
"""Seconds: what is shorter is in the first bar, as it is in a sketch."""


def joined(buckets: Sequence[Bucket]) -> list[Bucket]:
    """Bars from the first bucket with calls to the last one with any, MOST_BARS at most, those between included.

    All are an octave / 2**n wide or 2**n octaves, and end at a multiple of that: so the buckets of a sketch, which are
    1/32 octave wide, are each in one bar as a whole. What lies above every bound is in the bar after the last.
    """
    places = [(_octave(bucket), bucket.calls) for bucket in buckets if bucket.calls > 0]
    if not places:
        return []
    step = 1 / PER_OCTAVE
    while _bar(max(places)[0], step) - _bar(min(places)[0], step) >= MOST_BARS:
        step *= 2
    bars: Counter[int] = Counter()
    for octave, calls in places:
        bars[_bar(octave, step)] += calls
    return [
        Bucket(2.0 ** ((index - 1) * step), 2.0 ** (index * step), bars[index])
        for index in range(min(bars), max(bars) + 1)
    ]


def _octave(bucket: Bucket) -> float:
    """The logarithm of a bucket's upper bound, or of what is just above the lower one if there is no upper."""
    if math.isfinite(bucket.upto):
        return math.log2(max(bucket.upto, _LEAST))
    return math.log2(max(bucket.above, _LEAST)) + 1 / PER_OCTAVE


def _bar(octave: float, step: float) -> int:
    return math.ceil(octave / step - 1e-6)  # a bound is inclusive, and a logarithm is not exact
