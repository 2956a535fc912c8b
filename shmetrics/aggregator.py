"""The aggregator: the one process of a hub that reaps the dead and samples the fleet.

Several may run; ROLE, a kernel lock, says which one leads, and the kernel passes it on when the leader dies. A hub
works without any: workers claim, record and reap for themselves, and any process can read. What is missing then is the
prompt noticing of deaths, and the peak of more than five minutes ago.
"""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

import numpy as np

from shmetrics import slots
from shmetrics.catalog import Catalog
from shmetrics.doorbell import Doorbell
from shmetrics.expiry import Expiry
from shmetrics.hub import View
from shmetrics.locks import ROLE, ByteLock
from shmetrics.segment import Segment
from shmetrics.statistics import Statistics

STANDBY_INTERVAL: Final = 0.2
"""Seconds between a standby's tries to lead."""


class Aggregator:
    """Leads a hub, or stands by to. One thread of one process uses it; close it, or use it as a context manager.

    ``segment``: attached for writing.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segment = segment
        self._view = View(segment, clock=clock, sleep=sleep)
        self._expiry = Expiry(Catalog(segment), clock)
        self._role = ByteLock(segment.descriptor, ROLE)
        self._bell: Doorbell | None = None
        self._clock = clock
        self._sleep = sleep

    @property
    def leads(self) -> bool:
        """Whether this process holds ROLE."""
        return self._role.held

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
        """Reap the dead, look at the fleet, remember its best second, remove what expired. Only the leader calls."""
        slots.reap(self._segment, clock=self._clock, sleep=self._sleep)
        fleet = self._view.snapshot()
        self._expiry.look(fleet)
        figures = self._view.comprehensive(fleet=fleet)
        peak = self._segment.header["peak_throughput"]
        if not (math.isfinite(peak) and peak >= figures["peak_throughput"]):
            self._segment.header["peak_throughput"] = np.float64(figures["peak_throughput"])
        return figures

    def wait(self, seconds: float) -> bool:
        """Sleep until the next tick is due or somebody rings the doorbell; whether somebody did."""
        if self._bell is None:
            self._sleep(seconds)
            return False
        return self._bell.wait(seconds, clock=self._clock, sleep=self._sleep)

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
