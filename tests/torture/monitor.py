"""The monitor: looks at the fleet again and again, beside a ledger of what was acknowledged, for what must not be.

It runs in the one process that is never killed. For each writer the ledger says how many records were acknowledged
before a look and after it; in between the writer may have committed one more, and once it is dead that stays so.
"""

from collections import Counter

import numpy as np

from shmetrics import guards, naming
from shmetrics.layout import CLAIMED
from shmetrics.slots import GUARD, STATE, words_of
from tests.torture import ledger as columns
from tests.torture.waiting import TimedView
from tests.torture.workers import BASE_SHIFT, ERROR_EVERY

EXACT = 1 << 53
"""Whole numbers up to here are exact as float64, in whatever order they are added."""


class Monitor:
    """Checks every promise it can see in what it reads."""

    def __init__(self, target, ledger, most_processes):
        self.view = TimedView(target, insists=lambda: self.reads % 2 == 1)  # each way of reading, in turn
        self._ledger = ledger
        self._words = [words_of(target, slot) for slot in range(target.layout.max_workers)]
        self._prefix = naming.semaphore_prefix(target.name, target.instance)
        self._started = 0
        self._is_writer = np.zeros(most_processes, bool)
        self._is_dead = np.zeros(most_processes, bool)
        self._final = np.full(most_processes, -1)
        self._last = None
        self._metrics = None
        self._obituaries = {}  # by role: the serial number
        self._roles = {}  # by slot and generation
        self.violations = Counter()
        self.examples = {}
        self.reads = self.stale = 0

    def born(self, number, *, is_writer):
        """Process `number` is about to start."""
        self._started = number + 1
        self._is_writer[number] = is_writer

    def died(self, number):
        """Process `number` is dead and waited for."""
        self._is_dead[number] = True

    def expect(self, holds, kind, detail):
        """Count a broken promise, and keep the first of each kind."""
        if not holds:
            self.violations[kind] += 1
            self.examples.setdefault(kind, repr(detail))

    def acknowledged(self, column=columns.ACKNOWLEDGED):
        """Acknowledged so far, by process number; 0 for who is no writer."""
        return self._ledger.column(column, self._started) * self._is_writer[: self._started]

    def look(self):
        """Read once and check everything."""
        dead = self._is_dead[: self._started].copy()
        least, least_errors = self.acknowledged(), self.acknowledged(columns.ERRORS)
        least_events = self.acknowledged(columns.EVENTS)
        snapshot = self.view.snapshot()
        more = self._is_writer[: self._started]
        most, most_errors = self.acknowledged() + more, self.acknowledged(columns.ERRORS) + more
        most_events = self.acknowledged(columns.EVENTS) + more
        closing = self.acknowledged(columns.CLOSING)
        final = self._final[: self._started]
        least, most = np.where(final >= 0, final, least), np.where(final >= 0, final, most)
        self.reads += 1
        self._check_guards()
        if snapshot.health.stale:
            self.stale += 1
            return
        self.stale += snapshot.health.stale_slots > 0
        self._check_totals(snapshot, least, most, (int(least_errors.sum()), int(most_errors.sum())))
        self._check_metrics(snapshot, int(least_events.sum()), int(most_events.sum()))
        for worker in snapshot.workers:
            if not worker.stale and worker.role.startswith("w"):
                number = int(worker.role[1:])
                self._check_count(worker, number, int(least[number]), int(most[number]), is_dead=dead[number])
                errors = worker.counters.errors
                between = (int(least_errors[number]), int(most_errors[number]))
                self.expect(between[0] <= errors <= between[1], "unequal", (worker.role, "errors", errors, between))
                self._check_rows(worker, number)
                self._check_folded(worker, number)
                self._roles[worker.slot, worker.generation] = worker.role
                if dead[number] and not closing[number] and not worker.in_totals:
                    self._check_has_obituary(worker, snapshot.obituaries)
        for obituary in snapshot.obituaries:
            self._check_obituary(obituary, least, most)
        self._last = snapshot

    def _check_has_obituary(self, worker, obituaries):
        """Whoever was killed and reaped has one: it was there before the slot was free, and 63 more may follow it."""
        found = any((each.slot, each.generation) == (worker.slot, worker.generation) for each in obituaries)
        self.expect(found, "lost", (worker.role, "has no obituary"))

    def _check_obituary(self, obituary, least, most):
        """One for each worker, and all of it that worker's."""
        role, number = obituary.role, int(obituary.role[1:])
        self.expect(
            self._obituaries.setdefault(role, obituary.serial) == obituary.serial, "invented", (role, "died twice")
        )
        whose = self._roles.get((obituary.slot, obituary.generation), role)
        labels = {request["label"] for request in obituary.requests_in_flight}
        self.expect(whose == role and labels <= {role}, "torn", (role, whose, labels))
        self.expect(obituary.in_flight <= 1, "torn", (role, obituary.in_flight))
        between = (int(least[number]), int(most[number]))
        self.expect(between[0] <= obituary.requests <= between[1], "unequal", (role, obituary.requests, between))
        values = [record["inference_time"] for record in obituary.last_records]
        sequence = range(obituary.requests - len(values) + 1, obituary.requests + 1)
        expected = [(number << BASE_SHIFT) + float(at) for at in sequence]
        self.expect(values == expected, "torn", (role, values[-1:], expected[-1:]))
        self.expect(obituary.believed and obituary.exit_code in (None, -9), "torn", (role, obituary.exit_code))

    def _check_guards(self):
        """A guard above 1 was released by somebody who did not hold it."""
        for slot, words in enumerate(self._words):
            if words[STATE] == CLAIMED:
                guard = guards.open_existing(guards.guard_name(self._prefix, slot, words[GUARD]))
                if guard is not None:
                    value = guard.value
                    guard.close()
                    self.expect(value <= 1, "overposted", (slot, value))

    def _check_totals(self, snapshot, least, most, errors):
        requests, seen = snapshot.counters.requests, snapshot.workers_seen
        self.expect(not snapshot.health.corrupt, "corrupt", snapshot.health.corrupt)
        self.expect(not snapshot.health.corrupt_reaped, "corrupt", "reaped")
        if not snapshot.health.stale_slots:
            self.expect(requests >= least.sum(), "lost", (requests, int(least.sum())))
            self.expect(requests <= most.sum(), "invented", (requests, int(most.sum())))
            self.expect(seen <= self._is_writer.sum(), "invented", ("workers", seen))
            self.expect(errors[0] <= snapshot.counters.errors <= errors[1], "unequal",
                        ("errors", snapshot.counters.errors, errors))  # fmt: skip
        self.expect(int(snapshot.folded.valid) == requests, "unequal", (int(snapshot.folded.valid), requests))
        self.expect((snapshot.folded.sketch.sum(axis=1) == requests).all(), "unequal", "sketch")
        if self._last is not None:
            self.expect(requests >= self._last.counters.requests, "decreases",
                        (self._last.counters.requests, requests))  # fmt: skip
            self.expect(snapshot.counters.errors >= self._last.counters.errors, "decreases", "errors")
            self.expect(seen >= self._last.workers_seen, "decreases", "workers seen")

    def _check_metrics(self, snapshot, least, most):
        """Custom metrics: every acknowledged change, or one more of each writer; what happens in between shows."""
        if snapshot.health.stale_slots:
            return
        shown = {family.definition.name: family.series for family in snapshot.families}
        events, sizes = shown["events_total"][0].value, shown["sizes"][0]
        for what, count in (("events", events), ("sizes", sizes.count)):
            self.expect(count >= least, "lost", (what, count, least))
            self.expect(count <= most, "invented", (what, count, most))
        self.expect(sizes.buckets[0] == sizes.count <= sizes.sum <= most, "unequal", ("sizes", sizes))
        if self._metrics is not None:
            self.expect(events >= self._metrics[0], "decreases", ("events", self._metrics[0], events))
            self.expect(sizes.count >= self._metrics[1], "decreases", ("sizes", self._metrics[1], sizes.count))
        self._metrics = events, sizes.count

    def _check_count(self, worker, number, least, most, *, is_dead):
        count = worker.counters.requests
        self.expect(count >= least, "lost", (worker.role, count, least))
        self.expect(count <= most, "invented", (worker.role, count, most))
        if is_dead:
            self._final[number] = count

    def _check_rows(self, worker, number):
        """Every row says whose it is, which one, and how many errors there were: all of that must agree."""
        count, values = worker.counters.requests, worker.window["inference_time"]
        before = count - len(values)
        sequence = np.arange(before + 1, count + 1)
        torn = not np.array_equal(values, (number << BASE_SHIFT) + sequence.astype(np.float64))
        for factor, measure in ((2, "batch_size"), (3, "preprocessing_time"), (4, "quantization_time")):
            torn = torn or not np.array_equal(worker.window[measure], factor * values)
        torn = torn or not np.array_equal(worker.window["errors"], sequence // ERROR_EVERY)
        # The one row before the window gives the counters at its start: the oldest row that a reader uses.
        torn = torn or worker.before_window.errors != before // ERROR_EVERY
        self.expect(not torn, "torn", (worker.role, count))

    def _check_folded(self, worker, number):
        count, base = worker.counters.requests, number << BASE_SHIFT
        folded = worker.folded
        self.expect(int(folded.valid) == count, "unequal", (worker.role, int(folded.valid), count))
        self.expect((folded.sketch.sum(axis=1) == count).all(), "unequal", (worker.role, "sketch"))
        exact = base * count + count * (count + 1) // 2
        self.expect(int(folded.sum[0]) == exact or exact > EXACT, "unequal", (worker.role, "sum"))
        if count:
            extremes = (float(folded.minimum[0]), float(folded.maximum[0]))
            self.expect(extremes == (base + 1.0, base + float(count)), "unequal", (worker.role, extremes))
