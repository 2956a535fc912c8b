"""What the operating system says of the workers: CPU and memory, by psutil, and whatever ``/proc`` tells at one look.

A pid from shared memory is only ever looked at, and only believed when the process's start time is the one the worker
wrote down: a reused pid, or one of another PID namespace, gives no figure rather than somebody else's.
"""

import os
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import psutil

from shmetrics.process import start_ticks, stat_fields
from shmetrics.snapshot import WorkerSnapshot

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """A worker process's use of the machine; None where it cannot be known."""

    cpu_percent: float | None
    """Of one CPU: since the last look at this process, at the first look since it started."""
    rss_bytes: int | None


class Resources:
    """Looks at worker processes, and remembers the last look at each. Any thread may call."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], _Look] = {}

    def usages(self, workers: Sequence[WorkerSnapshot]) -> list[Usage]:
        """CPU and memory of each worker now; whoever is not among them is forgotten."""
        looks = [self._look(worker) for worker in workers]
        self._last = {look.key: look for look in looks if look is not None}
        return [Usage(None, None) if look is None else look.usage for look in looks]

    def _look(self, worker: WorkerSnapshot) -> "_Look | None":
        if not worker.alive or start_ticks(worker.pid) != worker.start_ticks:
            return None
        key = (worker.pid, worker.start_ticks)
        last = self._last.get(key)
        try:
            process = psutil.Process(worker.pid) if last is None else last.process
            times = process.cpu_times()
            rss = process.memory_info().rss
        except (psutil.Error, ValueError, OSError):  # it ended, or no descriptors are left to look with
            return None
        at = time.clock_gettime(time.CLOCK_BOOTTIME)  # what start_ticks counts on (proc(5))
        used = times.user + times.system
        elapsed = at - (worker.start_ticks / _TICKS_PER_SECOND if last is None else last.at)
        worked = max(0.0, used - (0.0 if last is None else last.cpu_seconds))
        percent = 100.0 * worked / elapsed if elapsed > 0.0 else 0.0
        return _Look(key, process, at, used, Usage(percent, int(rss)))


class _Look(NamedTuple):
    """One look at one process."""

    key: tuple[int, int]
    process: psutil.Process
    at: float
    cpu_seconds: float
    usage: Usage


class ProcessFigures(NamedTuple):
    """What the kernel says of one worker process, all of it at one look."""

    cpu_seconds: float
    """User and system, since the process started."""
    rss_bytes: int
    virtual_bytes: int
    threads: int
    open_fds: int | None
    """None where they cannot be counted: no permission, or no descriptor left to count with."""


def process_figures(worker: WorkerSnapshot) -> ProcessFigures | None:
    """What the kernel says of a live worker's process now, or None. Keeps no memory of it; any thread may call.

    Everything is read through one open ``/proc/<pid>``, which goes on meaning the process it was opened for: should
    that end meanwhile and its pid be another's, reading fails.
    """
    if not worker.alive:
        return None
    try:
        directory = os.open(f"/proc/{worker.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = stat_fields("stat", dir_fd=directory)
        if fields is None or int(fields[19]) != worker.start_ticks:
            return None
        return ProcessFigures(
            cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND,
            rss_bytes=int(fields[21]) * _PAGE,
            virtual_bytes=int(fields[20]),
            threads=int(fields[17]),
            open_fds=_open_fds(directory),
        )
    finally:
        os.close(directory)


def _open_fds(directory: int) -> int | None:
    """Descriptors of the process whose ``/proc`` directory this is."""
    try:
        known = os.stat("fd", dir_fd=directory).st_size  # since Linux 6.2, and a fifth of the work
        if known:
            return known
        listing = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        return len(os.listdir(listing))
    except OSError:
        return None
    finally:
        os.close(listing)
