"""The folded area: what remains of records once they have left the ring.

Sketches, sums and a per-second ring (``layout.FOLDED``). The same three operations serve everyone: the owner of a slot
adds rows to the inactive copy, a reader adds the rows that are not folded yet, the reaper adds one area to another.
So a percentile cannot depend on who did the folding.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import sketch
from shmetrics.layout import FOLDED, MEASURES, RECORD, SECONDS

Rows = NDArray[np.void]
"""A one-dimensional array of ``layout.RECORD``."""

Areas = NDArray[np.void]
"""A one-dimensional array of ``layout.FOLDED``: one area after another."""

_RAW: Final = len(MEASURES) - 1
_ROW_WORDS: Final = RECORD.itemsize // 8
_SKETCH_START: Final = (np.arange(len(MEASURES)) * sketch.SIZE)[:, None]
_LATEST: Final = float(2**40)
_LARGEST_SUM: Final = 1e38
_RECORD_BITS: Final = 50
_MOST_RECORDS: Final = 1 << _RECORD_BITS
"""Records in one area at most: 35 years at a million a second; a thousand such areas add up without wrapping round."""
LIMIT: Final = 1e18
"""Measurements from here on count as infinite: 30 billion years, and the point where sums would stop being exact."""


def fill_measures(table: NDArray[np.float64], parts: Sequence[Rows]) -> None:
    """Put the measures of all rows of `parts`, n together, into `table`, shape (len(MEASURES), n).

    total_time is summed left to right.
    """
    at = 0
    for rows in parts:
        table[:_RAW, at : at + len(rows)] = rows.view(np.float64).reshape(-1, _ROW_WORDS)[:, 1 : 1 + _RAW].T
        at += len(rows)
    with np.errstate(over="ignore", invalid="ignore"):  # nonsense in gives nonsense out, and is filtered as such
        np.add(table[0], table[2], out=table[_RAW])
        table[_RAW] += table[3]


def measures_of(rows: Rows) -> NDArray[np.float64]:
    """The measures of n rows: float64 of shape (len(MEASURES), n), contiguous."""
    table = np.empty((len(MEASURES), len(rows)))
    fill_measures(table, [rows])
    return table


def is_valid(measures: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which columns hold only numbers from 0 up to LIMIT: bool of shape (n,)."""
    return np.asarray(((measures >= 0.0) & (measures < LIMIT)).all(axis=0))


def all_valid(measures: NDArray[np.float64]) -> bool:
    """Whether every column is valid. NaN makes min and max NaN, and every comparison with NaN is false."""
    return bool(measures.min(initial=0.0) >= 0.0 and measures.max(initial=0.0) < LIMIT)


def bytes_of(area: NDArray[np.void]) -> NDArray[np.uint8]:
    """The bytes of a zero-dimensional array: a view."""
    view: NDArray[np.uint8] = np.ndarray((area.dtype.itemsize,), np.uint8, area.data)
    return view


