"""Instruments: what an application holds to change one series of a custom metric; the hot path of custom metrics.

A change is one store or two into the cells of this process's slot, made with the writer's token: it waits for no other
process, and survives a SIGKILL once the call has returned. Before each, two looks tell whether the series is where it
was: at which cells the writer has in its slot, and at the serial number in the catalog. After a claim, a fork or a
removal it is looked up again.
"""

from __future__ import annotations  # memoryview[float] is one for type checkers only

import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from shmetrics import exemplars, native
from shmetrics.catalog import Catalog, FullError, ReentrantError
from shmetrics.claimant import may_wait_in_a_write
from shmetrics.entries import BLOCK_WORDS, run_length
from shmetrics.exclusion import WriteToken, takes_token
from shmetrics.families import LIVE, OVERFLOW, Definition, is_label_name
from shmetrics.locks import RegistryBusyError
from shmetrics.timer import Timer
from shmetrics.writer import Writer

PATIENCE: Final = 0.05
"""Seconds that the first write to a new series may wait for REGISTRY; once it was in vain, later ones do not."""
RETRY_INTERVAL: Final = 0.25
"""Seconds between tries to find a place for a series."""
MOST_WAITING: Final = 10_000
"""Instruments that are kept until their changes have a place; of more than that, changes may be lost."""
_ONE: Final = 1.0  # the default amount; anything else is looked at


