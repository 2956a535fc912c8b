"""Percentiles and medians of rows of numbers, exact: to the bit what numpy's functions of those names give. Pure.

Only the few values between which a percentile lies have to be known, so rows that are long are not sorted. What is in
those places is the same whoever finds it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from shmetrics import native
from shmetrics.arrays import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES: Final = (50, 95, 99)
_LEAST_TO_SELECT: Final = 10_000
"""Values of which it takes no longer to select those that percentiles want than to sort them all."""
_LEAST_IN_C: Final = 500
"""The same in C."""

_Rows: TypeAlias = "NDArray[np.float64]"


class Percentiles(NamedTuple):
    """Of some rows."""

    each: list[list[float]]
    """A list for each of PERCENTILES, with a number for each row."""
    medians: list[float]
    """A number for each row: of two values in the middle the mean."""


def percentiles(rows: _Rows) -> Percentiles:
    """Those of each row of valid numbers, not changed; shape (n, count), count 1 at least.

    numpy would select anew for each call. The formula is numpy's, including that it interpolates from the nearer end.
    """
    last = rows.shape[1] - 1
    positions = [last * (percent / 100) for percent in PERCENTILES]
    places = [(math.floor(position), min(math.floor(position) + 1, last)) for position in positions]
    found = _at_ranks(rows, [rank for both in places for rank in both])
    columns = []
    for at, position in enumerate(positions):
        low, high, fraction = found[:, 2 * at], found[:, 2 * at + 1], position - math.floor(position)
        step = high - low
        columns.append((low + step * fraction if fraction < 0.5 else high - step * (1 - fraction)).tolist())
    low, high = found[:, 0], found[:, last % 2]  # one value in the middle, or two
    return Percentiles(columns, ((low + high) / 2.0).tolist())


def _at_ranks(rows: _Rows, ranks: list[int]) -> _Rows:
    """Of each row what would be at these ranks, ascending, if it were sorted: shape (n, len(ranks)).

    A zero below zero is none: sorting leaves these wherever they were among the others.
    """
    count = rows.shape[1]
    if count >= _LEAST_IN_C and native.is_used():
        found = native.at_ranks(np.ascontiguousarray(rows), count, ranks)
        return np.frombuffer(found, np.float64).reshape(len(rows), len(ranks))
    arranged = np.sort(rows) if count < _LEAST_TO_SELECT else _arranged(rows)
    return np.asarray(arranged[:, ranks] + 0.0)


def _arranged(rows: _Rows) -> _Rows:
    """A copy in which those values of each row are in their places that PERCENTILES look at."""
    arranged: _Rows = rows.copy()
    for row in arranged:
        if row[0] != row[-1] or (row != row[0]).any():  # a stage that nobody measures is all 0.0
            _arrange(row)
    return arranged


def _arrange(row: _Rows) -> None:
    """Put those values into their places, in place, and others anywhere.

    To select one takes a quarter of a sort, and the next is among those that are above it. Where a percentile lies
    between two, the upper of them is the least of those above the lower.
    """
    first = 0
    for percent in PERCENTILES:
        below = math.floor((len(row) - 1) * (percent / 100))
        row[first:].partition(below - first)
        above = row[below + 1 :]
        least = above.argmin()
        above[0], above[least] = above[least], above[0]
        first = below + 2
