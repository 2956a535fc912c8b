"""The window: the last records of every worker that counts, as one table, and the rates that follow from it. Pure."""

import math
from collections.abc import Iterable
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
    """The union of the windows of `workers`, from the monotonic time `since` on.

    Rates are those of the living. The dead do not serve, and where workers are recycled quickly their rates would be
    added to those of their successors; only when none of the living has a rate do the dead speak for the fleet, so
    that the figures of a job whose processes have just ended still stand.
    """
    chosen = [part for part in (_part(worker, since) for worker in workers) if len(part.rows)]
    table = np.empty((len(MEASURES), sum(len(part.rows) for part in chosen)))
    at = 0
    for part in chosen:
        fill_measures(table[:, at : at + len(part.rows)], part.rows)
        at += len(part.rows)
    good = None if all_valid(table) else is_valid(table)
    rates = {True: [0.0, 0.0], False: [0.0, 0.0]}
    at = 0
    for part in chosen:
        mine = slice(at, at + len(part.rows))
        at = mine.stop
        times, batches = part.rows["time"], table[1, mine]
        if good is not None:
            times, batches = times[good[mine]], batches[good[mine]]
        span = float(times[-1]) - float(times[0]) if len(times) > 1 else 0.0
        if _SHORTEST_SPAN <= span < math.inf:  # times are not trusted either
            rates[part.alive][0] += (len(times) - 1) / span
            rates[part.alive][1] += float(batches[1:].sum()) / span
    throughput, samples = rates[True] if rates[True][0] else rates[False]
    return Window(
        measures=table if good is None else table[:, good],
        requests=sum(len(part.rows) for part in chosen),
        errors=sum(part.errors for part in chosen),
        cache_hits=sum(part.cache_hits for part in chosen),
        cache_misses=sum(part.cache_misses for part in chosen),
        throughput=throughput,
        samples_per_second=samples,
    )


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
