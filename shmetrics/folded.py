"""The folded area: what remains of records once they have left the ring.

Sketches, sums and a per-second ring (``layout.FOLDED``). The same three operations serve everyone: the owner of a slot
adds rows to the inactive copy, a reader adds the rows that are not folded yet, the reaper adds one area to another.
So a percentile cannot depend on who did the folding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from shmetrics import native, sketch
from shmetrics.arrays import np
from shmetrics.layout import FOLDED, MEASURES, RECORD, SECONDS, offset_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows: TypeAlias = "NDArray[np.void]"
"""A one-dimensional array of ``layout.RECORD``."""

Areas: TypeAlias = "NDArray[np.void]"
"""A one-dimensional array of ``layout.FOLDED``: one area after another."""

Kept: TypeAlias = "NDArray[np.void] | bytearray"
"""An area in private memory: as a zero-dimensional array; or *packed*, as C keeps it, without the buckets that nothing
was counted in, nine tenths of it. See `unpacked`."""

_RAW: Final = len(MEASURES) - 1
_ROW_WORDS: Final = RECORD.itemsize // 8
AT: Final = {name: offset_of(FOLDED, name) // 8 for name in FOLDED.names}
"""Where each field starts among the words of an area."""
_VALID, _INVALID, _ERRORS, _SUM, _MIN, _MAX = (AT[name] for name in ("valid", "invalid", "errors", "sum", "min", "max"))
_SECOND, _REQUESTS, _SECOND_ERRORS = (AT[name] for name in ("second", "requests", "second_errors"))
_LATENCY_SUM, _LATENCY_MAX = AT["latency_sum"], AT["latency_max"]
_ALL_BITS: Final = 2**64 - 1
LATEST: Final = float(2**40)
_LARGEST_SUM: Final = 1e38
_RECORD_BITS: Final = 50
_MOST_RECORDS: Final = 1 << _RECORD_BITS
"""Records in one area at most: 35 years at a million a second; a thousand such areas add up without wrapping round."""
LIMIT: Final = 1e18
"""Measurements from here on count as infinite: 30 billion years, and the point where sums would stop being exact."""
SURELY_VALID: Final[int] = struct.unpack("Q", struct.pack("d", LIMIT / 4))[0]
"""The bits of floats from 0 up, taken for integers, are in the order of the floats, and those of all others are above.
So a record is valid if none of its measures has more than these; nor can three of them add up to LIMIT then."""

native.tell(
    "use_fold",
    **AT,
    seconds=SECONDS,
    buckets=sketch.SIZE,
    end=FOLDED.itemsize // 8,
    surely_valid=SURELY_VALID,
    most_records=_MOST_RECORDS,
    latest=LATEST,
    largest_sum=_LARGEST_SUM,
    limit=LIMIT,
    shift=sketch.CELL_SHIFT,
    cell_before=sketch.CELL_BEFORE,
    lowest=sketch.LOWEST,
    upper=sketch.UPPER,
)


@cache
def no_rows() -> Rows:
    """None at all."""
    return np.empty(0, RECORD)


@cache
def _sketch_starts() -> NDArray[np.intp]:
    """Where the sketch of each measure starts, of all of them one after the other: shape (len(MEASURES), 1)."""
    return (np.arange(len(MEASURES)) * sketch.SIZE)[:, None]


def fill_measures(table: NDArray[np.float64], parts: Sequence[Rows]) -> bool:
    """Put the measures of all rows of `parts`, n together, into `table`, shape (len(MEASURES), n). Are all valid?

    Nonsense in gives nonsense out, and is filtered as such. Never warns.
    """
    most = native.fill_measures(table, list(parts)) if native.is_used() else None
    if most is None:
        _fill_measures(table, parts)
    return (most is not None and most <= SURELY_VALID) or _all_valid(table)


def _fill_measures(table: NDArray[np.float64], parts: Sequence[Rows]) -> None:
    if parts:
        for at, name in enumerate(MEASURES[:_RAW]):
            np.concatenate([rows[name] for rows in parts], out=table[at])
    with np.errstate(over="ignore", invalid="ignore"):
        add_up_times(table)


def raw_measures(rows: Rows) -> NDArray[np.float64]:
    """The measures that n rows have, all but the last: a view of shape (len(MEASURES) - 1, n)."""
    measures: NDArray[np.float64] = rows.view(np.float64).reshape(-1, _ROW_WORDS)[:, 1 : 1 + _RAW].T
    return measures


def add_up_times(table: NDArray[np.float64]) -> None:
    """Fill the last row of `table`, total_time: the sum of the three times, from left to right."""
    total = table[_RAW]
    np.add(table[0], table[2], out=total)
    np.add(total, table[3], out=total)


def measures_of(rows: Rows) -> NDArray[np.float64]:
    """The measures of n rows: float64 of shape (len(MEASURES), n), contiguous."""
    table = np.empty((len(MEASURES), len(rows)))
    fill_measures(table, [rows])
    return table


def is_valid(measures: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which columns hold only numbers from 0 up to LIMIT: bool of shape (n,)."""
    return np.asarray(((measures >= 0.0) & (measures < LIMIT)).all(axis=0))