class Folded:
    """One ``layout.FOLDED`` area, in shared memory or private, with its fields bound once.

    ``area``: a zero-dimensional array of dtype FOLDED (``areas[i, ...]``); new private memory when left out.
    Not synchronised: whoever calls owns the area it calls on.
    """

    __slots__ = (
        "_bytes",
        "_sketch_flat",
        "area",
        "errors",
        "invalid",
        "latency_max",
        "latency_sum",
        "maximum",
        "minimum",
        "requests",
        "second",
        "second_errors",
        "sketch",
        "sum",
        "valid",
    )  # fmt: skip

    def __init__(self, area: NDArray[np.void] | None = None) -> None:
        self._bytes = np.zeros(FOLDED.itemsize, np.uint8) if area is None else bytes_of(area)
        area = np.ndarray((), FOLDED, self._bytes.data)
        self.area = area
        self.valid: NDArray[np.uint64] = area["valid"]
        self.invalid: NDArray[np.uint64] = area["invalid"]
        self.errors: NDArray[np.uint64] = area["errors"]
        self.sum: NDArray[np.float64] = area["sum"]
        self.minimum: NDArray[np.float64] = area["min"]
        self.maximum: NDArray[np.float64] = area["max"]
        self.sketch: NDArray[np.uint64] = area["sketch"]
        self.second: NDArray[np.uint64] = area["second"]
        self.requests: NDArray[np.uint64] = area["requests"]
        self.second_errors: NDArray[np.uint64] = area["second_errors"]
        self.latency_sum: NDArray[np.float64] = area["latency_sum"]
        self.latency_max: NDArray[np.float64] = area["latency_max"]
        self._sketch_flat = self.sketch.reshape(-1)

    def copy_from(self, other: "Folded") -> None:
        """Become a copy of `other`, byte by byte."""
        self._bytes[:] = other._bytes

    def clear(self) -> None:
        """Forget everything."""
        self._bytes[:] = 0

    def add_rows(self, rows: Rows) -> None:
        """Add records, oldest first. Invalid ones are counted and otherwise left out. Never warns, never raises."""
        if len(rows):
            with np.errstate(all="ignore"):  # what is in the area may be hostile; the owner's request must not notice
                self._add_rows(rows)

    def _add_rows(self, rows: Rows) -> None:
        measures, times, errors = measures_of(rows), rows["time"], rows["errors"]
        low, high = measures.min(axis=1), measures.max(axis=1)
        if not (low.min() >= 0.0 and high.max() < LIMIT):
            good = is_valid(measures)
            self.invalid += np.uint64(len(rows) - np.count_nonzero(good))
            measures, times, errors = measures[:, good], times[good], errors[good]
            if not len(times):
                return
            low, high = measures.min(axis=1), measures.max(axis=1)
        if self.valid:
            np.minimum(self.minimum, low, out=self.minimum)
            np.maximum(self.maximum, high, out=self.maximum)
        else:
            self.minimum[:] = low
            self.maximum[:] = high
        self.sum += measures.sum(axis=1)
        self.valid += np.uint64(len(times))
        index = sketch.bucket_index(measures)
        index += _SKETCH_START
        self._sketch_flat += np.bincount(index.reshape(-1), minlength=self._sketch_flat.size).view(np.uint64)
        self._add_seconds(times, errors, measures[-1])

    def _add_seconds(
        self, times: NDArray[np.float64], errors: NDArray[np.uint64], latency: NDArray[np.float64]
    ) -> None:
        """Add valid records to the per-second ring, one step for each run of records in the same second.

        The errors of a second are what the cumulative column grew by up to its last record.
        """
        seconds = whole_seconds(times)
        if seconds[0] == seconds[-1]:  # a busy worker: the whole batch within one second
            starts = np.zeros(1, np.intp)
        else:
            starts = np.concatenate(([0], np.flatnonzero(seconds[1:] != seconds[:-1]) + 1))
        ends = [*starts[1:].tolist(), len(times)]
        known_errors = int(self.errors)
        for start, end, latency_sum, latency_max in zip(
            starts.tolist(),
            ends,
            np.add.reduceat(latency, starts).tolist(),
            np.maximum.reduceat(latency, starts).tolist(),
            strict=True,
        ):
            second = int(seconds[start])
            at = second % SECONDS
            if self.second[at] != second:
                self.second[at] = second
                self.requests[at] = self.second_errors[at] = 0
                self.latency_sum[at] = self.latency_max[at] = 0.0
            self.requests[at] += np.uint64(end - start)
            self.latency_sum[at] += latency_sum
            self.latency_max[at] = max(self.latency_max[at], latency_max)
            errors_by_now = int(errors[end - 1])
            if errors_by_now > known_errors:
                self.second_errors[at] += np.uint64(errors_by_now - known_errors)
                known_errors = errors_by_now
        self.errors[...] = known_errors