class Instrument:
    """One series of a metric, in this process. Any thread, greenlet or signal handler may call any method.

    ``waiting``: where it adds itself while its changes wait for a place, whoever may have let go of it by then.

    Nothing here raises for want of room, or because another process holds REGISTRY: what finds no room goes to the
    metric's overflow series, and what finds no place yet is kept in this process until it does.
    """

    def __init__(
        self,
        writer: Writer,
        catalog: Catalog,
        definition: Definition,
        labels: tuple[str, ...],
        *,
        waiting: set[Instrument],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.definition = definition
        self.labels = labels
        self.overflows = False
        """Whether it writes to the overflow series, for want of room."""
        self._writer = writer
        self._perform = writer.perform
        self._catalog = catalog
        self._serials = catalog.serials
        self._waiting = waiting
        self._clock = clock
        self._keep_nothing()
        self._patience = PATIENCE
        self._retry_at = -1.0
        self.serial, self._cell = -1, 0  # the serial number of no series
        self.in_catalog = self._serials[:1]
        """The serial number of what stands in the catalog where this series does, or did."""
        self.cells, self.first = self._own, 0
        """Where it writes, and at which of these cells its own begin; good while `in_catalog` says `serial`."""
        self._place()

    # The path of a change. Each method stores with the token and is made like `Writer.add`; they differ in the stores.

    @property
    def token(self) -> WriteToken:
        """The token of the writer; for `exclusion`."""
        return self._writer.token

    @takes_token
    def _add(self, cell: int, amount: float) -> None:
        """Add to a cell; the first after the serial number is 1."""
        writer = self._writer
        while True:
            take, give = writer.take, writer.give
            try:
                take()
                if self.cells is not writer.shared_cells or self.in_catalog[0] != self.serial:
                    self.find(give)
                self.cells[self.first + cell] += amount
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if writer.recover(error, give, self._add, (cell, amount)):
                    continue
                return
            give(None)
            if writer.pending:
                writer.perform_pending()
            return

    @takes_token
    def _add_two(self, amount: float, other_cell: int, other_amount: float) -> None:
        """Add to cell 1, then to another."""
        writer = self._writer
        while True:
            take, give = writer.take, writer.give
            try:
                take()
                if self.cells is not writer.shared_cells or self.in_catalog[0] != self.serial:
                    self.find(give)
                cells, first = self.cells, self.first
                cells[first + 1] += amount
                cells[first + other_cell] += other_amount
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if writer.recover(error, give, self._add_two, (amount, other_cell, other_amount)):
                    continue
                return
            give(None)
            if writer.pending:
                writer.perform_pending()
            return

    @takes_token
    def add_with(self, amount: float, cell: int, other: Instrument, other_amount: float) -> None:
        """Add to cell 1 of another instrument of the same writer, then to cell 1 of this one, and one to a cell of it.

        What interrupts it in the middle leaves the first of those alone.
        """
        writer = self._writer
        while True:
            take, give = writer.take, writer.give
            try:
                take()
                if other.cells is not writer.shared_cells or other.in_catalog[0] != other.serial:
                    other.find(give)
                other.cells[other.first + 1] += other_amount
                if self.cells is not writer.shared_cells or self.in_catalog[0] != self.serial:
                    self.find(give)  # here, since that of the other one may have moved all cells
                cells, first = self.cells, self.first
                cells[first + 1] += amount
                cells[first + cell] += 1.0
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if writer.recover(error, give, self.add_with, (amount, cell, other, other_amount)):
                    continue
                return
            give(None)
            if writer.pending:
                writer.perform_pending()
            return

    # Off that path ----------------------------------------------------------------------------------------------------

    def find(self, give: Callable[[None], None]) -> None:
        """Find out where to write; ``give``: see `Writer.seek_slot`. With the token."""
        self._writer.seek_slot(give)
        self._look_up()

    def _look_up(self) -> None:
        """Find out where to write, into `_cells` and `_first`. With the token.

        In this process's slot, once the series has its place; until then in memory of the process's own.
        """
        if self._owner != os.getpid():  # a parent's: what it has not placed yet it places itself
            self._keep_nothing()
        if self.in_catalog[0] != self.serial and not self._place():
            self.cells, self.first = self._own, 0
            if len(self._waiting) < MOST_WAITING:
                self._waiting.add(self)
            return
        cells, first = self._writer.cells, self._cell
        if cells[first] != self.serial:
            for cell in range(1, len(self._own)):
                cells[first + cell] = 0.0
            cells[first] = self.serial
        if self.waits:
            self._move(self._own, cells, first)
        self.cells, self.first = cells, first
        self._waiting.discard(self)

    def _keep_nothing(self) -> None:
        self._owner = os.getpid()
        self._own = memoryview(bytearray(8 * run_length(self.definition))).cast("d")

    def _move(self, own: memoryview[float], cells: memoryview[float], first: int) -> None:
        """Add what was done before there was a place, and forget it: cell by cell, so that none is added twice.

        Nothing is called between the two stores, so no signal handler can raise there (CPython 3.11 and newer).
        """
        for cell in range(1, len(own)):
            cells[first + cell] += own[cell]
            own[cell] = 0.0

    def _place(self) -> bool:
        """Find the series in the catalog, or create it; whether it has a place now."""
        if self._clock() < self._retry_at:
            return False
        patience = self._patience if may_wait_in_a_write() else 0.0
        try:
            metric = self._catalog.define(self.definition, patience=patience, overflow=True)
            found = self._catalog.place(metric, self.labels, patience=patience)
        except ReentrantError:
            return False
        except RegistryBusyError:
            self._patience = 0.0
            return self._retry_later()
        except ValueError as error:  # another process has defined it differently, while this one could not
            self._writer.warn(f"defined {self.definition.name}", str(error))
            return self._retry_later()
        except FullError:
            self._writer.warn(
                "series",
                f"there is no room for all series of {self.definition.name!r} and perhaps others, so some go to a "
                f"series {OVERFLOW!r}; create the hub with a larger max_series, or use fewer label values",
            )
            contents = self._catalog.contents()
            overflow = contents.index.get((contents.metric(self.definition.name), (OVERFLOW,) * len(self.labels)))
            if overflow is None:
                return self._retry_later()
            found, self.overflows = overflow, True
        block = found.block * BLOCK_WORDS
        self._cell, self.serial, self.in_catalog = found.cell, found.serial, self._serials[block : block + 1]
        return True

    def _retry_later(self) -> bool:
        self._retry_at = self._clock() + RETRY_INTERVAL
        return False

    @property
    def waits(self) -> bool:
        """Whether changes of this process wait for a place."""
        return self._owner == os.getpid() and any(self._own)

    def settle(self) -> None:
        """Try now to find a place for what waits."""
        self._retry_at = -1.0
        self._patience = PATIENCE
        self._perform(self._look_up)

    def _keep(self, bucket: int, value: float, labels: bytes) -> None:
        if self.serial > 0:
            self._writer.exemplars.keep(self.serial, bucket, value, labels)

    def warn_of_invalid(self, value: object) -> None:
        """Say once that a value cannot be counted."""
        self._writer.mention(f"invalid {self.definition.name}", f"{self.definition.name!r} does not count {value!r}")


class Counter(Instrument):
    """Counts what only ever grows; the workers' counts are added up, those of the dead included."""

    def inc(self, amount: float = _ONE, exemplar: Mapping[str, str] | None = None) -> None:
        """Add ``amount``, not negative (ValueError).

        ``exemplar``: labels that tell of which request, a trace id say; 128 characters at most (ValueError).
        """
        if amount is not _ONE and (0.0 <= amount < inf) is not True:
            amount = self._checked(amount)
        if exemplar is not None:
            self._perform(self._keep, 0, amount, exemplars.checked(exemplar))
        self._add(1, amount)

    def _checked(self, amount: float) -> float:
        """An amount that cannot be added, or is no number of Python's: of numpy's, comparisons are no bool."""
        if not 0.0 <= amount < inf:
            raise ValueError(f"counter {self.definition.name!r} can only grow, by a finite number, not by {amount!r}")
        return float(amount)  # what is added to a float32 is one, so that the sum would stand still at 2^24


class Gauge(Instrument):
    """A value that goes up and down; how the workers' values become one is the definition's ``merge``."""

    @takes_token
    def set(self, value: float) -> None:
        """The value is ``value`` now."""
        if type(value) is not float:
            value = float(value)
        writer = self._writer
        while True:
            take, give, clock = writer.take, writer.give, self._clock
            try:
                take()
                if self.cells is not writer.shared_cells or self.in_catalog[0] != self.serial:
                    self.find(give)
                cells, first = self.cells, self.first
                cells[first + 2] = value
                cells[first + 3] = 1.0
                cells[first + 1] = clock()  # last: it makes the rest count
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if writer.recover(error, give, self.set, (value,)):
                    continue
                return
            give(None)
            if writer.pending:
                writer.perform_pending()
            return

    def inc(self, amount: float = 1.0) -> None:
        """Add to this worker's value. ValueError where the last value set anywhere is what counts."""
        if self.definition.merge.removeprefix(LIVE) == "last":
            raise ValueError(
                f"gauge {self.definition.name!r} shows the last value set by any worker, to which nothing can be "
                f"added; define it with merge='live_sum', or use set()"
            )
        self._add_now(float(amount))

    def dec(self, amount: float = 1.0) -> None:
        """Subtract from this worker's value; see `inc`."""
        self.inc(-amount)

    @takes_token
    def _add_now(self, amount: float) -> None:
        """Add to the value."""
        writer = self._writer
        while True:
            take, give, clock = writer.take, writer.give, self._clock
            try:
                take()
                if self.cells is not writer.shared_cells or self.in_catalog[0] != self.serial:
                    self.find(give)
                cells, first = self.cells, self.first
                cells[first + 2] += amount
                cells[first + 3] = 1.0
                cells[first + 1] = clock()  # last: it makes the rest count
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if writer.recover(error, give, self._add_now, (amount,)):
                    continue
                return
            give(None)
            if writer.pending:
                writer.perform_pending()
            return

    def _move(self, own: memoryview[float], cells: memoryview[float], first: int) -> None:
        _move_value(own, cells, first)


class Histogram(Instrument):
    """Counts values by size."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bounds = self.definition.buckets

    @property
    def add(self) -> Callable[[float, int, float], None]:
        """Adds to the sum, and to cell ``2 + bucket``: for whoever knows the bucket, or adds something else up."""
        return self._add_two

    def observe(self, value: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count one value. NaN counts nowhere, which is logged once.

        ``exemplar``: labels that tell of which request it is, a trace id say. The greatest recent value of each bucket
        keeps its own.
        """
        if type(value) is not float:
            value = float(value)
        if value != value:  # noqa: PLR0124  as NaN alone does not; cheaper than a call
            self.warn_of_invalid(value)
            return
        bucket = bisect_left(self.bounds, value)
        if exemplar is not None and math.isfinite(value):
            self._perform(self._keep, bucket, value, exemplars.checked(exemplar))
        self._add_two(value, 2 + bucket, 1.0)

    def time(self) -> Timer:
        """Counts the seconds of a block (``with x.time():``) or of each call of a function (``@x.time()``)."""
        return Timer(self.observe, self._clock)

    def note(self, value: float, exemplar: Mapping[str, str]) -> None:
        """Keep an exemplar of a finite value that was counted already."""
        self._perform(self._keep, bisect_left(self.bounds, value), value, exemplars.checked(exemplar))


class Summary(Instrument):
    """Counts values, and adds them up."""

    def observe(self, value: float) -> None:
        """Count one value. NaN counts nowhere, which is logged once."""
        if type(value) is not float:
            value = float(value)
        if value != value:  # noqa: PLR0124  as NaN alone does not; cheaper than a call
            self.warn_of_invalid(value)
            return
        self._add_two(value, 2, 1.0)

    def time(self) -> Timer:
        """Counts the seconds of a block (``with x.time():``) or of each call of a function (``@x.time()``)."""
        return Timer(self.observe, self._clock)


class Ratio(Instrument):
    """One sum over another, each over the whole fleet: hits over looks, tokens over seconds."""

    def add(self, numerator: float, denominator: float) -> None:
        """Add to both sums. Finite numbers (ValueError)."""
        if not (math.isfinite(numerator) and math.isfinite(denominator)):
            raise ValueError(f"ratio {self.definition.name!r} takes finite numbers, not {numerator!r}/{denominator!r}")
        self._add_two(float(numerator), 2, float(denominator))


class Enum(Instrument):
    """Which of its states something is in: the last that any worker set."""

    def state(self, state: str) -> None:
        """It is in ``state`` now, one of the definition's (ValueError)."""
        states = self.definition.states
        if state not in states:
            raise ValueError(f"enum {self.definition.name!r} has no state {state!r}; it has {', '.join(states)}")
        self._perform(self._set, states.index(state))

    def _set(self, index: int) -> None:
        self._look_up()
        self.cells[self.first + 2] = float(index)
        self.cells[self.first + 1] = self._clock()  # last: it makes the rest count

    def _move(self, own: memoryview[float], cells: memoryview[float], first: int) -> None:
        _move_value(own, cells, first)


def _move_value(own: memoryview[float], cells: memoryview[float], first: int) -> None:
    """Put a value in its place: the last one counts, so nothing is added, and doing it twice is harmless."""
    cells[first + 1 : first + len(own)] = own[1:]
    for cell in range(1, len(own)):
        own[cell] = 0.0


class Info(Instrument):
    """Texts about the fleet, a version or a model's name: the last that any worker set."""

    def info(self, texts: Mapping[str, str]) -> None:
        """It says ``texts`` now. ValueError for keys that no label can have, and those of the metric's own labels."""
        for key in texts:
            if not is_label_name(key) or key in self.definition.labels:
                raise ValueError(f"info {self.definition.name!r} cannot say {key!r}: wanted a name like a label's, and "
                                 f"none of {list(self.definition.labels)}")  # fmt: skip
        wanted = {key: as_text(value) for key, value in texts.items()}
        try:
            metric = self._catalog.define(self.definition, patience=self._patience)
            self._catalog.place(metric, self.labels, info=wanted, patience=self._patience)
        except (FullError, RegistryBusyError) as error:
            why = "there is no room" if isinstance(error, FullError) else "another process holds the registry"
            self._writer.mention(f"info {self.definition.name}", f"{self.definition.name!r} stays as it was: {why}")


KINDS: Final[Mapping[str, type[Instrument]]] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": Histogram,
    "summary": Summary,
    "ratio": Ratio,
    "info": Info,
    "enum": Enum,
}


def class_of(kind: str) -> type[Instrument]:
    """What changes a series of a kind: in C, where that could be compiled and is used."""
    python = KINDS[kind]
    return native.in_front(python.__name__, python)


def as_text(value: object) -> str:
    """A label's value as every page can show it: halves of characters are replaced."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
