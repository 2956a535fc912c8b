"""One worker and its hub, with every record and every error accounted for."""

import gc
import itertools
import sys
import time
from functools import partial

from shmetrics import segment
from shmetrics.claimant import CLAIM_PATIENCE, RETRY_INTERVAL
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH, Layout
from shmetrics.locks import REGISTRY, ByteLock, is_locked, slot_byte
from shmetrics.slots import ERRORS
from shmetrics.writer import Writer
from tests.hazards.injection import happen

WORKERS = 4
LAYOUT = Layout(max_workers=WORKERS, window_size=2 * FOLD_BATCH, max_series=1)


class HurriedClock:
    """The monotonic clock, but ahead by as much as is said, and by `step` more each time it is looked at."""

    def __init__(self):
        self.ahead = self.step = 0.0

    def __call__(self):
        self.ahead += self.step
        return time.monotonic() + self.ahead


class World:
    """A writer of a hub of its own. As a context manager it leaves nothing behind."""

    def __init__(self, name, **dims):
        self.segment = segment.create(name, Layout(**{**vars(LAYOUT), **dims}))
        self.clock = HurriedClock()
        self._registry = ByteLock(self.segment.descriptor, REGISTRY)
        self.writer = Writer(self.segment, clock=self.clock)
        self.begun, self.done = [], []
        self.errors_begun = self.errors_done = 0
        self.child = None
        """The pid of a child that was forked in the middle of a write; 0 in that child."""
        self.not_begun = False
        """Whether that write had not begun."""
        self.count_from(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.make_registry_free()
        self.writer.close()
        segment.unlink(self.segment.name, self.segment.instance)
        self.segment.close()

    def count_from(self, number):
        """Let the next record have this value, the one after it the next number, and so on."""
        self._values = itertools.count(number)

    def record(self, times=1):
        """Record values that tell every record from every other."""
        for _ in range(times):
            value = float(next(self._values))
            self.begun.append(value)
            self.writer.record(value)
            self.done.append(value)

    def add(self):
        """Count an error."""
        self.errors_begun += 1
        self.writer.add(ERRORS, 1)
        self.errors_done += 1

    def make_registry_busy(self):
        """Have another process claim for so long that nobody's patience lasts."""
        assert self._registry.try_acquire()
        self.clock.step = 2 * CLAIM_PATIENCE

    def make_registry_free(self):
        """Let the other process be done; harmless when it is."""
        self._registry.release()
        self.clock.step = 0.0
        self.clock.ahead += 2 * RETRY_INTERVAL

    def let_records_wait(self):
        """Have records and errors in the process that found no slot."""
        self.make_registry_busy()
        self.record(5)
        self.add()
        self.add()
        self.make_registry_free()
        assert self.writer.slot is None

    def fill_batch(self):
        """Be just before a fold."""
        self.record(FOLD_BATCH)

    def workers(self):
        """All workers to be seen, dead ones too."""
        return View(self.segment, clock=self.clock).snapshot().workers

    def recorded(self):
        """Every record to be found in the hub, and the errors counted."""
        fleet = View(self.segment, clock=self.clock).snapshot()
        values = sorted(value for worker in fleet.workers for value in worker.window["inference_time"].tolist())
        assert fleet.counters.requests == len(values), (fleet.counters, len(values))
        assert not fleet.health.corrupt
        return values, fleet.counters

    def check(self):
        """Whether what returned is counted once, and what an exception ended at most once."""
        values, counters = self.recorded()
        twice = sorted(value for value in set(values) if values.count(value) > 1)
        assert not twice, f"counted twice: {twice}"
        lost = sorted(set(self.done) - set(values))
        assert not lost, f"lost: {lost}"
        assert set(values) <= set(self.begun)
        assert self.errors_done <= counters.errors <= self.errors_begun, (self.errors_done, counters.errors)
        assert counters.dropped == 0

    def held(self):
        """The slots whose liveness lock is held, by this process since there is no other, once garbage is collected."""
        if len(held := self._locked()) > 1:
            gc.collect()
            held = self._locked()
        return held

    def _locked(self):
        return [slot for slot in range(WORKERS) if is_locked(self.segment.descriptor, slot_byte(slot))]

    def check_that_it_goes_on(self):
        """Whether the process goes on recording, into the one slot that it holds, and the registry is free."""
        self.record()
        self.clock.ahead += 2 * RETRY_INTERVAL
        self.record()
        assert self.writer.slot is not None, "it has no slot"
        assert self.held() == [self.writer.slot]
        assert not is_locked(self.segment.descriptor, REGISTRY), "it holds the registry"


SCENES = {
    "first record while others wait": ((World.let_records_wait,), World.record),
    "record": ((World.record,), World.record),
    "record that folds": ((World.fill_batch,), World.record),
    "record while the registry is busy": ((World.make_registry_busy,), World.record),
    "first error": ((), World.add),
    "error": ((World.record,), World.add),
    "claim": ((), lambda world: world.writer.claim()),
}
"""What may be interrupted: what comes before it, and what it is."""
ENDINGS = {
    "close": ((World.record,), lambda world: world.writer.close()),
    "close while records wait": ((World.let_records_wait,), lambda world: world.writer.close()),
}


def at_every_moment(kind, scene, act, check, hub_name):
    """Play a scene once for each of its moments, with `act(world)` at that moment and `check(world)` afterwards.

    Returns the moments; fails with all the moments at which the check did.
    """
    before, write = scene
    moments, failures = [], []
    while True:
        with World(hub_name) as world:
            for prepare in before:
                prepare(world)
            moment = happen(kind, len(moments), partial(act, world), partial(write, world))
            world.make_registry_free()
            try:
                check(world)
            except AssertionError as failure:
                failures.append(f"{moment}: {failure}".splitlines()[0])
        if moment is None:
            break
        moments.append(moment)
    assert not failures, "\n".join(["", *failures])
    assert sys.exc_info()[1] is None, "an exception stayed the current one of this test run"
    return moments
