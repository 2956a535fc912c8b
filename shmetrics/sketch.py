"""The sketch: how a measurement becomes a bucket, and how buckets become a percentile again.

Base-2 exponential buckets at scale 5, as in OpenTelemetry's exponential histogram and Prometheus' native histogram
(schema 5): 32 buckets an octave, each 2**(1/32) times as wide as the one before, a bucket's *upper* bound inclusive.
Reporting a bucket by ``2 * upper / (growth + 1)`` keeps the relative error at or under
``(growth - 1) / (growth + 1)`` = 1.083 % (the DDSketch bound; Masson, Rim and Lee, VLDB 2019).

The range is 2**-20 to 2**20, the powers of two around 1e-6 and 1e6: in seconds from about a microsecond to twelve
days, and every batch size in use. It is fixed, so that sketches of all workers merge by plain addition.

Index in the array::

    0          exactly zero (a stage that did not run)
    1          underflow: 0 < v <= 2**-20
    2 .. 1281  the buckets: index i holds 2**(-20 + (i-2)/32) < v <= 2**(-20 + (i-1)/32)
    1282       overflow: v > 2**20

Everything here is a pure function and may be called from anywhere.
"""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shmetrics.arrays import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE: Final = 5
PER_OCTAVE: Final = 2**SCALE
MIN_EXPONENT: Final = -20
MAX_EXPONENT: Final = 20
BUCKETS: Final = (MAX_EXPONENT - MIN_EXPONENT) * PER_OCTAVE

ZERO: Final = 0
UNDERFLOW: Final = 1
FIRST: Final = 2
OVERFLOW: Final = FIRST + BUCKETS
SIZE: Final = OVERFLOW + 1

GROWTH: Final = 2.0 ** (1 / PER_OCTAVE)
RELATIVE_ERROR: Final = (GROWTH - 1) / (GROWTH + 1)


UPPER: Final = memoryview(
    array("d", [0.0, *(2.0 ** (MIN_EXPONENT + bucket / PER_OCTAVE) for bucket in range(BUCKETS + 1)), math.inf])
)
"""Inclusive upper bound of each index: 0.0 for ZERO, +inf for OVERFLOW."""

CELL_SHIFT: Final = 52 - (SCALE + 1)
"""A float's bits without the last so many are its *cell*: 64 an octave, in the order of the floats. Each is narrower
than any bucket, so that there is one bound in it at most."""


def _cell(value: float) -> int:
    bits: int = struct.unpack("q", struct.pack("d", value))[0]
    return bits >> CELL_SHIFT


def _least(cell: int) -> float:
    """The least value of a cell."""
    value: float = struct.unpack("d", struct.pack("q", cell << CELL_SHIFT))[0]
    return value


CELL_BEFORE: Final = _cell(2.0**MIN_EXPONENT) - 1
"""The cell before the first that `LOWEST` tells apart."""

LOWEST: Final = memoryview(
    array(
        "l",
        [
            ZERO,
            *(
                bisect_left(UPPER, _least(cell), hi=OVERFLOW)
                for cell in range(CELL_BEFORE + 1, _cell(2.0**MAX_EXPONENT) + 1)
            ),
        ],
    )
)
"""The bucket of the least value of each cell from that of 2**MIN_EXPONENT up to that of 2**MAX_EXPONENT, after ZERO for
all cells before."""


class _Arrays(NamedTuple):
    upper: NDArray[np.float64]
    lowest: NDArray[np.intp]
    representatives: NDArray[np.float64]
    """The value that stands for each index, within RELATIVE_ERROR of everything in a regular bucket."""


@cache
def _arrays() -> _Arrays:
    upper = upper_bounds()
    values = 2.0 * upper / (GROWTH + 1)
    values[UNDERFLOW] = 2.0 ** (MIN_EXPONENT - 1)
    values[OVERFLOW] = 2.0**MAX_EXPONENT
    return _Arrays(upper, np.asarray(LOWEST), values)


def upper_bounds() -> NDArray[np.float64]:
    """`UPPER` as an array: float64 of shape (SIZE,)."""
    return np.array(UPPER)


def bucket_index(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """The array index of each value.

    ``values``: float64 of any shape, finite and not negative (the caller has filtered). Returns intp of that shape,
    each in ``[0, SIZE)``: exactly what the bounds say. No logarithm, which takes twice as long and errs in the last
    bit: the value's cell names the bucket in which the cell begins, and whoever is above that one's bound is in the
    next. Below 2**MIN_EXPONENT these two are ZERO and UNDERFLOW; what is beyond the last cell is taken to be in it.
    """
    arrays = _arrays()
    index = arrays.lowest.take((values.view(np.int64) >> CELL_SHIFT) - CELL_BEFORE, mode="clip")
    index += values > arrays.upper.take(index)
    return index


def quantiles(
    counts: NDArray[Any], fractions: NDArray[np.float64], minimum: float, maximum: float
) -> NDArray[np.float64]:
    """Estimate quantiles the way ``numpy.percentile`` (linear) defines them.

    ``counts``: integers of shape (SIZE,); ``fractions``: shape (k,), each in [0, 1]; ``minimum`` and ``maximum``: the
    exact extremes of what was counted, which bound the open buckets. Returns float64 of shape (k,), zeros when empty.

    The two order statistics around the rank are each estimated within RELATIVE_ERROR, and so is any point between
    them: the bound holds against the exact linear percentile, not only against some sample near it.
    """
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if total == 0:
        return np.zeros(len(fractions))
    rank = fractions * (total - 1)
    below = np.floor(rank)
    estimate = np.clip(_arrays().representatives, minimum, maximum)
    lower = estimate[np.searchsorted(cumulative, below, side="right")]
    upper = estimate[np.searchsorted(cumulative, np.ceil(rank), side="right")]
    return lower + (upper - lower) * (rank - below)
