"""A latency distribution as bars on a logarithmic scale. Pure."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from shmetrics.exporters.profiles.report_data import Bucket
from shmetrics.sketch import PER_OCTAVE

MOST_BARS: Final = 48
_OPEN: Final = 0.25
"""Octaves of the bar for a bucket that has no lower bound, or no upper one."""
_LEAST: Final = 2.0**-20
"""Seconds: what took less is in the first bar, as it is in a sketch."""


class _Range(NamedTuple):
    """A bucket by the base-2 logarithms of its bounds."""

    low: float
    high: float
    calls: int


def joined(buckets: Sequence[Bucket]) -> list[Bucket]:
    """Bars from the first bucket with calls to the last one with any: MOST_BARS at most, without holes.

    Each is one bucket or several neighbours as a whole; on the scale they are about equally wide, unless a bucket is
    wider by itself.
    """
    ranges = sorted(_range(bucket) for bucket in buckets if bucket.calls > 0)
    if not ranges:
        return []
    narrowest = width = max(1 / PER_OCTAVE, min(found.high - found.low for found in ranges))
    while len(bars := _bars(ranges, width, narrowest / 2)) > MOST_BARS:
        width *= 2
    return [Bucket(2.0**bar.low, 2.0**bar.high, bar.calls) for bar in bars]


def _range(bucket: Bucket) -> _Range:
    above, upto = max(bucket.above, _LEAST), max(bucket.upto, _LEAST)
    high = math.log2(upto) if math.isfinite(upto) else math.log2(above) + _OPEN
    low = math.log2(above) if bucket.above > 0.0 and above < upto else high - _OPEN
    return _Range(low, high, bucket.calls)


def _bars(ranges: Sequence[_Range], width: float, slack: float) -> list[_Range]:
    """Ranges joined from the left to bars of that width, give or take the slack; between ranges bars without calls."""
    bars: list[_Range] = []
    low, high, calls = ranges[0].low, ranges[0].low, 0
    for found in ranges:
        if found.high > low + width + slack:
            while low < found.low - slack:
                end = max(high, min(low + width, found.low))
                bars.append(_Range(low, end, calls))
                low, calls = end, 0
        high = found.high
        calls += found.calls
    bars.append(_Range(low, high, calls))
    return bars
