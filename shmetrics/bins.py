"""Bins: one resolution of the history, a ring of time bins in memory that is allocated once. Pure.

A bin is what the fleet's totals grew by between two looks at them, and the bins of a ring follow one another: each
begins where the one before it ended, but for gaps in which nobody looked. So any window is a sum of bins.

Of its five sketches (`sketch`, 1,283 buckets each) a bin keeps the buckets in use, as pairs of index and count: a
second of a busy fleet uses a few hundred of the 6,415. Every bin has room for the same number of pairs. One that needs
more merges neighbours, in threes, then fives and so on, starting with the measure that uses most: the merged count
stands in the middle bucket of the group, so that whoever reads sees buckets as ever. The relative error of a group of
``w`` is ``(growth**w - 1) / (growth**w + 1)``: 1.08 % alone, 3.25 % of three, 5.4 % of five.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import sketch
from shmetrics.layout import MEASURES

COLUMNS: Final = (
    "requests",
    "errors",
    "cache_hits",
    "cache_misses",
    "records",  # valid ones: those in the sketches
    "latency_sum",  # seconds of total_time
    "busy",  # busy fraction of the mean worker, times seconds
    "workers",  # live workers, times seconds
    "rss",  # bytes of the mean worker, times seconds
    "rss_seconds",  # for which that was known
)
"""What a bin has of everything that adds up."""
AT: Final = {name: at for at, name in enumerate(COLUMNS)}

BUCKETS: Final = len(MEASURES) * sketch.SIZE
"""Of all sketches of a fleet, one after the other."""

Figures = NDArray[np.float64]
"""float64 of shape (len(COLUMNS),)."""
Buckets = NDArray[np.uint64]
"""uint64 of shape (BUCKETS,)."""

_MOST: Final = int(np.iinfo(np.uint32).max)


class Bins:
    """A ring of bins of ``step`` seconds and more, oldest first; the newest takes the place of the oldest.

    ``rows``: how many bins it holds; ``room``: pairs of index and count that each has room for, at least 512. Not
    synchronised: whoever calls owns it.
    """

    def __init__(self, step: float, rows: int, room: int) -> None:
        self.step = step
        self.rows = rows
        self.room = room
        self.added = 0
        """Bins ever added: the newest is number ``added - 1``."""
        self.begin = np.zeros(rows)
        self.end = np.zeros(rows)
        self.figures = np.zeros((rows, len(COLUMNS)))
        self.latency_max = np.zeros(rows)
        self._used = np.zeros(rows, np.uint16)
        self._index = np.zeros((rows, room), np.uint16)
        self._count = np.zeros((rows, room), np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes of all it has; they never change."""
        arrays = (self.begin, self.end, self.figures, self.latency_max, self._used, self._index, self._count)
        return sum(array.nbytes for array in arrays)

    def add(self, begin: float, end: float, figures: Figures, latency_max: float, buckets: Buckets) -> None:
        """Take in a bin, later than all others. ``buckets``: counts beyond 2^32 - 1 are kept as that."""
        index = np.flatnonzero(buckets)
        if len(index) > self.room:
            buckets = coarsened(buckets, self.room)
            index = np.flatnonzero(buckets)
        self.add_pairs(begin, end, figures, latency_max, index, np.minimum(buckets[index], _MOST))

    def add_pairs(  # noqa: PLR0917  a bin's parts in order
        self,
        begin: float,
        end: float,
        figures: Figures,
        latency_max: float,
        index: NDArray[np.integer],
        count: NDArray[np.integer],
    ) -> None:
        """Take in a bin whose buckets in use are known, as `pairs` gives them, and no more than there is room for."""
        at, used = self.added % self.rows, len(index)
        self.begin[at], self.end[at] = begin, end
        self.figures[at] = figures
        self.latency_max[at] = latency_max
        self._index[at, :used] = index
        self._count[at, :used] = count
        self._count[at, used:] = 0  # so that nobody needs to know where a row ends
        self._used[at] = used
        self.added += 1

    def pairs(self, at: int) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        """Index and count of the buckets in use of the bin in place `at`: views."""
        used = int(self._used[at])
        return self._index[at, :used], self._count[at, :used]

    def numbers(self, since: int = 0) -> NDArray[np.intp]:
        """The numbers of the bins that are there, from number `since` on, oldest first."""
        return np.arange(max(since, self.added - self.rows), self.added)

    def places(self, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where those of these bins are that have not been replaced yet."""
        return np.asarray(numbers[numbers >= self.added - self.rows] % self.rows)

    def since(self, begin: float) -> NDArray[np.intp]:
        """The numbers of the bins that begin at the monotonic time `begin` or later, oldest first."""
        numbers = self.numbers()
        return np.asarray(numbers[self.begin[numbers % self.rows] >= begin])

    def buckets(self, places: NDArray[np.intp]) -> Buckets:
        """The sketches of the bins in these places, added together."""
        used = int(self._used[places].max(initial=0))
        index, count = self._index[places, :used].ravel(), self._count[places, :used].ravel()
        return np.bincount(index, weights=count, minlength=BUCKETS).astype(np.uint64)


def coarsened(buckets: Buckets, room: int) -> Buckets:
    """The same counts in at most `room` buckets: see above."""
    exact = buckets.reshape(len(MEASURES), sketch.SIZE)
    coarse = exact.copy()
    widths = [1] * len(MEASURES)
    while np.count_nonzero(coarse) > room:
        row = int(np.count_nonzero(coarse, axis=1).argmax())
        widths[row] += 2
        coarse[row] = _grouped(exact[row], widths[row])
    flat: Buckets = coarse.reshape(-1)
    return flat


def _grouped(counts: Buckets, width: int) -> Buckets:
    """One sketch with every `width` regular buckets merged into the middle one; ``width`` is odd."""
    target = np.arange(sketch.SIZE)
    regular = target[sketch.FIRST : sketch.OVERFLOW]
    regular -= (regular - sketch.FIRST) % width - width // 2
    np.minimum(regular, sketch.OVERFLOW - 1, out=regular)
    return np.bincount(target, weights=counts, minlength=sketch.SIZE).astype(np.uint64)
