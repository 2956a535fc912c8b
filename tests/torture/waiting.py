"""How long a call was made to wait by others, told apart from how long the machine made it wait for a CPU.

A wall clock cannot judge a bound such as "a reader waits for guards for 5 ms at most" while fifteen processes share two
CPUs: being preempted for 30 ms is nobody's fault. But the kernel says how a thread's time was spent. It ran (its CPU
clock), it was ready to run and had to queue for a CPU (the second number of /proc/thread-self/schedstat, nanoseconds,
proc(5)), or it was *blocked*: asleep in a poll, waiting for a lock, for a semaphore, for the disk. So

    blocked = wall - CPU - queued

is all that another process's lock can cost, whatever the load; a thread that only computes shows less than 0.1 ms of
it, with six others on two CPUs. Waiting that burns CPU is not in it: there is none in shmetrics, whose waits all sleep,
but for the bounded retries of a reader, which the wall times show.
"""

import contextlib
import os
import time

from shmetrics.hub import View
from tests.insisting import insist


class BlockedClock:
    """Seconds for which the calling thread was blocked so far: only differences mean something."""

    def __init__(self):
        self._descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self):
        """Read all three clocks with no preemption in between; it would count as blocked."""
        while True:
            queued = self._queued()
            blocked = time.perf_counter_ns() - time.thread_time_ns() - queued
            if self._queued() == queued:
                return blocked / 1e9

    def _queued(self):
        return int(os.pread(self._descriptor, 64, 0).split()[1])

    def close(self):
        """Close the descriptor."""
        os.close(self._descriptor)


class TimedView:
    """A `hub.View` that says of each snapshot how long it took, was blocked, and slept because of guards, in seconds.

    ``torment``: called in the middle of the copy of each ring, which Python makes then; what it sleeps is not held
    against the reader.
    ``insists``: called before each snapshot, whether all slots are to be copied one by one, with their guards.
    """

    def __init__(self, target, torment=None, insists=lambda: False):
        self._view = View(target, sleep=self._sleep)
        self._blocked_clock = BlockedClock()
        self._torment = torment
        self.wall = self.blocked = self.guards = self._slept = self._own = 0.0
        if torment is not None:
            copier = self.reader._copier
            self._copy_ring, copier._copy_ring = copier._copy_ring, self._tormented_copy_ring
            copier._is_native = False
        self._insists = insists
        insist(self.reader, self._insists_now)

    def _insists_now(self):
        return self._insists()

    @contextlib.contextmanager
    def insisting(self):
        """Copy all slots one by one, with their guards, as long as this lasts."""
        before, self._insists = self._insists, lambda: True
        try:
            yield
        finally:
            self._insists = before

    @property
    def reader(self):
        """The reader inside."""
        return self._view._reader

    def snapshot(self):
        """The view's snapshot; the times of this call are in `wall`, `blocked` and `guards` then."""
        self.guards = self._slept = self._own = 0.0
        start, blocked = time.perf_counter(), self._blocked_clock()
        snapshot = self._view.snapshot()
        self.blocked = self._blocked_clock() - blocked - self._own
        self.wall = time.perf_counter() - start
        return snapshot

    def _sleep(self, seconds):
        """How the reader polls a guard that is busy. How late the last timer fires is the kernel's affair (on a virtual
        machine whose host is busy: some ms), so of the last sleep counts what was asked for.
        """
        self.guards = self._slept + seconds
        before = self._blocked_clock()
        time.sleep(seconds)
        self._slept += self._blocked_clock() - before

    def _tormented_copy_ring(self, *args):
        before = self._blocked_clock()
        self._torment()
        self._own += self._blocked_clock() - before
        return self._copy_ring(*args)

    def close(self):
        """Close the clock."""
        self._blocked_clock.close()
