"""The window: the last records of every worker that counts, as one table, and the rates that follow from it. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from shmetrics import native
from shmetrics.arrays import np
from shmetrics.folded import Rows, fill_measures, is_valid
from shmetrics.layout import MEASURES
from shmetrics.snapshot import WorkerSnapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHORTEST_SPAN: Final = 1e-9
"""Seconds; no two records are closer."""


@dataclass(frozen=True)
class Window:
    """The union of some workers' windows."""

    measures: NDArray[np.float64]
    """Every valid record: float64 of shape (len(MEASURES), n); worker by worker, oldest first."""
    requests: int
    """Records in it, invalid ones included."""
    errors: int
    cache_hits: int
    cache_misses: int
    throughput: float
    """Requests per second: the sum over workers of each one's rate across its own window."""
    samples_per_second: float
    """The same, each request weighed by its batch size."""

    @property
    def count(self) -> int:
        """Valid records."""
        return int(self.measures.shape[1])


def window_of(workers: Iterable[WorkerSnapshot], *, since: float = 0.0) -> Window:
    """The union of the windows of `workers`, from the monotonic time `since` on; see `Windows.union`."""
    return Windows(list(workers), since=since).union()


class Windows:
    """The windows of some workers from a monotonic time on, all in one table, of which each worker has its columns."""

    def __init__(self, workers: Sequence[WorkerSnapshot], *, since: float = 0.0) -> None:
        self._workers = workers
        self._skipped = [_before(worker.window, since) if since > 0.0 else 0 for worker in workers]
        """Of each worker, the records of its window that are too old."""
        windows = [worker.window[skipped:] if skipped else worker.window
                   for worker, skipped in zip(workers, self._skipped, strict=True)]  # fmt: skip
        self._rows = {at: rows for at, rows in enumerate(windows) if len(rows)}
        """By the worker's index; of those that have any records."""
        self.counts = list(map(len, windows))
        """Of each worker, its valid records."""
        self._requests = sum(self.counts)
        self.measures = np.empty((len(MEASURES), self._requests))
        """As those of `Window`."""
        with np.errstate(over="ignore", invalid="ignore"):
            are_valid = fill_measures(self.measures, list(self._rows.values()))
        spans = {at: _span(rows) for at, rows in self._rows.items()} if are_valid else self._narrow()
        self._rates = [(0.0, 0.0)] * len(workers)
        """Of each worker, its requests per second across its own window, and samples."""
        for which, batches in self.alike(MEASURES.index("batch_size")):
            for at, samples in zip(which, batches[:, 1:].sum(axis=1).tolist(), strict=True):
                self._rates[at] = _rates(self.counts[at], samples, spans.get(at, 0.0))

    def _narrow(self) -> dict[int, float]:
        """Leave out what is not valid. Returns of each worker the seconds across what is left."""
        good, end, spans = is_valid(self.measures), 0, {}
        for at, rows in self._rows.items():
            mine = good[end : end + len(rows)]
            end += len(rows)
            spans[at] = _span(rows[mine])
            self.counts[at] = int(np.count_nonzero(mine))
        self.measures = self.measures[:, good]
        return spans

    def alike(self, measure: int) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Workers that have equally many valid records, and of those one of the measures: a row for each worker.

        numpy's calls are dear, so whoever wants a figure of each asks for those of many at once.
        """
        by_count: dict[int, list[int]] = {}
        for at, count in enumerate(self.counts):
            if count:
                by_count.setdefault(count, []).append(at)
        values, ends = self.measures[measure], [0, *itertools.accumulate(self.counts)]
        for count, which in by_count.items():
            if len(by_count) == 1:
                yield which, values.reshape(-1, count)
            else:
                yield which, np.array([values[ends[at] : ends[at + 1]] for at in which])

    @property
    def throughputs(self) -> list[float]:
        """Of each worker, its requests per second across its own window."""
        return [requests for requests, _ in self._rates]

    @property
    def rates(self) -> tuple[float, float]:
        """Requests per second, and samples, of all of them.

        Rates are those of the living. The dead do not serve, and where workers are recycled quickly their rates would
        be added to those of their successors; only when none of the living has a rate do the dead speak for the fleet,
        so that the figures of a job whose processes have just ended still stand.
        """
        rates = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for at in self._rows:
            mine = rates[self._workers[at].alive]
            mine[0] += self._rates[at][0]
            mine[1] += self._rates[at][1]
        throughput, samples = rates[True] if rates[True][0] else rates[False]
        return throughput, samples

    def union(self) -> Window:
        """All of them as one."""
        throughput, samples = self.rates
        grown = [_grown(self._workers[at], self._skipped[at]) for at in self._rows]
        errors, hits, misses = map(sum, zip(*grown, strict=True)) if grown else (0, 0, 0)
        return Window(
            measures=self.measures,
            requests=self._requests,
            errors=errors,
            cache_hits=hits,
            cache_misses=misses,
            throughput=throughput,
            samples_per_second=samples,
        )


class Moments(NamedTuple):
    """What values come to together."""

    mean: float
    deviation: float
    """The standard deviation."""
    least: float
    largest: float


def moments(values: NDArray[np.float64]) -> Moments:
    """Those of one row of a window's measures, which is not empty: the same in Python and in C, but for last bits.

    A zero below zero is none: which of two zeros is the least depends on where they are.
    """
    if native.is_used():
        return Moments._make(native.moments(np.ascontiguousarray(values)))
    mean, least, most = float(values.mean()), float(values.min()), float(values.max())
    return Moments(mean + 0.0, float(values.std()), least + 0.0, most + 0.0)


def _span(rows: Rows) -> float:
    """Seconds from the first of these records to the last."""
    return rows.item(-1)[0] - rows.item(0)[0] if len(rows) > 1 else 0.0


def _rates(count: int, samples: float, span: float) -> tuple[float, float]:
    """Requests per second, and samples, of so many records in so many seconds; the first only begins them."""
    if not _SHORTEST_SPAN <= span < math.inf:  # times are not trusted either
        return 0.0, 0.0
    return (count - 1) / span, samples / span


def _before(rows: Rows, since: float) -> int:
    """How many records are from before a time; times in a slot never go back."""
    return int(np.count_nonzero(~(rows["time"] >= since)))


def _grown(worker: WorkerSnapshot, skipped: int) -> tuple[int, int, int]:
    """By how much errors, cache hits and cache misses grew in a worker's window, but for its first so many records."""
    before, counters = worker.before_window, worker.counters
    errors, hits, misses = before.errors, before.cache_hits, before.cache_misses
    if skipped:
        last = worker.window[skipped - 1]
        errors, hits, misses = int(last["errors"]), int(last["cache_hits"]), int(last["cache_misses"])
    return (
        max(0, counters.errors - errors),
        max(0, counters.cache_hits - hits),
        max(0, counters.cache_misses - misses),
    )
