"""The aggregator: the one process of a hub that reaps the dead and samples the fleet.

Several may run; ROLE, a kernel lock, says which one leads, and the kernel passes it on when the leader dies. A hub
works without any: workers claim, record and reap for themselves, and any process can read. What is missing then is the
prompt noticing of deaths, and what happened more than five minutes ago: the peak, and the history.
"""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

import numpy as np

from shmetrics import oom, slots
from shmetrics.catalog import Catalog
from shmetrics.doorbell import Doorbell
from shmetrics.evidence import STUCK_AFTER
from shmetrics.expiry import Expiry
from shmetrics.history import History
from shmetrics.hub import View
from shmetrics.locks import ROLE, ByteLock
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import Obituary
from shmetrics.segment import Segment
from shmetrics.snapshot import Snapshot
from shmetrics.statistics import Statistics

STANDBY_INTERVAL: Final = 0.2
"""Seconds between a standby's tries to lead."""
_OOM_MEMORY: Final = 10.0
"""Seconds at least for which an OOM kill is news: a process that large takes a while to go."""


class Aggregator:
    """Leads a hub, or stands by to. One thread of one process uses it; close it, or use it as a context manager.

    ``segment``: attached for writing; ``stuck_after``: seconds after which a request in flight is a finding.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        stuck_after: float = STUCK_AFTER,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segment = segment
        self._view = View(segment, clock=clock, sleep=sleep)
        self._stuck_after = stuck_after
        self._expiry = Expiry(Catalog(segment), clock)
        self._obituaries = Obituaries(segment)
        self._oom_reading = (0.0, 0)
        self._role = ByteLock(segment.descriptor, ROLE)
        self._bell: Doorbell | None = None
        self.history = History()
        """What the fleet did while this process led."""
        self._clock = clock
        self._sleep = sleep

    @property
    def leads(self) -> bool:
        """Whether this process holds ROLE."""
        return self._role.held

    @property
    def name(self) -> str:
        """The hub's name."""
        return self._segment.name

    def obituaries(self) -> tuple[Obituary, ...]:
        """What is known of the last workers that died, the newest last."""
        return self._obituaries.read()

    def try_lead(self) -> bool:
        """Take ROLE if nobody has it; whether this process leads now. HubClosedError after `close`.

        Without descriptors to lock with it does not, and may at the next try.
        """
        segment = self._view.segment
        try:
            if not self._role.held and self._role.try_acquire():
                self._bell = Doorbell(segment)
        except OSError:  # no descriptors are left to lock with
            return False
        return self._role.held

    def tick(self) -> Statistics:
        """Reap the dead, look at the fleet, note what it may be asked for later. Only the leader calls."""
        self._watch_oom_kills()
        slots.reap(self._segment, clock=self._clock, sleep=self._sleep)
        fleet = self._view.snapshot()
        self._expiry.look(fleet)
        figures = self._view.comprehensive(fleet=fleet, stuck_after=self._stuck_after)
        self.history.add(fleet, figures["workers"])
        peak = self._segment.header["peak_throughput"]
        if not (math.isfinite(peak) and peak >= figures["peak_throughput"]):
            self._segment.header["peak_throughput"] = np.float64(figures["peak_throughput"])
        self._note_memory(figures["workers"])
        return figures

    def _watch_oom_kills(self) -> None:
        """Every _OOM_MEMORY: kills that were counted at the last reading are no news any more; read again."""
        now, (read_at, reading) = self._clock(), self._oom_reading
        if now - read_at >= _OOM_MEMORY:
            self._obituaries.watch_oom_kills(reading)
            self._oom_reading = (now, oom.reading())

    def _note_memory(self, rows: list[Statistics]) -> None:
        """Leave each worker's resident memory in its slot, for its obituary."""
        for row in rows:
            if row["rss_bytes"] and row["alive"]:
                words = slots.words_of(self._segment, row["slot"])
                if words[slots.GENERATION] == row["generation"]:  # should the slot change hands now, no harm is done
                    words[slots.RSS_BYTES] = row["rss_bytes"]

    def figures(self, fleet: Snapshot) -> Statistics:
        """Every figure of a snapshot that `look` took."""
        return self._view.comprehensive(fleet=fleet, stuck_after=self._stuck_after)

    def look(self) -> Snapshot:
        """The fleet now, between two ticks, which the history takes in as well. Only the leader calls."""
        fleet = self._view.snapshot()
        self.history.add(fleet)
        return fleet

    def wait(self, seconds: float, *, until: Callable[[], bool] | None = None) -> bool:
        """Sleep until the next tick is due, somebody rings the doorbell, or `until()` is true; whether it was early."""
        if self._bell is None:
            self._sleep(seconds)
            return False
        return self._bell.wait(seconds, clock=self._clock, sleep=self._sleep, until=until)

    def close(self) -> None:
        """Give ROLE up, and the segment; a standby takes over."""
        if self._bell is not None:
            self._bell.close(remove=self._role.held)
            self._bell = None
        self._role.release()
        self._view.close()

    def __enter__(self) -> "Aggregator":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
