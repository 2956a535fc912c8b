"""Instruments: what an application holds to change one series of a custom metric; the hot path of custom metrics.

A change is one store or two into the cells of this process's slot, made with the writer's token: it waits for no other
process, and survives a SIGKILL once the call has returned. Before each, two loads tell whether the series is where it
was; after a fork, a new claim or a removal it is looked up again.
"""

import math
import os
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType
from typing import Any, Final

from shmetrics.catalog import BLOCK_WORDS, Catalog, FullError
from shmetrics.entries import run_length
from shmetrics.families import LIVE, OVERFLOW, Definition, is_label_name
from shmetrics.locks import RegistryBusyError
from shmetrics.writer import Writer

PATIENCE: Final = 0.05
"""Seconds that the first write to a new series may wait for REGISTRY; once it was in vain, later ones do not."""
RETRY_INTERVAL: Final = 0.25
"""Seconds between tries to find a place for a series."""
MOST_WAITING: Final = 256
"""Changes that wait in the process for a place; beyond, the oldest are lost, and counted."""


class Instrument:
    """One series of a metric, in this process. Any thread, greenlet or signal handler may call any method.

    Nothing here raises for want of room, or because another process holds REGISTRY: what finds no room goes to the
    metric's overflow series, and what finds no place yet waits in this process.
    """

    def __init__(
        self,
        writer: Writer,
        catalog: Catalog,
        definition: Definition,
        labels: tuple[str, ...],
        *,
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
        self._clock = clock
        self._waiting: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()
        self._patience = PATIENCE
        self._retry_at = -1.0
        self._serial, self._block, self._cell = -1, 0, 0  # the serial number of no series
        self._place()

    def _settled(self, change: Callable[..., None], *args: Any) -> bool:
        """Whether the series has its place and its cells in this slot now; if not, the change waits. With the token."""
        if self._prepare():
            return True
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self._catalog.count_refusal()
        self._waiting.append((os.getpid(), change, args))
        return False

    def _prepare(self) -> bool:
        """Find the series' place, empty its cells if they are not its own yet, and make the changes that waited."""
        if self._serials[self._block] != self._serial and not self._place():
            return False
        cells, first = self._writer.cells, self._cell
        if cells[first] != self._serial:
            for cell in range(first + 1, first + run_length(self.definition)):
                cells[cell] = 0.0
            cells[first] = self._serial
        while self._waiting:
            pid, waiting, its = self._waiting.popleft()
            if pid == os.getpid():  # else a parent's: it makes the change itself
                waiting(*its)
        return True

    def _place(self) -> bool:
        """Find the series in the catalog, or create it; whether it has a place now."""
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + RETRY_INTERVAL
        # Where a framework made sleep a switch to other greenlets, waiting here would keep them all from writing.
        patience = self._patience if isinstance(time.sleep, BuiltinFunctionType) else 0.0
        try:
            metric = self._catalog.define(self.definition, patience=patience)
            found = self._catalog.place(metric, self.labels, patience=patience)
        except RegistryBusyError:
            self._patience = 0.0
            return False
        except ValueError as error:  # another process has defined it differently, while this one could not
            self._writer.warn(f"defined {self.definition.name}", str(error))
            return False
        except FullError:
            self._writer.warn(
                "series",
                f"there is no room for all series of {self.definition.name!r} and perhaps others, so some go to a "
                f"series {OVERFLOW!r}; create the hub with a larger max_series, or use fewer label values",
            )
            contents = self._catalog.contents()
            overflow = contents.index.get((contents.metric(self.definition.name), (OVERFLOW,) * len(self.labels)))
            if overflow is None:
                return False
            found, self.overflows = overflow, True
        self._block, self._cell, self._serial = found.block * BLOCK_WORDS, found.cell, found.serial
        return True

    def settle(self) -> None:
        """Find a place for what waits, if anything does."""
        if self._waiting:
            self._retry_at = -1.0
            self._patience = PATIENCE
            self._perform(self._prepare)

    def warn_of_invalid(self, value: object) -> None:
        """Say once that a value cannot be counted."""
        self._writer.warn(f"invalid {self.definition.name}", f"{self.definition.name!r} does not count {value!r}")


class Counter(Instrument):
    """Counts what only ever grows; the workers' counts are added up, those of the dead included."""

    def inc(self, amount: float = 1.0) -> None:
        """Add ``amount``, not negative (ValueError)."""
        if not 0.0 <= amount < math.inf:
            raise ValueError(f"counter {self.definition.name!r} can only grow, by a finite number, not by {amount!r}")
        self._perform(self._add, amount)

    def _add(self, amount: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._add, amount):
                return
            cells, cell = self._writer.cells, self._cell
        cells[cell + 1] += amount


class Gauge(Instrument):
    """A value that goes up and down; how the workers' values become one is the definition's ``merge``."""

    def set(self, value: float) -> None:
        """The value is ``value`` now."""
        self._perform(self._set, float(value))

    def inc(self, amount: float = 1.0) -> None:
        """Add to this worker's value. ValueError where the last value set anywhere is what counts."""
        if self.definition.merge.removeprefix(LIVE) == "last":
            raise ValueError(
                f"gauge {self.definition.name!r} shows the last value set by any worker, to which nothing can be "
                f"added; define it with merge='live_sum', or use set()"
            )
        self._perform(self._add, float(amount))

    def dec(self, amount: float = 1.0) -> None:
        """Subtract from this worker's value; see `inc`."""
        self.inc(-amount)

    def _set(self, value: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._set, value):
                return
            cells, cell = self._writer.cells, self._cell
        cells[cell + 2] = value
        cells[cell + 3] = 1.0
        cells[cell + 1] = self._clock()  # last: it makes the rest count

    def _add(self, amount: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._add, amount):
                return
            cells, cell = self._writer.cells, self._cell
        self._set(cells[cell + 2] + amount)


class Histogram(Instrument):
    """Counts values by size."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = self.definition.buckets

    def observe(self, value: float) -> None:
        """Count one value. NaN counts nowhere, which is logged once."""
        self._perform(self._observe, float(value))

    def _observe(self, value: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._observe, value):
                return
            cells, cell = self._writer.cells, self._cell
        if math.isnan(value):
            self.warn_of_invalid(value)
            return
        cells[cell + 1] += value
        cells[cell + 2 + bisect_left(self._bounds, value)] += 1.0


class Summary(Instrument):
    """Counts values, and adds them up."""

    def observe(self, value: float) -> None:
        """Count one value. NaN counts nowhere, which is logged once."""
        self._perform(self._observe, float(value))

    def _observe(self, value: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._observe, value):
                return
            cells, cell = self._writer.cells, self._cell
        if math.isnan(value):
            self.warn_of_invalid(value)
            return
        cells[cell + 1] += value
        cells[cell + 2] += 1.0


class Ratio(Instrument):
    """One sum over another, each over the whole fleet: hits over looks, tokens over seconds."""

    def add(self, numerator: float, denominator: float) -> None:
        """Add to both sums. Finite numbers (ValueError)."""
        if not (math.isfinite(numerator) and math.isfinite(denominator)):
            raise ValueError(f"ratio {self.definition.name!r} takes finite numbers, not {numerator!r}/{denominator!r}")
        self._perform(self._add, float(numerator), float(denominator))

    def _add(self, numerator: float, denominator: float) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._add, numerator, denominator):
                return
            cells, cell = self._writer.cells, self._cell
        cells[cell + 1] += numerator
        cells[cell + 2] += denominator


class Enum(Instrument):
    """Which of its states something is in: the last that any worker set."""

    def state(self, state: str) -> None:
        """It is in ``state`` now, one of the definition's (ValueError)."""
        states = self.definition.states
        if state not in states:
            raise ValueError(f"enum {self.definition.name!r} has no state {state!r}; it has {', '.join(states)}")
        self._perform(self._set, states.index(state))

    def _set(self, index: int) -> None:
        cells, cell = self._writer.cells, self._cell
        if cells[cell] != self._serial or self._serials[self._block] != self._serial:
            if not self._settled(self._set, index):
                return
            cells, cell = self._writer.cells, self._cell
        cells[cell + 2] = float(index)
        cells[cell + 1] = self._clock()  # last: it makes the rest count


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


def as_text(value: object) -> str:
    """A label's value as every page can show it: halves of characters are replaced."""
    return str(value).encode("utf-8", "replace").decode()
