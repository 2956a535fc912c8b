"""The window: the last records of every worker that counts, as one table, and the rates that follow from it. Pure."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shmetrics.folded import Rows, all_valid, fill_measures, is_valid
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
        self._count = len(workers)
        parts = ((at, _part(worker, since)) for at, worker in enumerate(workers) if len(worker.window))
        self._parts = {at: part for at, part in parts if len(part.rows)}
        """By the worker's index; of those that have any records."""
        ends = list(itertools.accumulate(len(part.rows) for part in self._parts.values()))
        self._columns = dict(zip(self._parts, itertools.starmap(slice, itertools.pairwise([0, *ends])), strict=True))
        table = np.empty((len(MEASURES), ends[-1] if ends else 0))
        with np.errstate(over="ignore", invalid="ignore"):
            fill_measures(table, [part.rows for part in self._parts.values()])
        self._table = table
        self._good = None if all_valid(table) else is_valid(table)
        """Which columns are valid; None where all are."""
        self._rates = {at: self._rate(part, self._columns[at]) for at, part in self._parts.items()}

    def _rate(self, part: "_Part", mine: slice) -> tuple[float, float]:
        """One worker's requests per second across its own window, and samples."""
        times, batches = part.rows["time"], self._table[1, mine]
        if self._good is not None:
            times, batches = times[self._good[mine]], batches[self._good[mine]]
        span = float(times[-1]) - float(times[0]) if len(times) > 1 else 0.0
        if not _SHORTEST_SPAN <= span < math.inf:  # times are not trusted either
            return 0.0, 0.0
        return (len(times) - 1) / span, float(batches[1:].sum()) / span

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
            measures=self._table if self._good is None else self._table[:, self._good],
            requests=self._table.shape[1],
            errors=sum(part.errors for part in self._parts.values()),
            cache_hits=sum(part.cache_hits for part in self._parts.values()),
            cache_misses=sum(part.cache_misses for part in self._parts.values()),
            throughput=throughput,
            samples_per_second=samples,
        )

    def each(self) -> Iterator[Window]:
        """Each worker's, by itself."""
        for at in range(self._count):
            yield self._of(at) if at in self._parts else _NOTHING

    def _of(self, at: int) -> Window:
        part, mine = self._parts[at], self._columns[at]
        own = self._table[:, mine]
        return Window(
            measures=own if self._good is None else own[:, self._good[mine]],
            requests=len(part.rows),
            errors=part.errors,
            cache_hits=part.cache_hits,
            cache_misses=part.cache_misses,
            throughput=self._rates[at][0],
            samples_per_second=self._rates[at][1],
        )


_NOTHING: Final = Window(np.empty((len(MEASURES), 0)), 0, 0, 0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class _Part:
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
        alive=worker.alive,
        rows=rows,
        errors=max(0, counters.errors - errors),
        cache_hits=max(0, counters.cache_hits - hits),
        cache_misses=max(0, counters.cache_misses - misses),
    )
