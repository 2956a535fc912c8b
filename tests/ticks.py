"""Snapshots of a fleet that goes on, tick by tick, for whatever looks at it again and again."""

from dataclasses import replace

import numpy as np

from shmetrics.folded import Folded
from shmetrics.layout import RECORD
from shmetrics.snapshot import Counters
from tests.forge import fleet, records


class Feed:
    """One worker's hub whose totals grow with every tick; each snapshot is added to a history, if there is one."""

    def __init__(self, history=None, created_at=0.0):
        self.history = history
        self._created_at = created_at
        self._folded = Folded()
        self._counters = Counters()
        self._errors = 0

    def tick(self, at, *, busy=0.0, rss=2e6, **what):
        """The snapshot of a moment: see `snapshot`."""
        snapshot = self.snapshot(at, **what)
        if self.history is not None:
            self.history.add(snapshot, [{"alive": True, "busy_fraction": busy, "rss_bytes": rss}])
        return snapshot

    def snapshot(self, at, *, requests=0, latency=0.1, errors=0, hits=0, misses=0, rows=None, **fields):
        """The hub at a moment, after so many more requests in the half second before, or after these records."""
        self._errors += errors
        if rows is None:
            rows = records(np.full(requests, at - 0.5), inference_time=latency, errors=self._errors)
        assert rows.dtype == RECORD
        self._folded.add_rows(rows)
        self._counters += Counters(len(rows), errors, hits, misses)
        folded = Folded()
        folded.copy_from(self._folded)
        hub = fleet()
        known = {
            "taken_at": float(at),
            "created_at": self._created_at,
            "counters": self._counters,
            "folded": folded,
            "health": replace(hub.health, slots_live=1),
        }
        return replace(hub, **(known | fields))
