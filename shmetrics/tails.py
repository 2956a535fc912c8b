"""Tails: the records that each worker has not folded yet, added to its folded area, those of all workers at once. Pure.

What comes out is what `Folded.add_rows` makes of one area and its rows, to the last bit but for the order in which
floats are added up (tests hold the two against each other). Worker by worker it takes most of the time of a snapshot,
since a tail is short, and each of numpy's calls costs as much as a hundred records.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from shmetrics import native, sketch
from shmetrics.arrays import np
from shmetrics.folded import Areas, Rows, fill_measures, is_valid, no_rows, whole_seconds
from shmetrics.layout import FOLDED, MEASURES, SECONDS, offset_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORDS: Final = FOLDED.itemsize // 8
_MOST_ERRORS: Final = 1 << 53
"""A cumulative count is taken for no more than that: no honest one comes near, and a thousand fit into 64 bits."""

_Indices: TypeAlias = "NDArray[np.intp]"


@cache
def _sketches() -> _Indices:
    """In the words of an area, where the sketch of each measure starts: shape (len(MEASURES), 1)."""
    return offset_of(FOLDED, "sketch") // 8 + (np.arange(len(MEASURES)) * sketch.SIZE)[:, None]


def add_tails(areas: Areas, tails: Sequence[Rows]) -> None:
    """Add to each area its records, in place. Invalid records are counted, and otherwise left out. Never warns.

    ``areas``: shape (k,), contiguous, private memory. ``tails``: the records of each, oldest first.
    """
    if native.is_used():
        left = native.add_tails(areas, list(tails))
        if not left:
            return
        tails = [tails[at] if at in left else no_rows() for at in range(len(tails))]
    counts = [len(tail) for tail in tails]
    if not any(counts):
        return
    with np.errstate(all="ignore"):  # rows and areas may be hostile
        whose = np.repeat(np.arange(len(areas)), counts)
        measures = np.empty((len(MEASURES), len(whose)))
        are_valid = fill_measures(measures, tails)
        times, errors = (np.concatenate([tail[name] for tail in tails]) for name in ("time", "errors"))
        if not are_valid:
            good = is_valid(measures)
            areas["invalid"] += np.bincount(whose[~good], minlength=len(areas)).astype(np.uint64)
            whose, measures, times, errors = whose[good], measures[:, good], times[good], errors[good]
        if len(whose):
            _add_measures(areas, measures, whose)
            _add_seconds(areas, whole_seconds(times), errors, measures[-1], whose)


def _add_measures(areas: Areas, measures: NDArray[np.float64], whose: _Indices) -> None:
    starts = _starts(whose)
    mine = whose[starts]
    low, high = np.minimum.reduceat(measures, starts, axis=1).T, np.maximum.reduceat(measures, starts, axis=1).T
    had_none = (areas["valid"][mine] == 0)[:, None]
    areas["min"][mine] = np.where(had_none, low, np.minimum(areas["min"][mine], low))
    areas["max"][mine] = np.where(had_none, high, np.maximum(areas["max"][mine], high))
    areas["sum"][mine] += np.add.reduceat(measures, starts, axis=1).T
    areas["valid"][mine] += _lengths(starts, len(whose)).astype(np.uint64)
    bucket = sketch.bucket_index(measures)
    bucket += _sketches()
    bucket += whose * _WORDS
    np.add.at(areas.view(np.uint64), bucket.reshape(-1), np.uint64(1))


def _add_seconds(
    areas: Areas,
    seconds: NDArray[np.float64],
    errors: NDArray[np.uint64],
    latency: NDArray[np.float64],
    whose: _Indices,
) -> None:
    """Add valid records to the per-second rings, run by run: the records of one worker that follow in one second."""
    starts = _starts(whose, seconds)
    lengths = _lengths(starts, len(whose))
    mine, second = whose[starts], seconds[starts].astype(np.uint64)
    place = mine * SECONDS + (second % np.uint64(SECONDS)).astype(np.intp)
    columns = {
        "requests": lengths.astype(np.uint64),
        "second_errors": _growth(areas, errors[starts + lengths - 1], mine),
        "latency_sum": np.add.reduceat(latency, starts),
        "latency_max": np.maximum.reduceat(latency, starts),
    }
    # Runs in one place are added while they are of one second, and a second that is another starts anew there. So of
    # each place only the last second's runs count, and what the ring has only if they are the first there, and of its.
    order = np.argsort(place, kind="stable")
    place, second = place[order], second[order]
    first = _starts(place, second)
    place, second = place[first], second[first]
    changes = place[1:] != place[:-1]
    is_last, is_first = np.concatenate((changes, [True])), np.concatenate(([True], changes))
    at = np.divmod(place[is_last], SECONDS)
    goes_on = is_first[is_last] & (areas["second"][at] == second[is_last])
    areas["second"][at] = second[is_last]
    for name, column in columns.items():
        join = np.maximum if name == "latency_max" else np.add
        new, ring = join.reduceat(column[order], first)[is_last], areas[name]
        ring[at] = np.where(goes_on, join(ring[at], new), new)


def _growth(areas: Areas, errors: NDArray[np.uint64], mine: _Indices) -> NDArray[np.uint64]:
    """By how much each run's cumulative errors are above all before it of its worker, which the area then knows of.

    The workers' counts are put one above the other, so that one running maximum serves them all.
    """
    step, first = np.uint64(_MOST_ERRORS), _starts(mine)
    base = mine.astype(np.uint64) * step
    known = np.minimum(areas["errors"][mine[first]], step - np.uint64(1))
    count = np.minimum(errors, step - np.uint64(1))
    count[first] = np.maximum(count[first], known)
    highest = np.maximum.accumulate(count + base) - base
    before = np.concatenate((highest[:1], highest[:-1]))  # that of a worker's first run is known
    before[first] = known
    last = first + _lengths(first, len(mine)) - 1
    areas["errors"][mine[first]] = np.maximum(areas["errors"][mine[first]], highest[last])
    return np.asarray(highest - before)


def _starts(*columns: NDArray[np.generic]) -> _Indices:
    """Where a run of elements starts that are the same in each of the columns, which are not empty."""
    differs = np.zeros(len(columns[0]), np.bool_)
    differs[0] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def _lengths(starts: _Indices, end: int) -> _Indices:
    return np.concatenate((starts[1:], [end])) - starts
