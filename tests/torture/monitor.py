"""The monitor: looks at the fleet again and again, beside a ledger of what was acknowledged, for what must not be."""

from collections import Counter

import numpy as np

from shmetrics.hub import View
from tests.torture.workers import ACKNOWLEDGED, BASE_SHIFT, COLUMNS


class Monitor:
    """Checks every promise it can see. ``ledger``: the shared words; ``writers``: the numbers of all writers ever."""

    def __init__(self, target, ledger):
        self._view = View(target)
        self._table = np.frombuffer(ledger, np.uint64).reshape(-1, COLUMNS)
        self.writers = []
        self.dead = set()
        self._final = {}
        self.violations = Counter()
        self.examples = {}
        self.reads = 0
        self.stale = 0
        self.last = None

    def acknowledged(self):
        """Records acknowledged so far, by writer number."""
        return self._table[:, ACKNOWLEDGED].copy()

    def look(self):
        """Read once and check everything; returns the snapshot."""
        dead, writers = set(self.dead), list(self.writers)
        before = self.acknowledged()
        snapshot = self._view.snapshot()
        after = self.acknowledged() + np.uint64(1)  # whoever is killed may have committed one more
        for number, final in self._final.items():
            before[number] = after[number] = final
        self.reads += 1
        self.stale += snapshot.health.stale or snapshot.health.stale_slots > 0
        if snapshot.health.stale:
            return snapshot
        self._check_totals(snapshot, before[writers], after[writers])
        for worker in snapshot.workers:
            if not worker.stale and worker.role.startswith("w"):
                number = int(worker.role[1:])
                self._check_worker(worker, int(before[number]), int(after[number]), is_dead=number in dead)
        self.last = snapshot
        return snapshot

    def _check_totals(self, snapshot, before, after):
        requests = snapshot.counters.requests
        self._expect(not snapshot.health.corrupt, "corrupt", snapshot.health.corrupt)
        self._expect(not snapshot.health.corrupt_reaped, "corrupt", "reaped")
        valid = int(snapshot.folded.valid)
        if not snapshot.health.stale_slots:
            self._expect(requests >= before.sum(), "lost", (requests, int(before.sum())))
            self._expect(requests <= after.sum(), "invented", (requests, int(after.sum())))
            self._expect(
                snapshot.workers_seen <= len(after), "invented", ("workers", snapshot.workers_seen, len(after))
            )
        self._expect(valid == requests, "unequal", (valid, requests))
        self._expect((snapshot.folded.sketch.sum(axis=1) == valid).all(), "unequal", "sketch")
        if self.last is not None:
            self._expect(requests >= self.last.counters.requests, "decreases", (self.last.counters.requests, requests))
            self._expect(snapshot.workers_seen >= self.last.workers_seen, "decreases", "workers seen")

    def _check_worker(self, worker, before, after, *, is_dead):
        count = worker.counters.requests
        self._expect(before <= count <= after, "lost", (worker.role, before, count, after))
        if is_dead:
            self._final[int(worker.role[1:])] = count
        base = int(worker.role[1:]) << BASE_SHIFT
        values = worker.window["inference_time"]
        wanted = base + np.arange(count - len(values) + 1, count + 1, dtype=np.float64)
        torn = not np.array_equal(values, wanted)
        for factor, measure in ((2, "batch_size"), (3, "preprocessing_time"), (4, "quantization_time")):
            torn = torn or not np.array_equal(worker.window[measure], factor * values)
        self._expect(not torn, "torn", worker.role)
        self._expect(int(worker.folded.valid) == count, "unequal", (worker.role, int(worker.folded.valid), count))
        exact = (
            float(sum(range(base + 1, base + count + 1))) if count < 2000 else base * count + count * (count + 1) / 2
        )
        self._expect(float(worker.folded.sum[0]) == exact, "unequal", (worker.role, "sum"))

    def _expect(self, holds, kind, detail):
        if not holds:
            self.violations[kind] += 1
            self.examples.setdefault(kind, detail)
