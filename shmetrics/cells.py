"""Cells: what the float64 cells of a series mean, and how those of many workers become one. Pure.

::

    the cells of one series, at the same place in every slot
    counter     serial | value
    gauge       serial | time | value | weight
    histogram   serial | sum | one count a bucket, that to +Inf last
    summary     serial | sum | count
    ratio       serial | numerator | denominator
    enum        serial | time | state
    info        none: the catalog has it all

The first cell holds the serial number of the series that the others are of, so cells that a removed series left behind
are told apart. A worker's cells change by one store at a time; a histogram's sum is stored before its bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from shmetrics import native
from shmetrics.arrays import np
from shmetrics.entries import Contents, Placement, run_length
from shmetrics.families import LIVE, OVERFLOW, Definition

if TYPE_CHECKING:
    from numpy.typing import NDArray

Cells: TypeAlias = "NDArray[np.float64]"
_FUTURE: Final = 1.0
"""Seconds by which a time may be ahead of the reader's."""


class Rule(IntEnum):
    """How one cell merges over workers."""

    NONE = 0
    SERIAL = auto()
    COUNT = auto()
    """Added up; finite and not negative."""
    SUM = auto()
    MIN = auto()
    MAX = auto()
    NEWEST = auto()
    """A time; the latest. The cell after it is TAKEN from where that is."""
    TAKEN = auto()
    OWN = auto()
    """Each worker's own; not merged."""


_RULES = {
    "counter": (Rule.SERIAL, Rule.COUNT),
    "summary": (Rule.SERIAL, Rule.SUM, Rule.COUNT),
    "ratio": (Rule.SERIAL, Rule.SUM, Rule.SUM),
    "enum": (Rule.SERIAL, Rule.NEWEST, Rule.TAKEN),
    "info": (),
}
_GAUGES = {
    "last": (Rule.NEWEST, Rule.TAKEN),
    "sum": (Rule.MAX, Rule.SUM),
    "min": (Rule.MAX, Rule.MIN),
    "max": (Rule.MAX, Rule.MAX),
    "mean": (Rule.MAX, Rule.SUM),
    "per_worker": (Rule.OWN, Rule.OWN),
}


native.tell("use_cells", min=int(Rule.MIN), max=int(Rule.MAX), newest=int(Rule.NEWEST))
_LIVE_ONLY, _NEEDS_TIME = 1, 2
"""When a series counts, as C has it."""


def _rules(metric: Definition) -> tuple[Rule, ...]:
    if metric.kind == "histogram":
        return (Rule.SERIAL, Rule.SUM, *[Rule.COUNT] * (len(metric.buckets) + 1))
    if metric.kind == "gauge":
        return (Rule.SERIAL, *_GAUGES[metric.merge.removeprefix(LIVE)], Rule.SUM)
    return _RULES[metric.kind]


@dataclass(frozen=True, eq=False)
class Placed:
    """A metric and where its series are, ordered by label values: one object for as long as none of it changes."""

    serial: int
    definition: Definition
    series: tuple[Placement, ...]
    has_overflow: bool
    """Whether any of them takes what there was no room for."""
    memo: dict[Any, Any] = field(default_factory=dict)
    """For whoever makes something of it that is worth keeping, by a key of its own."""


