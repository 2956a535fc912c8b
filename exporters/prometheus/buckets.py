"""Buckets: how many records were at or under a bound, read off the sketch when a page is rendered.

A bucket is a choice of whoever reads, not of whoever records: the sketch has 1,280 of them, and any of its edges may be
asked for at any time, of records long past too. A bound that is no edge of the sketch counts as the next edge above
it, at most 2.2 % (one step of the sketch) higher: whatever was at or under the bound is counted for certain, and a
record above it by less than that may be. Powers of two are edges, so the default bounds are exact, and so is any whole
bound up to 45 where only whole numbers are recorded. Pure.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import sketch
from shmetrics.layout import MEASURES

DURATION_BUCKETS: Final = tuple(2.0**exponent for exponent in range(-10, 7))
"""Seconds: 1/1024, twice as much, ... to 64. From a cached answer to a long generation."""
BATCH_BUCKETS: Final = tuple(2.0**exponent for exponent in range(11))
"""Samples: 1, 2, 4, ... to 1,024."""

Buckets = Sequence[float] | Mapping[str, Sequence[float]] | None
"""Bounds of all durations; or a mapping from a measure's name to its bounds; None for the defaults."""

_SMALLEST: Final = 2.0**sketch.MIN_EXPONENT
_LARGEST: Final = 2.0**sketch.MAX_EXPONENT


def bounds_by_measure(buckets: Buckets = None) -> dict[str, tuple[float, ...]]:
    """The finite upper bounds for each of ``layout.MEASURES``, ascending.

    A plain sequence is for the four durations; ``batch_size`` keeps its own unless a mapping names it. A last bound of
    +Inf is allowed and goes without saying. ValueError for an unknown measure, and for bounds that are no numbers, not
    ascending, none at all, or outside of what the sketch tells apart (0, and 2**-20 to 2**20).
    """
    bounds = {measure: BATCH_BUCKETS if measure == "batch_size" else DURATION_BUCKETS for measure in MEASURES}
    if buckets is None:
        return bounds
    if not isinstance(buckets, Mapping):
        chosen = _checked(buckets, "buckets")
        return {measure: known if measure == "batch_size" else chosen for measure, known in bounds.items()}
    for measure, asked in buckets.items():
        if measure not in bounds:
            raise ValueError(f"buckets for {measure!r}, which is not measured; there are: {', '.join(MEASURES)}")
        bounds[measure] = _checked(asked, f"buckets of {measure}")
    return bounds


def _checked(asked: Sequence[float], what: str) -> tuple[float, ...]:
    try:
        bounds = tuple(float(bound) for bound in asked)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be numbers, not {asked!r}") from None
    if bounds and bounds[-1] == math.inf:
        bounds = bounds[:-1]
    if not bounds:
        raise ValueError(f"{what} must have a finite bound at least, not {asked!r}")
    for bound in bounds:
        if not (bound == 0.0 or _SMALLEST <= bound <= _LARGEST):
            raise ValueError(f"{what} must be 0, or from 2**-20 to 2**20, not {bound!r}")
    for low, high in itertools.pairwise(bounds):
        if not low < high:
            raise ValueError(f"{what} must ascend, but {high!r} follows {low!r}")
    return bounds


def cumulative(counts: NDArray[Any], bounds: Sequence[float]) -> list[int]:
    """How many records were at or under each bound, and at the end how many there are.

    ``counts``: one measure's sketch, integers of shape (sketch.SIZE,). ``bounds``: as `bounds_by_measure` gives them.
    The same arithmetic puts a bound into the sketch as put the records there, so a record equal to a bound is counted.
    """
    so_far = np.cumsum(counts)
    return [*so_far[_index(tuple(bounds))].tolist(), int(so_far[-1])]


@lru_cache(64)
def _index(bounds: tuple[float, ...]) -> NDArray[np.intp]:
    """The bucket of each bound in the sketch; not to be changed."""
    return sketch.bucket_index(np.array(bounds, np.float64))


def edges(bounds: Sequence[float]) -> list[float]:
    """What each bound counts as: itself where it is an edge of the sketch, else the next edge above it."""
    edge: list[float] = sketch.upper_bounds()[_index(tuple(bounds))].tolist()
    return edge
