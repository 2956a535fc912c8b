"""The window: the last records of every worker that counts, as one table, and the rates that follow from it. Pure."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmetrics import native
from shmetrics.folded import Rows, fill_measures, is_valid
from shmetrics.layout import MEASURES
from shmetrics.snapshot import WorkerSnapshot

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
        parts = [(at, _part(worker, since)) for at, worker in enumerate(workers) if len(worker.window)]
        self._parts = {at: part for at, part in parts if len(part.rows)}
        """By the worker's index; of those that have any records."""
        self.counts = [0] * len(workers)
        """Of each worker, its valid records."""
        for at, part in self._parts.items():
            self.counts[at] = len(part.rows)
        self._requests = sum(self.counts)
        self._table = np.empty((len(MEASURES), self._requests))
        with np.errstate(over="ignore", invalid="ignore"):
            are_valid = fill_measures(self._table, [part.rows for part in self._parts.values()])
        spans = {at: _span(part.rows) for at, part in self._parts.items()} if are_valid else self._narrow()
        self._rates = [(0.0, 0.0)] * len(workers)
        """Of each worker, its requests per second across its own window, and samples."""
        for which, batches in self.alike(MEASURES.index("batch_size")):
            for at, samples in zip(which, batches[:, 1:].sum(axis=1).tolist(), strict=True):
                self._rates[at] = _rates(self.counts[at], samples, spans.get(at, 0.0))

    def _narrow(self) -> dict[int, float]:
        """Leave out what is not valid. Returns of each worker the seconds across what is left."""
        good, end, spans = is_valid(self._table), 0, {}
        for at, part in self._parts.items():
            mine = good[end : end + len(part.rows)]
            end += len(part.rows)
            spans[at] = _span(part.rows[mine])
            self.counts[at] = int(np.count_nonzero(mine))
        self._table = self._table[:, good]
        return spans

    def alike(self, measure: int) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
        """Workers that have equally many valid records, and of those one of the measures: a row for each worker.

        numpy's calls are dear, so whoever wants a figure of each asks for those of many at once.
        """
        by_count: dict[int, list[int]] = {}
        for at, count in enumerate(self.counts):
            if count:
                by_count.setdefault(count, []).append(at)
        values, ends = self._table[measure], [0, *itertools.accumulate(self.counts)]
        for count, which in by_count.items():
            if len(by_count) == 1:
                yield which, values.reshape(-1, count)
            else:
                yield which, np.array([values[ends[at] : ends[at + 1]] for at in which])

    @property
    def throughputs(self) -> list[float]:
        """Of each worker, its requests per second across its own window."""
        return [requests for requests, _ in self._rates]

    def union(self) -> Window:
        """All of them as one.

        Rates are those of the living. The dead do not serve, and where workers are recycled quickly their rates would
        be added to those of their successors; only when none of the living has a rate do the dead speak for the fleet,
        so that the figures of a job whose processes have just ended still stand.
        """
        rates = {True: [0.0, 0.0], False: [0.0, 0.0]}
        for at, part in self._parts.items():
            rates[part.alive][0] += self._rates[at][0]
            rates[part.alive][1] += self._rates[at][1]
        throughput, samples = rates[True] if rates[True][0] else rates[False]
        return Window(
            measures=self._table,
            requests=self._requests,
            errors=sum([part.errors for part in self._parts.values()]),
            cache_hits=sum([part.cache_hits for part in self._parts.values()]),
            cache_misses=sum([part.cache_misses for part in self._parts.values()]),
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


class _Part(NamedTuple):
    """One worker's share of a window."""

    alive: bool
    rows: Rows
    errors: int
    cache_hits: int
    cache_misses: int


def _part(worker: WorkerSnapshot, since: float) -> _Part:
    rows, counters, before = worker.window, worker.counters, worker.before_window
    errors, hits, misses = before.errors, before.cache_hits, before.cache_misses
    if since > 0.0:
        start = int(np.count_nonzero(~(rows["time"] >= since)))  # times in a slot never go back
        if start:
            last = rows[start - 1]
            errors, hits, misses = int(last["errors"]), int(last["cache_hits"]), int(last["cache_misses"])
            rows = rows[start:]
    return _Part(
        worker.alive,
        rows,
        max(0, counters.errors - errors),
        max(0, counters.cache_hits - hits),
        max(0, counters.cache_misses - misses),
    )
