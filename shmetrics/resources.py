"""What the operating system says of the workers: CPU and memory, by psutil.

A pid from shared memory is only ever looked at, and only believed when the process's start time is the one the worker
wrote down: a reused pid, or one of another PID namespace, gives no figure rather than somebody else's.
"""

import os
import time
from typing import Final, NamedTuple

import psutil

from shmetrics.process import start_ticks
from shmetrics.snapshot import WorkerSnapshot

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """A worker process's use of the machine; None where it cannot be known."""

    cpu_percent: float | None
    """Of one CPU: since the last look at this process, at the first look since it started."""
    rss_bytes: int | None


class Resources:
    """Looks at worker processes, and remembers the last look at each. Any thread may call."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], tuple[psutil.Process, float, float]] = {}

    def usage(self, worker: WorkerSnapshot) -> Usage:
        """CPU and memory of a worker now."""
        key = (worker.pid, worker.start_ticks)
        if not worker.alive or start_ticks(worker.pid) != worker.start_ticks:
            self._last.pop(key, None)
            return Usage(None, None)
        try:
            process, then, used_then = self._last.get(key) or (
                psutil.Process(worker.pid),
                worker.start_ticks / _TICKS_PER_SECOND,
                0.0,
            )
            cpu = process.cpu_times()
            rss = process.memory_info().rss
        except (psutil.Error, ValueError):
            return Usage(None, None)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)  # what start_ticks counts on (proc(5))
        used = cpu.user + cpu.system
        self._last[key] = (process, now, used)
        return Usage(100.0 * max(0.0, used - used_then) / (now - then) if now > then else 0.0, int(rss))
