"""Series: what the whole fleet has of every custom metric, made from the cells of all workers. Pure.

The cells are merged at once, by arithmetic on one array. What becomes of them is made when somebody looks at it: a page
whose lines are known but for their numbers needs no object for each of ten thousand series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, overload

from shmetrics.arrays import np
from shmetrics.cells import Cells, Placed, Plan
from shmetrics.entries import Placement, run_length
from shmetrics.families import LIVE, OVERFLOW, Definition, Exemplar, Family, Series

if TYPE_CHECKING:
    from numpy.typing import NDArray


class HasCells(Protocol):
    """One worker's part in the families: its cells, and how they count."""

    @property
    def slot(self) -> int:
        """Its number."""

    @property
    def cells(self) -> Cells:
        """What is in it."""

    @property
    def alive(self) -> bool:
        """Whether it lives."""

    @property
    def counted(self) -> bool:
        """Whether it lives or ended less than a minute ago."""

    @property
    def in_totals(self) -> bool:
        """Whether it counts by itself, not by way of the retired area."""


def families(
    plan: Plan,
    retired: Cells,
    workers: Sequence[HasCells],
    now: float,
    exemplars: Mapping[tuple[int, int], Exemplar] | None = None,
) -> Sequence[Family]:
    """What the whole fleet has of every metric.

    ``retired``: the cells of the retired area. ``exemplars``: by serial number of the series, and bucket.
    """
    if not plan.placed:
        return ()
    parts = [plan.padded(worker.cells) for worker in workers]
    mine = [(part, worker.alive) for part, worker in zip(parts, workers, strict=True) if worker.in_totals]
    figures = plan.merge(
        [plan.padded(retired), *(part for part, _ in mine)], [False, *(lives for _, lives in mine)], now
    )
    plan.finish(figures)
    kept: dict[int, dict[int, Exemplar]] = {}
    for (serial, bucket), exemplar in (exemplars or {}).items():
        kept.setdefault(serial, {})[bucket] = exemplar
    return MergedFamilies(plan, figures.tolist(), parts, workers, now, kept)


@dataclass(frozen=True)
class MergedFamilies(Sequence[Family]):
    """The metrics of the whole fleet, each made when somebody looks at it."""

    plan: Plan
    figures: list[float]
    """The cells of the fleet, as `Plan.finish` leaves them. Of gauges that show each worker by itself they say nothing.
    """
    rows: Sequence[Cells]
    """The cells of each of `workers`, `padded`."""
    workers: Sequence[HasCells]
    now: float
    exemplars: dict[int, dict[int, Exemplar]]
    """By serial number of the series, then by bucket."""

    def __len__(self) -> int:
        return len(self.plan.placed)

    @overload
    def __getitem__(self, at: int) -> Family: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Family]: ...
    def __getitem__(self, at: Any) -> Any:
        return self._all[at]

    @cached_property
    def _all(self) -> tuple[Family, ...]:
        return tuple(_MergedFamily(placed, self) for placed in self.plan.placed)

    def shown(self, placed: Placed) -> tuple[Placement, ...]:
        """Those series of one of the metrics that are shown: an overflow series is once something overflowed."""
        if not placed.has_overflow:
            return placed.series
        length = run_length(placed.definition)
        return tuple(
            placement
            for placement in placed.series
            if OVERFLOW not in placement.labels or any(self.figures[placement.cell : placement.cell + length])
        )

    @cached_property
    def overflowed(self) -> tuple[int, ...]:
        """The first cells of the overflow series that are shown."""
        shown = self.figures
        return tuple([cell for cell, length in self.plan.overflows if any(shown[cell : cell + length])])

    def of_each(self) -> list[tuple[HasCells, MergedFamilies]]:
        """What each of the workers has by itself."""
        found = []
        for at, worker in enumerate(self.workers):
            rows = self.rows[at : at + 1]
            figures = self.plan.merge(rows, [worker.alive], self.now)
            self.plan.finish(figures)
            found.append((worker, MergedFamilies(self.plan, figures.tolist(), rows, [worker], self.now, {})))
        return found

    def has_exemplars(self, placed: Placed) -> bool:
        """Whether any series of one of the metrics has some."""
        return bool(self.exemplars) and any(placement.serial in self.exemplars for placement in placed.series)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Which series of which worker can be believed."""
        return self.plan.valid(np.reshape(self.rows, (len(self.rows), self.plan.extent)), self.now)


class _MergedFamily(Family):
    """A metric of the whole fleet, whose series are made when somebody looks at them."""

    def __init__(self, placed: Placed, merged: MergedFamilies) -> None:
        self.__dict__.update(definition=placed.definition, _placed=placed, _merged=merged)

    _placed: Placed
    _merged: MergedFamilies

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """Its series, ordered by label values."""
        merged, placed, metric = self._merged, self._placed, self.definition
        if metric.merge.removeprefix(LIVE) == "per_worker":
            return tuple(each for placement in placed.series for each in _of_workers(metric, placement, merged))
        length = run_length(metric)
        return tuple(
            _series(metric, each, merged.figures[each.cell : each.cell + length], merged)
            for each in merged.shown(placed)
        )


def _of_workers(metric: Definition, placement: Placement, merged: MergedFamilies) -> list[Series]:
    """A series of a gauge that shows each worker by itself."""
    cell = placement.cell
    valid = merged.plan.is_valid(merged.valid, placement)
    return [
        Series(placement.labels, worker.slot, value=float(row[cell + 2]), written_at=float(row[cell + 1]))
        for worker, row, is_valid in zip(merged.workers, merged.rows, valid, strict=True)
        if is_valid and (worker.alive if metric.merge.startswith(LIVE) else worker.counted)
    ]


def _series(metric: Definition, placement: Placement, run: list[float], merged: MergedFamilies) -> Series:
    """A series of any other metric, from its cells."""
    exemplars = merged.exemplars.get(placement.serial, {})
    fields: dict[str, Any]
    match metric.kind:
        case "info":
            fields = {"info": placement.info}
        case "counter":
            fields = {"value": run[1], "exemplars": exemplars}
        case "histogram":
            fields = {"sum": run[1], "count": run[-1], "buckets": tuple(run[2:]), "exemplars": exemplars}
        case "summary":
            fields = {"sum": run[1], "count": run[2]}
        case "ratio":
            fields = {"value": run[0], "sum": run[1], "count": run[2]}
        case "enum":
            index = int(run[2]) if 0.0 <= run[2] < len(metric.states) else 0
            fields = {"state": metric.states[index], "written_at": min(run[1], merged.now)}
        case _:
            fields = {"value": run[2], "written_at": min(run[1], merged.now)}
    return Series(placement.labels, **fields)
