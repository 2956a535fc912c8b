"""The harness: a hub under torture, from the first directed scenario to the last reap.

First the directed scenarios (`scenarios`) and the sweep (`sweep`) walk through states that chance is slow to find, in
quiet. Then comes chaos: writers, readers, reapers, creators and ringers, all killed and stopped at random and at every
step, each replaced at once; and the monitor looks all the while.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter

import numpy as np

from shmetrics import naming, segment, slots
from shmetrics.layout import Layout
from shmetrics.locks import REGISTRY, ByteLock, is_locked
from tests.torture import failpoints, scenarios, workers
from tests.torture import ledger as columns
from tests.torture.fleet import MOST_PROCESSES, Fleet
from tests.torture.ledger import Ledger
from tests.torture.monitor import Monitor
from tests.torture.report import BROKEN, Report
from tests.torture.sweep import sweep

KILLS_A_SECOND = 80
GRACE = 0.3
"""Seconds in which a process may reach its failpoint, before it is killed at random."""
STOPPED_AT_ONCE = 2
LONGEST_STOP = 0.08
WINDOW = 511
"""With this window the ring is just large enough, so that the reader's bounds are put to the test."""

CLAIM_BOUND = 3.0
"""Seconds of wall time: the 2 s promised, and one for the scheduler of a crowded machine."""
GUARDS_BOUND = 0.0053
"""Seconds a read may sleep because of guards: the 5 ms promised, one poll of 0.2 ms, and a little for rounding."""
READ_BOUND = 0.050
"""Seconds a read may be blocked by anything (see `waiting`). Generous, for the sake of one thing that is not ours: the
kernel's lock on the directory /dev/shm, whose holder may be preempted in a crowd; and a timer may be late."""
HANG_BOUND = 20.0

STEPS_OF = {
    workers.write: ("claim", "renew", "serve", "write", "change", "fold", "guard", "release"),
    workers.read: ("read", "guard"),
    workers.reap: ("reap",),
    workers.report: ("report",),
    workers.create: ("create", "attach", "unlink"),
    workers.relabel: ("define",),
    workers.ring: ("bell",),
}


class MonitorHungError(Exception):
    """A read by the monitor did not return."""


