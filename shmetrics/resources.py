"""What the operating system says of the workers: CPU and memory, and what else ``/proc`` tells at one look.

A pid from shared memory is only ever looked at, and only believed when the process's start time is the one the worker
wrote down: a reused pid, or one of another PID namespace, gives no figure rather than somebody else's. Start time and
figures are read together, so they are of one process. (psutil would look five times, and take five times as long.)
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shmetrics import native
from shmetrics.arrays import np
from shmetrics.process import stat_fields
from shmetrics.snapshot import Usage, WorkerSnapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_BETWEEN_SIZES: Final = 10.0
_SIZES: Final = 60
_LEAST_SIZES: Final = 12
"""Sizes of a process's memory that are remembered, the seconds between two, and how few say nothing of its growth."""
_SURELY_GROWS: Final = 4.0
"""Standard deviations."""


class Resources:
    """Looks at worker processes, and remembers the last look at each. Any thread may call."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], _Look] = {}

    def usages(self, workers: Sequence[WorkerSnapshot]) -> list[Usage]:
        """CPU and memory of each worker now; whoever is not among them is forgotten."""
        read = _stat_reader()
        looks = [self._look(worker, read) for worker in workers]
        self._last = {look.key: look for look in looks if look is not None}
        return [Usage() if look is None else look.usage for look in looks]

    def _look(self, worker: WorkerSnapshot, read: _StatReader) -> _Look | None:
        stat = _stat_of(worker, read) if worker.ended_at is None else None
        if stat is None:
            return None
        key = (worker.pid, worker.start_ticks)
        last = self._last.get(key)
        at, used = time.clock_gettime(time.CLOCK_BOOTTIME), stat.cpu_seconds  # start_ticks counts on it (proc(5))
        elapsed = at - (worker.start_ticks / _TICKS_PER_SECOND if last is None else last.at)
        worked = max(0.0, used - (0.0 if last is None else last.cpu_seconds))
        percent = 100.0 * worked / elapsed if elapsed > 0.0 else 0.0
        history = Memory() if last is None else last.memory
        history.note(at, stat.rss_bytes)
        state = _RUNS if stat.state == _TRACED and _is_only_looked_at(worker.pid) else stat.state
        return _Look(key, at, used, history, Usage(percent, stat.rss_bytes, history.growth, state))


class _Look(NamedTuple):
    """One look at one process."""

    key: tuple[int, int]
    at: float
    cpu_seconds: float
    memory: Memory
    usage: Usage


class Memory:
    """A process's resident memory over the last ten minutes, and whether it grows. For one thread at a time."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[float, int]] = deque(maxlen=_SIZES)
        self.growth: float | None = None
        """Bytes per second: see `growth_of`; None before there are _LEAST_SIZES to tell it by."""

    def note(self, at: float, size: int) -> None:
        """Remember what it had at a time, in seconds on any clock, unless the last is too short a time ago."""
        if self._sizes and at - self._sizes[-1][0] < _BETWEEN_SIZES:
            return
        self._sizes.append((at, size))
        if len(self._sizes) >= _LEAST_SIZES:
            self.growth = growth_of(np.array(self._sizes))


def growth_of(sizes: NDArray[np.float64]) -> float:
    """The slope of sizes over times, shape (n, 2) with times first, or 0.0 where chance would make it as steep.

    The median of the slopes between all pairs (P. K. Sen, 1968), which a few leaps do not move; and the test of
    H. B. Mann (1945) and M. G. Kendall, which asks whether of all pairs more grow than chance would make grow.
    """
    earlier, later = np.triu_indices(len(sizes), 1)
    time, size = (sizes[later] - sizes[earlier]).T
    count = len(sizes)
    chance = math.sqrt(count * (count - 1) * (2 * count + 5) / 18.0)
    if np.sign(size).sum() < _SURELY_GROWS * chance:
        return 0.0
    return float(np.median(size / time))


class ProcessFigures(NamedTuple):
    """What the kernel says of one worker process, all of it at one look."""

    cpu_seconds: float
    """User and system, since the process started."""
    rss_bytes: int
    virtual_bytes: int
    threads: int
    open_fds: int | None
    """None where they cannot be counted: no permission, or no descriptor left to count with."""


def process_figures(workers: Sequence[WorkerSnapshot]) -> list[ProcessFigures | None]:
    """What the kernel says of the process of each live worker now, or None. Keeps no memory of it; any thread may call.

    The start time is read last. A pid is nobody else's while its process is there: whoever has it then, and started
    when the worker did, had it when the descriptors were counted too.
    """
    found: list[ProcessFigures | None] = []
    read = _stat_reader()
    for worker in workers:
        open_fds = _open_fds(worker.pid) if worker.alive else None
        stat = _stat_of(worker, read) if worker.alive else None
        if stat is None:
            found.append(None)
        else:
            found.append(ProcessFigures(stat.cpu_seconds, stat.rss_bytes, stat.virtual_bytes, stat.threads, open_fds))
    return found


_RUNS: Final = "R"
_TRACED: Final = "t"
_PROFILER: Final = "py-spy"


def _is_only_looked_at(pid: int) -> bool:
    """Whether a process that its tracer has stopped goes on by itself: it does already, or py-spy looks at it."""
    try:
        # A process may have a carriage return in its name, which ends no line there.
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace", newline="\n") as file:
            status = dict(line.split(":", 1) for line in file)
        if not status["State"].strip().startswith(_TRACED):
            return True
        with open(f"/proc/{int(status['TracerPid'])}/comm", encoding="ascii", errors="replace") as file:
            return file.read().strip() == _PROFILER
    except OSError:  # gone; or traced from where we see nobody, who is then number 0
        return False


class _Stat(NamedTuple):
    """Some of what ``/proc/<pid>/stat`` (proc(5)) says of a process."""

    state: str
    ticks: int
    """User and system time."""
    threads: int
    start_ticks: int
    virtual_bytes: int
    pages: int
    """Those that are resident."""

    @property
    def cpu_seconds(self) -> float:
        """User and system time."""
        return self.ticks / _TICKS_PER_SECOND

    @property
    def rss_bytes(self) -> int:
        """Memory that is resident."""
        return self.pages * _PAGE


_START: Final = _Stat._fields.index("start_ticks")
_StatReader = Callable[[int], tuple[Any, ...] | None]
"""What it gives are the fields of `_Stat`; None where there is no process to see."""


def _stat_reader() -> _StatReader:
    """The one in C where that is used, which is asked once for many looks."""
    return native.instead("process_stat", _read_stat)


def _stat_of(worker: WorkerSnapshot, read: _StatReader) -> _Stat | None:
    """What is said of a worker's process; None when that is of another, or there is none to see."""
    found = read(worker.pid)
    return _Stat._make(found) if found is not None and found[_START] == worker.start_ticks else None


def _read_stat(pid: int) -> _Stat | None:
    fields = stat_fields(f"/proc/{pid}/stat")
    if fields is None:
        return None
    threads, _, start, virtual, pages = map(int, fields[17:22])
    return _Stat(fields[0].decode(), int(fields[11]) + int(fields[12]), threads, start, virtual, pages)


def _open_fds(pid: int) -> int | None:
    """How many descriptors are in a ``/proc/<pid>/fd``; None where they cannot be counted."""
    directory = f"/proc/{pid}/fd"
    try:
        known = os.stat(directory).st_size  # since Linux 6.2, and a fifth of the work
        return known or len(os.listdir(directory))
    except OSError:
        return None
