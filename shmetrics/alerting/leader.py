"""The alerts of the aggregator that leads: a rules file, watched over the whole fleet, once."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from shmetrics.alerting import definition
from shmetrics.alerting.alert import Alert
from shmetrics.alerting.definition import RuleFile
from shmetrics.alerting.dispatch import Dispatch
from shmetrics.alerting.health import AlertingHealth
from shmetrics.alerting.tripwire import Tripwire
from shmetrics.alerting.watch import Watch, wires_of
from shmetrics.errors import RulesError
from shmetrics.history import History
from shmetrics.segment import Segment
from shmetrics.snapshot import Snapshot

_PATIENCE: Final = 5.0
_Version = tuple[int, int, int]


class LeaderAlerts:
    """Rules of a file, judged at each tick of the leader, and those who are told. One thread, the leader's, calls.

    ``dispatch_of``: checks a file and makes its receivers (`exporters.alerts`). RulesError when the file has a mistake.
    A file that changes is read again: what fires by rules that are still there goes on. One with a mistake changes
    nothing.
    """

    def __init__(
        self,
        path: str,
        segment: Segment,
        history: History,
        dispatch_of: Callable[[RuleFile], Dispatch],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._dispatch_of = dispatch_of
        self._segment = segment
        self._clock = clock
        self._version = _version(path)
        self.file = definition.read(path)
        self._dispatch = dispatch_of(self.file)
        self._watch = Watch(self.file.rules, self.file.silences, history=history)
        self._looking = threading.Lock()
        self._wire = self._new_wire()
        self.has_tripped = False
        """Whether a look before the next tick is wanted."""

    def _new_wire(self) -> Tripwire | None:
        wires = wires_of(self.file.rules)
        return Tripwire(self._segment, wires, self._clock) if wires else None

    def reload(self) -> str | None:
        """Read the file again if it changed; what there is to say of it."""
        version = _version(self._path)
        if version == self._version:
            return None
        self._version = version
        try:
            file = definition.read(self._path)
            file.check()
            dispatch = self._dispatch if _same_receivers(file, self.file) else self._dispatch_of(file)
        except RulesError as error:
            return f"{error}\nthe rules that were read before go on"
        with self._looking:
            old, self._dispatch, self.file = self._dispatch, dispatch, file
            self._watch.use(file.rules, file.silences)
            self._wire = self._new_wire()
        if old is not dispatch:
            threading.Thread(target=old.close, args=(_PATIENCE,), name="shmetrics-alerts-old", daemon=True).start()
        return f"{self._path} was read again: {len(file.rules)} rules"

    def arm(self) -> None:
        """Before the snapshot of the next `look` is taken."""
        self.has_tripped = False
        if self._wire is not None:
            self._wire.arm()

    def tripped(self) -> bool:
        """Whether something happened in a worker that is worth a look before the next tick."""
        self.has_tripped = self._wire is not None and self._wire.tripped()
        return self.has_tripped

    @property
    def wants_a_tick(self) -> bool:
        """Whether a worker died: only a tick, which reaps it, finds out more."""
        return self._wire is not None and self._wire.found_death()

    def rest(self, cost: float) -> None:
        """A look before its time took so many seconds."""
        if self._wire is not None:
            self._wire.rest(cost)

    def look(self, snapshot: Snapshot, figures: Callable[[], Mapping[str, Any]]) -> list[Alert]:
        """Judge the fleet, and tell whom it concerns; what was announced. Never waits for a receiver.

        ``figures``: see `Watch.look`.
        """
        with self._looking:
            alerts = self._watch.look(snapshot, figures)
            self._dispatch.announce(alerts)
            if self._dispatch.has_followers:
                self._dispatch.follow(self._watch.active(silenced=False))
        return alerts

    @property
    def health(self) -> AlertingHealth:
        """How it is doing. Any thread may ask."""
        with self._looking:
            return AlertingHealth(self._watch, self._dispatch)

    def close(self) -> None:
        """Deliver what is queued, for a few seconds."""
        self._dispatch.close(_PATIENCE)


def _version(path: str) -> _Version | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _same_receivers(one: RuleFile, other: RuleFile) -> bool:
    return [table.content for table in one.receivers] == [table.content for table in other.receivers]
