"""Scrapes that overlap share one snapshot."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from shmetrics import forks
from shmetrics.snapshot import Snapshot, check_source

_PATIENCE: Final = 1.0
"""Seconds a scrape waits for another's snapshot, which takes 10 ms or so, before it takes its own."""


class Source(Protocol):
    """What can be exported: `PerformanceMetrics`, a `Hub`, or anything else with a snapshot."""

    def snapshot(self) -> Snapshot:
        """The fleet at this instant."""


class SharedSnapshots:
    """One snapshot at a time: who waits for another's meanwhile gets the next one together with all who wait.

    So ten scrapes at once cost two snapshots, and none ever shows less than what had been recorded when it was asked
    for, which reuse by age would. Any thread may call; the lock is this process's own and is held neither while a page
    is rendered nor by anybody who records.
    """

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        check_source(source)
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = -1.0
        self._snapshot: Snapshot | None = None
        forks.register(self)

    def snapshot(self) -> Snapshot:
        """The fleet at an instant after this call began."""
        asked = self._clock()
        # Bounded, for whoever asks again from a signal handler or a GC callback of the very thread that has the lock.
        if not self._lock.acquire(timeout=_PATIENCE):
            return self._source.snapshot()
        try:
            if self._snapshot is None or self._begun < asked:
                begun = self._clock()
                self._snapshot = self._source.snapshot()
                self._begun = begun
            return self._snapshot
        finally:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget a lock that a thread of the parent may have held. Called by `forks`."""
        self._lock = threading.Lock()
