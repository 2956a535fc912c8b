"""The book: the custom metrics that this process has to do with, each with its instruments by label values."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

from shmetrics.catalog import Catalog, FullError
from shmetrics.entries import Contents
from shmetrics.families import Definition
from shmetrics.instruments import MOST_WAITING, Instrument, as_text, class_of
from shmetrics.locks import RegistryBusyError
from shmetrics.segment import Segment
from shmetrics.writer import Writer

DEFINITION_PATIENCE: Final = 2.0
"""Seconds that a definition may wait for REGISTRY, and the end of a process for places of what waits."""
_TRIES: Final = 40
"""To find a place for one series at the end of a process."""

_Kind = TypeVar("_Kind", bound=Instrument)


class Metric(Generic[_Kind]):
    """One metric. `labels` gives the instrument of a series; a metric without labels works like its only one.

    Any thread, greenlet or signal handler may call.
    """

    def __init__(self, definition: Definition, make: Callable[[tuple[str, ...]], _Kind], most: int) -> None:
        self.definition = definition
        self._make = make
        self._most = most
        self._known: dict[tuple[str, ...], _Kind] = {}
        if not definition.labels:
            self.labels()

    def __repr__(self) -> str:
        return f"<{self.definition.kind} {self.definition.name!r}, labels {list(self.definition.labels)}>"

    def labels(self, /, *values: object, **named: object) -> _Kind:
        """The instrument of the series with these label values, in order or by name. Keep it: that is the fast way.

        ValueError for other labels than the metric's. Values become texts.
        """
        if not named:  # the usual case, and the hot one: texts in order, of a series that is known
            try:
                return self._known[values]  # type: ignore[index]  # other values than texts are not in it
            except (KeyError, TypeError):
                pass
        key = self._key(values, named)
        known = self._known.get(key)
        if known is None:
            known = self._make(key)
            if not known.overflows:  # else there would be no end of them
                if len(self._known) >= self._most:
                    self._let_go()
                known = self._known.setdefault(key, known)  # another thread's, where that came first
        return known

    def key(self, /, *values: object, **named: object) -> tuple[str, ...]:
        """Label values as the catalog has them; ValueError for other labels than the metric's."""
        return self._key(values, named)

    def _key(self, values: tuple[object, ...], named: dict[str, object]) -> tuple[str, ...]:
        names = self.definition.labels
        if values and named:
            raise ValueError(f"give the labels of {self.definition.name!r} in order or by name, not both")
        if named:
            if len(named) == len(names):
                with suppress(KeyError):
                    return tuple([as_text(named[name]) for name in names])
            raise ValueError(f"{self.definition.name!r} has the labels {list(names)}, not {sorted(named)}")
        if len(values) != len(names):
            raise ValueError(
                f"{self.definition.name!r} has the labels {list(names)}, and got the values {list(values)}"
            )
        return tuple([as_text(value) for value in values])

    def forget(self, key: tuple[str, ...]) -> None:
        """Let go of the instrument of a series that was removed: `labels` then makes the series anew, at once."""
        known = self._known.pop(key, None)
        if known is not None and known.waits:
            known.settle()

    def _let_go(self) -> None:
        """Forget the instruments of the series there are: `labels` makes them anew. Nothing is waited for here."""
        for key, instrument in list(self._known.items()):
            if not instrument.waits or len(self._known) >= MOST_WAITING:
                self._known.pop(key, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self.definition.labels:
            raise ValueError(f"{self.definition.name!r} has the labels {list(self.definition.labels)}; call labels() "
                             f"with their values first")  # fmt: skip
        return getattr(self._known.get(()) or self.labels(), name)


class Book:
    """All metrics of this process in one hub. Any thread may call."""

    def __init__(self, segment: Segment, writer: Writer) -> None:
        self.catalog = Catalog(segment)
        self._writer = writer
        self._most = segment.layout.max_series
        self._metrics: dict[str, Metric[Any]] = {}
        self._waiting: set[Instrument] = set()

    def contents(self) -> Contents:
        """The metrics and series of the hub."""
        return self.catalog.contents()

    def define(self, definition: Definition) -> Metric[Any]:
        """A metric, defined for the whole hub. ValueError when another of that name is defined."""
        known = self._metrics.get(definition.name)
        if known is None or known.definition != definition:
            try:
                serial = self.catalog.define(definition, patience=DEFINITION_PATIENCE, overflow=True)
                self.catalog.reserve_overflow(serial, patience=DEFINITION_PATIENCE)
            except FullError:
                self._writer.mention("metrics", f"there is no room for metric {definition.name!r}, or for what might "
                                     f"overflow it; create the hub with a larger max_series")  # fmt: skip
            except RegistryBusyError:
                self._writer.mention("busy", "another process holds the registry; metrics are defined when it lets go")
            made = self._metric(definition)
            known = self._metrics.setdefault(definition.name, made)  # another thread's, where that came first
            if known.definition != definition:
                known = self._metrics[definition.name] = made
        return known

    def agree(self, definition: Definition) -> Metric[Any] | None:
        """The metric; or the one of that name that the hub has from before, with other buckets say, which then stands.

        For metrics that no application defines: a new release, or a reload with another option, must not end a server.
        None where the one that is there has another kind or other labels. Either is told once.
        """
        try:
            return self.define(definition)
        except ValueError as error:
            known = self.find(definition.name)
            if known is None:
                raise
            old = known.definition
            fits = (old.kind, old.labels, old.merge) == (definition.kind, definition.labels, definition.merge)
            outcome = "that one stands" if fits else "so this one is not recorded"
            self._writer.mention(f"defined {definition.name}", f"{error}; until then {outcome}")
            return known if fits else None

    def find(self, name: str) -> Metric[Any] | None:
        """The metric of that name, defined by any process; None where there is none."""
        known = self._metrics.get(name)
        if known is None:
            contents = self.catalog.contents()
            serial = contents.metric(name)
            if serial:
                known = self._metrics.setdefault(name, self._metric(contents.metrics[serial]))
        return known

    @property
    def waiting(self) -> list[Instrument]:
        """The instruments whose changes wait for a place."""
        return [instrument for instrument in list(self._waiting) if instrument.waits]

    def settle(self, deadline: float | None = None) -> None:
        """Find places for what waits, until `deadline` on the monotonic clock. At the orderly end of a process."""
        waiting = self.waiting
        if not waiting:
            return
        deadline = time.monotonic() + DEFINITION_PATIENCE if deadline is None else deadline
        self._writer.claim(max(0.0, deadline - time.monotonic()))
        for instrument in waiting:  # each waits its while; when a fleet ends, all want the registry at once
            for _ in range(_TRIES):
                instrument.settle()
                if not instrument.waits or time.monotonic() > deadline:
                    break
        lost = sum(instrument.waits for instrument in waiting)
        if lost:
            self._writer.mention("lost series", f"changes of {lost} series found no place in time, and are lost")

    def _metric(self, definition: Definition) -> Metric[Any]:
        kind = class_of(definition.kind)
        writer, catalog, waiting = self._writer, self.catalog, self._waiting

        def make(labels: tuple[str, ...]) -> Instrument:
            return kind(writer, catalog, definition, labels, waiting=waiting)

        return Metric(definition, cast(Any, make), self._most)