def whole_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times rounded down; one that no clock can have given (shared bytes are not trusted) becomes 0."""
    seconds = np.floor(times)
    plausible = (seconds >= 0.0) & (seconds < _LATEST)
    return seconds if plausible.all() else np.where(plausible, seconds, 0.0)


def merge(areas: Areas, which: Sequence[int] | None = None) -> Folded:
    """Add areas together: all of them, or those at the indices `which`. The result is private memory.

    In the per-second ring the newest second wins its place, and areas that hold it are added. Never warns: a reaper
    also adds to a retired area that nobody has checked, and must not raise into the request that made it reap.
    """
    merged = Folded()
    chosen = np.arange(len(areas)) if which is None else np.asarray(which, np.intp)
    if len(chosen):
        with np.errstate(all="ignore"):
            _add_areas(merged, areas, chosen)
    return merged


def _add_areas(merged: Folded, areas: Areas, chosen: NDArray[np.intp]) -> None:
    merged.valid[...] = areas["valid"][chosen].sum()
    merged.invalid[...] = areas["invalid"][chosen].sum()
    merged.errors[...] = areas["errors"][chosen].sum()
    used = chosen[areas["valid"][chosen] > 0]
    if len(used):
        merged.sum[:] = areas["sum"][used].sum(axis=0)
        merged.minimum[:] = areas["min"][used].min(axis=0)
        merged.maximum[:] = areas["max"][used].max(axis=0)
    sketches = areas["sketch"]
    for at in used.tolist():  # one by one: a selection of them would first be copied, and the empty are left out
        merged.sketch += sketches[at]
    seconds = areas["second"][chosen]
    seconds.max(axis=0, out=merged.second)
    current = seconds == merged.second
    for source, target in (("requests", merged.requests), ("second_errors", merged.second_errors),
                           ("latency_sum", merged.latency_sum)):  # fmt: skip
        areas[source][chosen].sum(axis=0, where=current, out=target)
    np.max(areas["latency_max"][chosen], axis=0, where=current, initial=0.0, out=merged.latency_max)


def flaw(area: Any, folded_records: int, now: float) -> str | None:
    """What is impossible about an area that claims to hold `folded_records` at the monotonic time `now`, or None.

    ``area``: a zero-dimensional FOLDED array from a shared segment, whose every byte is taken to be hostile.
    """
    return flaws(np.asarray(area).reshape(1), [folded_records], now).get(0)


def flaws(areas: Areas, folded_records: Sequence[int], now: float) -> dict[int, str]:
    """`flaw` of many areas at once, one of `folded_records` for each: by index, those that have one."""
    found: dict[int, str] = {}

    def note(wrong: Any, what: str) -> None:
        for at in np.flatnonzero(wrong).tolist():
            found.setdefault(at, what)

    valid, invalid = areas["valid"], areas["invalid"]
    known = np.array([min(count, _MOST_RECORDS + 1) for count in folded_records], np.uint64)
    most = np.uint64(_MOST_RECORDS)
    note(
        (valid > most) | (invalid > most) | (known > most) | (valid + invalid != known),
        "its counts do not add up to the records folded, or to more than there can have been",
    )
    sketches = areas["sketch"]
    # No bucket may hold so much that the sum wraps round; then none holds more than the sum either.
    large = np.bitwise_or.reduce(sketches, axis=2) >> np.uint64(_RECORD_BITS + 1)
    note(
        (large.any(axis=1)) | (sketches.sum(axis=2) != valid[:, None]).any(axis=1),
        "its sketches do not add up to its count",
    )
    for name in ("sum", "min", "max", "latency_sum", "latency_max"):
        numbers = areas[name]
        note(~((numbers >= 0.0) & (numbers <= _LARGEST_SUM)).all(axis=1), "its sums are not plausible numbers")
    note((areas["min"] > areas["max"]).any(axis=1), "a minimum is above its maximum")
    beyond = (areas["second"] > now + 1.0) | (areas["requests"] > known[:, None])
    beyond |= areas["second_errors"] > areas["errors"][:, None]
    note(beyond.any(axis=1), "its per-second ring is out of range")
    return found