def _all_valid(measures: NDArray[np.float64]) -> bool:
    """Whether every column is valid. NaN makes min and max NaN, and every comparison with NaN is false."""
    return bool(measures.min(initial=0.0) >= 0.0 and measures.max(initial=0.0) < LIMIT)


def unpacked(kept: Kept) -> NDArray[np.void]:
    """An area as an array: zero-dimensional, dtype FOLDED."""
    if not isinstance(kept, bytearray):
        return kept
    area: NDArray[np.void] = np.zeros((), FOLDED)
    native.unpack(kept, area)
    return area


def bytes_of(area: NDArray[np.void]) -> NDArray[np.uint8]:
    """The bytes of a zero-dimensional array: a view."""
    view: NDArray[np.uint8] = np.ndarray((area.dtype.itemsize,), np.uint8, area.data)
    return view


class Area:
    """One ``layout.FOLDED`` area, in shared memory or private, as its bytes. Whoever calls owns it."""

    __slots__ = ("_bytes", "_folded", "_reals", "_words")

    def __init__(self, memory: memoryview[int]) -> None:
        self._bytes = memory
        # For single numbers: numpy takes several times as long to read one or to store it.
        self._words: memoryview[int] = memory.cast("Q")
        self._reals: memoryview[float] = memory.cast("d")
        self._folded: Folded | None = None

    @property
    def invalid_records(self) -> int:
        """How many records in it were kept out of its sums."""
        return self._words[_INVALID]

    @property
    def folded(self) -> Folded:
        """The same with its fields."""
        if self._folded is None:
            self._folded = Folded(np.ndarray((), FOLDED, self._bytes))
        return self._folded

    def copy_from(self, other: Area) -> None:
        """Become a copy of `other`, byte by byte."""
        self._bytes[:] = other._bytes

    def clear(self) -> None:
        """Forget everything."""
        self._bytes[:] = bytes(FOLDED.itemsize)


