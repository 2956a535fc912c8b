"""The fleet: the processes under torture. Starts, stops, continues, kills and buries them, and notices who hangs."""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass

from tests.torture import ledger as columns
from tests.torture import workers
from tests.torture.failpoints import Fate

MOST_PROCESSES = 100_000
_POLL = 0.0003


@dataclass(eq=False)
class Process:
    """One tortured process."""

    role: object
    number: int
    pid: int
    fate: Fate
    row: memoryview
    progress: tuple = ()
    wake_at: float | None = None
    killed: bool = False
    halted: bool = False
    """Whether it stopped itself at its failpoint, and is there still."""

    def __post_init__(self):
        self.born = self.progressed_at = time.monotonic()


class Fleet:
    """All tortured processes of one harness. ``hang_bound``: seconds without progress after which one hangs.

    Progress is a record acknowledged or a round begun. Fifteen processes on two loaded CPUs each get one many times a
    second, so the bound may be, and is, generous.
    """

    def __init__(self, target, ledger, monitor, hang_bound):
        self._target = target
        self._ledger = ledger
        self._monitor = monitor
        self._hang_bound = hang_bound
        self.running = {}
        self.started = self.deaths = self.stops = self.crashes = self.hangs = 0
        self.struck = Counter()

    def start(self, role, fate=None, lifetime=None):
        """Start a process; ``fate`` None: it lives until it is killed."""
        number, self.started = self.started, self.started + 1
        row, fate = self._ledger.row(number), fate or Fate()
        self._monitor.born(number, is_writer=role is workers.write)
        pid = workers.start(role, workers.Job(self._target, number, row, fate, lifetime))
        process = self.running[pid] = Process(role, number, pid, fate, row)
        return process

    def bury(self):
        """Wait for whoever has died; returns them."""
        return [process for process in list(self.running.values()) if self._is_over(process)]

    def _is_over(self, process, options=os.WNOHANG):
        pid, status = os.waitpid(process.pid, options)
        if pid and not os.WIFSTOPPED(status):
            self._bury(process, status)
        return pid != 0

    def _bury(self, process, status):
        del self.running[process.pid]
        self._monitor.died(process.number)
        if os.WIFSIGNALED(status):
            self.deaths += 1
            if process.halted or (not process.killed and os.WTERMSIG(status) == signal.SIGKILL):
                self.struck[process.fate.function] += 1
            self.crashes += os.WTERMSIG(status) != signal.SIGKILL
        else:
            self.crashes += os.WEXITSTATUS(status) != 0

    def kill(self, process):
        """Kill one, stopped or not."""
        process.killed = True
        os.kill(process.pid, signal.SIGKILL)

    def kill_now(self, process):
        """Kill one and wait until it is dead and buried, if it is not yet."""
        if process.pid in self.running:
            self.kill(process)
            self.wait_for(lambda: process.pid not in self.running)

    def stop(self, process, seconds):
        """Stop one wherever it is, for that long."""
        self.stops += 1
        process.row[columns.STOPS] += 1
        os.kill(process.pid, signal.SIGSTOP)
        process.wake_at = time.monotonic() + seconds

    def wake(self, *, everybody=False):
        """Continue those whose time has come."""
        now = time.monotonic()
        for process in self.running.values():
            if process.wake_at is not None and (everybody or now >= process.wake_at):
                os.kill(process.pid, signal.SIGCONT)
                process.row[columns.STOPS] += 1
                process.wake_at, process.progressed_at = None, now

    def halted(self, process, rounds=100):
        """Wait for one to stop itself at its failpoint; False when it ended, or came around so often, without that."""

        def is_decided():
            if process.pid in self.running and self._is_over(process, os.WNOHANG | os.WUNTRACED):
                process.halted = process.pid in self.running
            return process.halted or process.pid not in self.running or process.row[columns.BEATS] >= rounds

        self.wait_for(is_decided)
        return process.halted

    def go_on(self, process):
        """Continue one that stopped itself. How long it was is our doing, like any stop."""
        process.row[columns.STOPS] += 2
        process.halted = False
        os.kill(process.pid, signal.SIGCONT)

    def wait_for(self, condition, patience=None):
        """Poll until `condition()`; whether it came true. Without ``patience``, if it does not then something hangs."""
        deadline = time.monotonic() + (patience or self._hang_bound)
        while not condition():
            self.bury()
            if time.monotonic() > deadline:
                self.hangs += patience is None
                return False
            time.sleep(_POLL)
        return True

    def note_hangs(self):
        """Count, show and kill whoever made no progress for too long."""
        now = time.monotonic()
        for process in list(self.running.values()):
            progress = (process.row[columns.ACKNOWLEDGED], process.row[columns.BEATS])
            if progress != process.progress or process.wake_at is not None:
                process.progress, process.progressed_at = progress, now
            elif now - process.progressed_at > self._hang_bound:
                self.hangs += 1
                print(f"{process.role.__name__} {process.number} ({process.fate}) hangs", file=sys.stderr, flush=True)
                os.kill(process.pid, signal.SIGUSR1)  # it prints where
                time.sleep(0.2)
                self.kill(process)
                process.progressed_at = now

    def end(self):
        """Kill and bury everybody; who cannot be killed hangs."""
        for process in self.running.values():
            self.kill(process)
        if not self.wait_for(lambda: not self.running):
            self.running.clear()
