"""The harness: starts the tortured processes, kills them at random, and lets the monitor look all the while."""

import mmap
import os
import random
import signal
import time
from dataclasses import dataclass, field

import numpy as np

from shmetrics import naming, segment, slots
from shmetrics.layout import Layout
from shmetrics.locks import REGISTRY, ByteLock, is_locked
from tests.torture import workers
from tests.torture.monitor import Monitor
from tests.torture.workers import COLUMNS, SWITCHES, WORST_CLAIM_US, WORST_READ_US, WORST_WAIT_US

MOST_PROCESSES = 60_000
KILLS_A_LOOK = 4
WINDOW = 511
"""With this window the ring is just large enough, so that the reader's bounds are put to the test."""

_STEPS = {
    workers.write: ("claim", "write", "fold", "release"),
    workers.read: ("read",),
    workers.reap: ("reap",),
    workers.create: ("create",),
}


@dataclass
class Report:
    """What one torture came to."""

    seconds: float
    deaths: int = 0
    records: int = 0
    reads: int = 0
    stale: int = 0
    lost: int = 0
    violations: dict = field(default_factory=dict)
    examples: dict = field(default_factory=dict)
    crashes: int = 0
    worst_claim_ms: float = 0.0
    worst_read_ms: float = 0.0
    worst_wait_ms: float = 0.0
    blocked_writes: int = 0

    @property
    def good(self):
        """Whether every promise held."""
        return not self.violations and not self.crashes


class Torture:
    """One run. ``count``: writers alive at once, beside two readers, two reapers and two creators."""

    def __init__(self, name, *, seconds, count, seed):
        self._draw = random.Random(seed)
        self._seconds = seconds
        self._name = name
        self._target = segment.create(name, Layout(max_workers=2 * count + 4, window_size=WINDOW, max_series=8))
        self._ledger_memory = mmap.mmap(-1, 8 * COLUMNS * MOST_PROCESSES)
        self._ledger = memoryview(self._ledger_memory).cast("Q")
        self._monitor = Monitor(self._target, self._ledger)
        self._started = 0
        self._running = {}
        self._roles = [workers.write] * count + [workers.read] * 2 + [workers.reap] * 2 + [workers.create] * 2
        self._report = Report(seconds)

    def run(self, progress=lambda done: None):
        """Torture for the time given; returns the report."""
        begin = time.monotonic()
        try:
            for role in self._roles:
                self._start(role)
            while (done := time.monotonic() - begin) < self._seconds and self._started < MOST_PROCESSES - 100:
                self._bury()
                for pid in self._draw.sample(list(self._running), min(len(self._running), KILLS_A_LOOK)):
                    if self._draw.random() < 0.5:
                        os.kill(pid, signal.SIGKILL)
                self._monitor.look()
                progress(done / self._seconds)
            self._end_all()
            self._settle()
        finally:
            self._end_all()
            segment.unlink(self._name, self._target.instance)
            self._remove_rival()
        return self._finish()

    def _start(self, role):
        number = self._started
        self._started += 1
        fate = workers.draw_fate(self._draw, _STEPS[role])
        if role is workers.write:
            self._monitor.writers.append(number)
        self._running[workers.start(role, self._target, number, self._ledger, fate)] = (role, number)

    def _bury(self, *, replace=True):
        """Wait for whoever has died, and start another in its place."""
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            role, number = self._running.pop(pid)
            self._report.deaths += os.WIFSIGNALED(status)
            self._report.crashes += not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0
            self._monitor.dead.add(number)
            if replace:
                self._start(role)

    def _end_all(self):
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30.0
        while self._running and time.monotonic() < deadline:
            self._bury(replace=False)
            time.sleep(0.001)

    def _settle(self):
        """With everybody dead: reap what is left, and look once more. Nothing may be locked, missing or left over."""
        violations = self._monitor.violations
        if is_locked(self._target.descriptor, REGISTRY):
            violations["locked"] += 1
        self._monitor.look()
        for _ in range(3):
            slots.reap(self._target, patience=1.0)
            self._monitor.look()
        if np.count_nonzero(self._target.slots["owner"]["state"]):
            violations["unreaped"] += 1
        prefix = "sem." + naming.semaphore_prefix(self._name, self._target.instance)
        semaphores = sum(file.startswith(prefix) for file in os.listdir(naming.SHM_DIR))
        if semaphores > 2 * self._target.layout.max_workers:
            violations["semaphores"] += semaphores
        with ByteLock(self._target.descriptor, REGISTRY) as registry:
            violations["locked"] += not registry.try_acquire()

    def _remove_rival(self):
        """Remove the creators' hub; however they died, it is whole or it is not there."""
        try:
            rival = segment.attach(f"{self._name}-x")
        except segment.HubNotFoundError:
            return
        segment.unlink(rival.name, rival.instance)
        rival.close()

    def _finish(self):
        report, monitor = self._report, self._monitor
        table = np.frombuffer(self._ledger, np.uint64).reshape(-1, COLUMNS)[: self._started]
        report.records = int(monitor.acknowledged().sum())
        report.reads, report.stale = monitor.reads, monitor.stale
        report.violations = {kind: count for kind, count in monitor.violations.items() if count}
        report.examples = {kind: repr(detail) for kind, detail in monitor.examples.items()}
        report.lost = report.violations.get("lost", 0)
        report.worst_claim_ms = float(table[:, WORST_CLAIM_US].max()) / 1e3
        report.worst_read_ms = float(table[:, WORST_READ_US].max()) / 1e3
        report.worst_wait_ms = float(table[:, WORST_WAIT_US].max()) / 1e3
        report.blocked_writes = int(table[:, SWITCHES].max())
        return report