class Folded(Area):
    """One ``layout.FOLDED`` area with its fields bound once, as arrays.

    ``area``: a zero-dimensional array of dtype FOLDED (``areas[i, ...]``); new private memory when left out.
    Not synchronised: whoever calls owns the area it calls on.
    """

    __slots__ = (
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
        super().__init__(np.zeros(FOLDED.itemsize, np.uint8).data if area is None else bytes_of(area).data)
        area = np.ndarray((), FOLDED, self._bytes)
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

    def add_rows(self, rows: Rows) -> None:
        """Add records, oldest first. Invalid ones are counted and otherwise left out. Never warns, never raises.

        A worker does this in the middle of a request, every FOLD_BATCH records. Each call of numpy takes longer than a
        record does, so there are few of them; and ``np.errstate``, which takes as long as three, only where needed:
        valid records cause no warning, and with what is in the area, which may be hostile, Python computes.
        """
        if not len(rows):
            return
        measures = np.empty((len(MEASURES), len(rows)))
        raw = measures[:_RAW]
        raw[:] = raw_measures(rows)
        if np.maximum.reduce(raw.view(np.uint64), axis=None) <= SURELY_VALID:
            add_up_times(measures)
        else:
            measures = measures_of(rows)
            good = is_valid(measures)
            self._count(_INVALID, len(rows) - int(np.count_nonzero(good)))
            rows, measures = rows[good], measures[:, good]
            if not len(rows):
                return
        total, largest = self._add_measures(measures)
        times, errors = rows["time"], rows["errors"]
        least, most = float(np.minimum.reduce(times)), float(np.maximum.reduce(times))
        if least >= 0.0 and most < LATEST and int(least) == int(most):  # a busy worker: the whole batch in one second
            self._add_second(int(least), len(rows), total, largest, errors.item(-1))
        else:
            self._add_seconds(whole_seconds(times), errors, measures[_RAW])

    def _add_measures(self, measures: NDArray[np.float64]) -> tuple[float, float]:
        """Add valid records to all but the per-second ring. Returns the sum and the largest of their total_time."""
        words, reals = self._words, self._reals
        sums = np.add.reduce(measures, axis=1).tolist()
        least = np.minimum.reduce(measures, axis=1).tolist()
        most = np.maximum.reduce(measures, axis=1).tolist()
        is_first = not words[_VALID]
        for at in range(len(MEASURES)):
            reals[_SUM + at] += sums[at]
            if is_first or least[at] < reals[_MIN + at]:
                reals[_MIN + at] = least[at]
            if is_first or most[at] > reals[_MAX + at]:
                reals[_MAX + at] = most[at]
        self._count(_VALID, measures.shape[1])
        index = sketch.bucket_index(measures)
        index += _sketch_starts()
        self._sketch_flat += np.bincount(index.reshape(-1), minlength=self._sketch_flat.size).view(np.uint64)
        return sums[_RAW], most[_RAW]

    def _add_seconds(
        self, seconds: NDArray[np.float64], errors: NDArray[np.uint64], latency: NDArray[np.float64]
    ) -> None:
        """Add valid records to the per-second ring, one step for each run of records in the same second."""
        starts = np.flatnonzero(seconds[1:] != seconds[:-1]) + 1
        starts = np.concatenate(([0], starts))
        ends = np.concatenate((starts[1:], [len(seconds)]))
        columns = (
            seconds[starts].astype(np.uint64),
            ends - starts,
            np.add.reduceat(latency, starts),
            np.maximum.reduceat(latency, starts),
            errors[ends - 1],
        )
        for run in zip(*(column.tolist() for column in columns), strict=True):
            self._add_second(*run)

    def _add_second(self, second: int, requests: int, latency_sum: float, latency_max: float, errors: int) -> None:
        """Add valid records of one second that follow one another to the per-second ring.

        ``errors``: the cumulative column of the last. The errors of a second are what that grew by.
        """
        words, reals, at = self._words, self._reals, second % SECONDS
        if words[_SECOND + at] != second:
            words[_SECOND + at] = second
            words[_REQUESTS + at] = words[_SECOND_ERRORS + at] = 0
            reals[_LATENCY_SUM + at] = reals[_LATENCY_MAX + at] = 0.0
        self._count(_REQUESTS + at, requests)
        reals[_LATENCY_SUM + at] += latency_sum
        reals[_LATENCY_MAX + at] = max(reals[_LATENCY_MAX + at], latency_max)
        known = words[_ERRORS]
        if errors > known:
            self._count(_SECOND_ERRORS + at, errors - known)
            words[_ERRORS] = errors

    def _count(self, word: int, amount: int) -> None:
        """Add to a word, which wraps round as numpy's do: it may have been overwritten."""
        self._words[word] = (self._words[word] + amount) & _ALL_BITS


def whole_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times rounded down; one that no clock can have given (shared bytes are not trusted) becomes 0. Never warns."""
    with np.errstate(invalid="ignore"):
        seconds = np.floor(times)
        plausible = (seconds >= 0.0) & (seconds < LATEST)
    return seconds if plausible.all() else np.where(plausible, seconds, 0.0)


def merge(areas: Areas, which: Sequence[int] | None = None) -> Folded:
    """Add areas together: all of them, or those at the indices `which`. The result is private memory.

    In the per-second ring the newest second wins its place, and areas that hold it are added. Never warns: a reaper
    also adds to a retired area that nobody has checked, and must not raise into the request that made it reap.
    """
    merged = Folded()
    is_chosen = np.zeros(len(areas), np.bool_)
    is_chosen[slice(None) if which is None else which] = True
    if native.is_used():
        native.add_areas(merged.area, _together(areas), np.flatnonzero(is_chosen).tolist())
    elif is_chosen.any():
        with np.errstate(all="ignore"):
            _add_areas(merged, areas, is_chosen)
    return merged


def _add_areas(merged: Folded, areas: Areas, is_chosen: NDArray[np.bool_]) -> None:
    chosen: Any = slice(None) if is_chosen.all() else is_chosen  # mostly all are, and need not be copied first
    merged.valid[...] = areas["valid"][chosen].sum()
    merged.invalid[...] = areas["invalid"][chosen].sum()
    merged.errors[...] = areas["errors"][chosen].sum()
    used = np.flatnonzero(is_chosen & (areas["valid"] > 0))
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


def _together(areas: Areas) -> Areas:
    """These areas as C takes them: numpy leaves out what is between them where it joins arrays."""
    return np.ascontiguousarray(areas, FOLDED)


def flaw(area: Any, folded_records: int, now: float) -> str | None:
    """What is impossible about an area that claims to hold `folded_records` at the monotonic time `now`, or None.

    ``area``: a zero-dimensional FOLDED array from a shared segment, whose every byte is taken to be hostile.
    """
    return flaws(np.asarray(area).reshape(1), [folded_records], now).get(0)


def flaws(areas: Areas, folded_records: Sequence[int], now: float) -> dict[int, str]:
    """`flaw` of many areas at once, one of `folded_records` for each: by index, those that have one.

    C says which may have one, mostly none, and Python which that is.
    """
    if not native.is_used():
        return _flaws(areas, folded_records, now)
    which = native.doubtful(_together(areas), list(folded_records), now)
    if not which:
        return {}
    found = _flaws(areas[which], [folded_records[at] for at in which], now)
    return {which[at]: what for at, what in found.items()}


def _flaws(areas: Areas, folded_records: Sequence[int], now: float) -> dict[int, str]:
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