class Plan:
    """Where the cells of each series are, and how they merge: made once for each state of the catalog.

    `extent` is the end of the last series, in cells. ``before``: the plan of an earlier state.
    """

    def __init__(self, contents: Contents, before: Plan | None = None) -> None:
        self.contents = contents
        self.extent = extent = contents.extent
        placed = [
            (placement, contents.metrics[placement.metric])
            for placement in contents.series.values()
            if run_length(contents.metrics[placement.metric])
        ]
        count = len(placed)
        self._first = np.fromiter((placement.cell for placement, _ in placed), np.intp, count)
        """For each series, which has cells, the index of its first."""
        self._serial = np.fromiter((float(placement.serial) for placement, _ in placed), np.float64, count)
        self._live = np.fromiter((metric.merge.startswith(LIVE) for _, metric in placed), np.bool_, count)
        """Whether only live workers count."""
        self._needs_time = np.fromiter((metric.kind in ("gauge", "enum") for _, metric in placed), np.bool_, count)
        """Whether it counts only where it was ever written."""
        rule = np.zeros(extent, np.int8)
        series = np.zeros(extent, np.intp)
        for at, (placement, metric) in enumerate(placed):
            run = slice(placement.cell, placement.cell + run_length(metric))
            rule[run] = np.frombuffer(bytes(_rules(metric)), np.int8)
            series[run] = at
        self._series = series
        """Which series each cell is of; any for a cell that is of none."""
        # As plain numbers: of an enum's member numpy asks what it may be, which runs Python code before 3.12, and drops
        # whatever a signal handler raises there. A KeyboardInterrupt was lost so.
        is_a = {kind: rule == int(kind) for kind in Rule}
        self._is_count = is_a[Rule.COUNT]
        self._added = np.flatnonzero(is_a[Rule.COUNT] | is_a[Rule.SUM])
        self._at = {kind: np.flatnonzero(cells) for kind, cells in is_a.items()}
        """Which cells are merged by each rule."""
        self._of = {kind: series[cells] for kind, cells in self._at.items()}
        """Which series each of these cells is of."""
        self._number = {placement.serial: at for at, (placement, _) in enumerate(placed)}
        self._before = before
        self.memo: dict[Any, Any] = {}
        """Like `Placed.memo`."""

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """Every metric, in the order of definition."""
        before, self._before = self._before, None
        known = {} if before is None else {placed.serial: placed for placed in before.placed}
        series: dict[int, list[Placement]] = {serial: [] for serial in self.contents.metrics}
        for placement in self.contents.index.values():
            series[placement.metric].append(placement)
        found = []
        for serial, metric in self.contents.metrics.items():
            ordered = tuple(sorted(series[serial], key=lambda placement: placement.labels))
            old = known.get(serial)
            if old is None or (old.definition, old.series) != (metric, ordered):
                old = Placed(serial, metric, ordered, any(OVERFLOW in placement.labels for placement in ordered))
            found.append(old)
        return tuple(found)

    @cached_property
    def overflows(self) -> tuple[tuple[int, int], ...]:
        """Of each overflow series the first cell, and how many it has."""
        return tuple(
            (placement.cell, run_length(placed.definition))
            for placed in self.placed
            if placed.has_overflow
            for placement in placed.series
            if OVERFLOW in placement.labels
        )

    @cached_property
    def _in_c(self) -> tuple[NDArray[Any], ...]:
        """What C has to know of all this."""
        conditions = _LIVE_ONLY * self._live.astype(np.uint8) + _NEEDS_TIME * self._needs_time.astype(np.uint8)
        others = [
            (cell, int(rule), of)
            for rule in (Rule.MIN, Rule.MAX, Rule.NEWEST)
            for cell, of in zip(self._at[rule].tolist(), self._of[rule].tolist(), strict=True)
        ]
        known = np.array(others, np.intp).reshape(-1, 3)
        is_count = -self._is_count.astype(np.int64)
        return self._first, self._serial, conditions, self._series, is_count, self._added, known

    @cached_property
    def _buckets(self) -> list[NDArray[np.intp]]:
        """The cells of all histograms' counts, a row for each series, those with equally many buckets in one table."""
        firsts: dict[int, list[int]] = {}
        for placed in self.placed:
            if placed.definition.kind == "histogram":
                cells = firsts.setdefault(len(placed.definition.buckets) + 1, [])
                cells += [placement.cell + 2 for placement in placed.series]
        return [np.array(cells, np.intp)[:, None] + np.arange(count) for count, cells in firsts.items()]

    @cached_property
    def _quotients(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Where quotients go, and the cells of what is to be divided by what."""
        found = []
        for placed in self.placed:
            kind, merge = placed.definition.kind, placed.definition.merge.removeprefix(LIVE)
            if kind == "ratio":
                found += [(placement.cell, placement.cell + 1, placement.cell + 2) for placement in placed.series]
            elif merge == "mean":
                found += [(placement.cell + 2, placement.cell + 2, placement.cell + 3) for placement in placed.series]
        target, above, below = np.array(found, np.intp).reshape(-1, 3).T
        return target, above, below

    def finish(self, merged: Cells) -> None:
        """Make the figures that are shown of a row that `merge` made, in place.

        A histogram's counts become cumulative, from bucket to bucket; a mean gauge's sum is divided by its weight; a
        ratio's serial number makes room for the quotient, which is 0.0 while there is nothing to divide by.
        """
        for cells in self._buckets:
            merged[cells] = merged[cells].cumsum(axis=1)
        target, above, below = self._quotients
        with np.errstate(all="ignore"):
            nothing = np.where(target == above, merged[above], 0.0)
            merged[target] = np.divide(merged[above], merged[below], out=nothing, where=merged[below] != 0.0)

    def valid(self, rows: Cells, now: float) -> NDArray[np.bool_]:
        """Which series of which of the `rows`, shape (n, extent), are there and can be believed: shape (n, series)."""
        valid: NDArray[np.bool_]
        with np.errstate(invalid="ignore"):
            valid = rows[:, self._first] == self._serial
            if self._needs_time.any():
                times = rows[:, self._first[self._needs_time] + 1]
                valid[:, self._needs_time] &= (times > 0.0) & (times < now + _FUTURE)
            possible = (rows >= 0.0) & (rows < np.inf)
        possible |= ~self._is_count
        if not possible.all():
            for row, cell in zip(*np.nonzero(~possible), strict=True):
                valid[row, self._series[cell]] = False
        return valid

    def is_valid(self, valid: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
        """Of what `valid` returned, the part of one series: one element for each row."""
        column: NDArray[np.bool_] = valid[:, self._number[placement.serial]]
        return column

    def merge(self, parts: Sequence[Cells], live: Sequence[bool], now: float) -> Cells:
        """One row of cells for many, each `padded`, of workers that are `live` or not. A series nobody wrote is 0.

        The retired area is such a row too, of nobody who lives.
        """
        merged = np.zeros(self.extent)
        if not len(parts) or not len(self._first):
            return merged
        if native.is_used():
            native.merge_cells(merged, list(map(np.ascontiguousarray, parts)), list(live), now, *self._in_c)
            return merged
        rows = np.array(parts)
        valid = self.valid(rows, now)
        valid &= ~self._live | np.asarray(live, np.bool_)[:, None]
        there = np.asarray(valid.any(axis=0))
        merged[self._first] = np.where(there, self._serial, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            # Most cells are added up, so all are: to choose them first would take longer.
            merged[self._added] = self._sums(rows, valid)[self._added]
            for rule, function, neutral in ((Rule.MIN, np.minimum, np.inf), (Rule.MAX, np.maximum, -np.inf)):
                cells, of = self._at[rule], self._of[rule]
                if len(cells):
                    values = function.reduce(np.where(valid[:, of], rows[:, cells], neutral), axis=0)
                    merged[cells] = np.where(there[of], values, 0.0)
            newest = self._at[Rule.NEWEST]
            if len(newest):
                times = np.where(valid[:, self._of[Rule.NEWEST]], rows[:, newest], 0.0)
                latest = times.argmax(axis=0)
                merged[newest] = times.max(axis=0)
                merged[newest + 1] = np.where(merged[newest] > 0.0, rows[latest, newest + 1], 0.0)
        return merged

    def _sums(self, rows: Cells, valid: NDArray[np.bool_]) -> Cells:
        """The sum of each cell over the rows in which its series is `valid`."""
        whole = valid.all(axis=1)
        if (whole != valid.any(axis=1)).any():
            sums: Cells = rows.sum(axis=0, where=valid[:, self._series])
        else:  # mostly every series of a worker is there, and none in the retired area: a quarter of the time
            sums = (rows if whole.all() else rows[whole]).sum(axis=0)
        return sums

    def padded(self, cells: Cells) -> Cells:
        """A worker's cells, cut or filled up to `extent`; as they are where that is their length."""
        if len(cells) == self.extent:
            return cells
        row = np.zeros(self.extent)
        count = min(len(cells), self.extent)
        row[:count] = cells[:count]
        return row


def retire(plan: Plan, retired: Any, dead: Any, now: float) -> None:
    """Add a dead worker's cells to those of a retired copy, in place. Both: shared memory, all cells of a slot."""
    parts = [np.array(plan.padded(retired)), np.array(plan.padded(dead))]  # as they are now, whoever writes there
    retired[: plan.extent] = plan.merge(parts, [False, False], now)