class Torture:
    """One run. ``count``: writers alive at once, beside two each of the other roles.

    ``until_broken``: stop at the first broken promise. ``hang_bound``: see `Fleet`.
    """

    def __init__(self, name, *, seconds, count, seed, until_broken=False, hang_bound=HANG_BOUND):
        self.draw = random.Random(seed)
        self._seconds = seconds
        self._name = name
        self._until_broken = until_broken
        self._hang_bound = hang_bound
        self.target = segment.create(name, Layout(max_workers=2 * count + 8, window_size=WINDOW, max_series=16))
        workers.define_metrics(self.target)
        ledger = Ledger(MOST_PROCESSES)
        self._ledger = ledger
        self.monitor = Monitor(self.target, ledger, MOST_PROCESSES)
        self.fleet = Fleet(self.target, ledger, self.monitor, hang_bound)
        self._leftovers = Counter()
        self._roles = [workers.write] * count + [workers.read, workers.reap, workers.create, workers.ring] * 2
        self._roles += [workers.relabel] * 2 + [workers.report]
        self._report = Report(seed)
        self._progress = lambda share, report: None
        self._begin = time.monotonic()

    def run(self, progress=None):
        """Torture for the time given; returns the report. ``progress(share, report)`` is called after each look."""
        self._progress = progress or self._progress
        try:
            with contextlib.suppress(MonitorHungError):
                for phase in (scenarios.play_all, sweep, Torture._chaos, Torture._settle):
                    phase(self)
                    if self.is_over:
                        break
        finally:
            self.fleet.end()
            segment.unlink(self._name, self.target.instance)
            self._remove_rival()
            self.monitor.view.close()
        self._update_report()
        return self._report

    @property
    def is_over(self):
        """Whether a broken promise is all that was wanted, and there is one."""
        self._update_report()
        return self._until_broken and not self._report.good

    @property
    def share(self):
        """How much of the time is over, from 0 to 1 and beyond."""
        return (time.monotonic() - self._begin) / self._seconds

    def look(self, *, timed=True):
        """Let the monitor look; it hangs if that takes longer than any bound. ``timed=False``: a scenario delays it."""

        def give_up(_signal, _frame):
            raise MonitorHungError

        previous = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, self._hang_bound)
        try:
            self.monitor.look()
        except MonitorHungError:
            self.fleet.hangs += 1
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)
        if timed:
            self._judge_times()
        self._progress(self.share, self._report)

    def reap(self, patience=1.0):
        """Reap, as an aggregator would."""
        return slots.reap(self.target, patience=patience)

    def _judge_times(self):
        report, view, count = self._report, self.monitor.view, self.fleet.started
        for figure, column, bound, own in (
            ("worst_claim_ms", columns.CLAIM_NS, CLAIM_BOUND, 0.0),
            ("worst_read_ms", columns.READ_NS, None, view.wall),
            ("worst_read_blocked_ms", columns.BLOCKED_NS, READ_BOUND, view.blocked),
            ("worst_guard_wait_ms", columns.GUARDS_NS, GUARDS_BOUND, view.guards),
        ):
            times = np.append(self._ledger.column(column, count) / 1e9, own)
            setattr(report, figure, max(getattr(report, figure), 1e3 * float(times.max())))
            if bound is not None:
                self.monitor.expect(times.max() <= bound, "late", (figure, 1e3 * float(times.max())))

    def _chaos(self):
        """Everybody at once, for the rest of the time."""
        self._last_kills = time.monotonic()
        for role in self._roles:
            self._start(role)
        while self.share < 1.0 and self.fleet.started < MOST_PROCESSES - 100 and not self.is_over:
            for dead in self.fleet.bury():
                self._start(dead.role)
            self.fleet.wake()
            self.fleet.note_hangs()
            self._kill_some(time.monotonic())
            self._stop_one()
            self.look()

    def _kill_some(self, now):
        """Kill at random, so many a second however slow the machine is."""
        ripe = [
            process for process in self.fleet.running.values()
            if not process.killed and (process.fate.function is None or now - process.born > GRACE)
        ]  # fmt: skip
        due, self._last_kills = (now - self._last_kills) * KILLS_A_SECOND, now
        for process in self.draw.sample(ripe, min(len(ripe), int(due + self.draw.random()))):
            self.fleet.kill(process)

    def _stop_one(self):
        """Now and then stop one that lives, wherever it is."""
        running = list(self.fleet.running.values())
        stopped = sum(process.wake_at is not None for process in running)
        awake = [process for process in running if process.wake_at is None and not process.killed]
        if awake and stopped < STOPPED_AT_ONCE and self.draw.random() < 0.2:
            self.fleet.stop(self.draw.choice(awake), self.draw.uniform(0.01, LONGEST_STOP))

    def _start(self, role):
        steps = STEPS_OF.get(role)
        self.fleet.start(role, failpoints.draw_fate(self.draw, steps) if steps else None)

    def _settle(self):
        """With everybody dead: reap what is left, and look once more. Nothing may be locked, missing or left over."""
        self.fleet.end()
        self._leftovers["locked"] += is_locked(self.target.descriptor, REGISTRY)
        self.look()
        for _ in range(3):
            self.reap()
            self.look()
        self._leftovers["slots"] += np.count_nonzero(self.target.slots["owner"]["state"])
        prefix = "sem." + naming.semaphore_prefix(self._name, self.target.instance)
        semaphores = sum(file.startswith(prefix) for file in os.listdir(naming.SHM_DIR))
        # For each slot a guard, and its successor where the owner was killed before it stored the new number; a bell.
        self._leftovers["semaphores"] += max(0, semaphores - 2 * self.target.layout.max_workers - 1)
        with ByteLock(self.target.descriptor, REGISTRY) as registry:
            self._leftovers["locked"] += not registry.try_acquire()

    def _remove_rival(self):
        """Remove the creators' hub; however they died, it is whole or it is not there."""
        try:
            rival = segment.attach(f"{self._name}-x")
        except segment.HubNotFoundError:
            return
        segment.unlink(rival.name, rival.instance)
        rival.close()

    def _update_report(self):
        report, fleet, violations = self._report, self.fleet, self.monitor.violations
        report.seconds = time.monotonic() - self._begin
        report.records = int(self.monitor.acknowledged().sum())
        report.reads, report.stale = self.monitor.reads, self.monitor.stale
        report.deaths, report.stops = fleet.deaths, fleet.stops
        report.deaths_at_failpoints = fleet.struck.total()
        report.deaths_by_step = failpoints.by_step(fleet.struck)
        for kind in BROKEN:
            setattr(report, kind, violations[kind])
        report.crashes, report.hangs, report.leftovers = fleet.crashes, fleet.hangs, self._leftovers.total()
        report.blocked_writes = int(self._ledger.column(columns.SWITCHES, fleet.started).sum())
        report.examples = dict(self.monitor.examples)
        if self._leftovers.total():
            report.examples["leftovers"] = repr(dict(self._leftovers))
        if not report.good and report.broken_after is None:
            report.broken_after = report.seconds
