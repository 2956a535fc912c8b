"""Clocks that are set, and clocks that stand still."""

import itertools
import threading
import time
from dataclasses import replace

import posix_ipc
import pytest

from shmetrics import guards, naming, slots
from shmetrics.doorbell import Doorbell, ring
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.slots import GUARD_PATIENCE
from shmetrics.statistics import comprehensive
from shmetrics.writer import Writer
from tests.hazards.worlds import SCENES, World
from tests.insisting import insisting_view
from tests.processes import PATIENCE

HOUR = 3600.0


@pytest.fixture
def world(hub_name):
    with World(hub_name) as world:
        yield world


# The wall clock is set ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forth", "back"])
def test_a_wall_clock_that_is_set_changes_no_figure(world, monkeypatch, step):
    world.record(2 * FOLD_BATCH)
    world.add()
    now = time.monotonic()
    view = View(world.segment, clock=lambda: now)
    before, wall = view.snapshot(), time.time()
    monkeypatch.setattr(time, "time", lambda: wall + step)
    after = view.snapshot()
    assert after.taken_at_wall == wall + step
    assert comprehensive(replace(after, taken_at_wall=before.taken_at_wall)) == comprehensive(before)


@pytest.mark.parametrize("scene", SCENES)
def test_a_wall_clock_that_jumps_by_an_hour_at_every_look_disturbs_no_write_and_no_wait(world, monkeypatch, scene):
    wall, steps = time.time(), itertools.cycle([HOUR, -HOUR])
    monkeypatch.setattr(time, "time", lambda: wall + next(steps))
    before, write = SCENES[scene]
    for prepare in before:
        prepare(world)
    write(world)
    world.make_registry_free()
    world.check_that_it_goes_on()
    world.check()
    assert [worker.alive for worker in world.workers()] == [True]


class NeverTimed(posix_ipc.Semaphore):
    """A semaphore that is only ever tried: a wait in the kernel (sem_timedwait) would count on the wall clock."""

    acquired = 0

    def acquire(self, timeout=None):
        assert timeout == 0, "a wait in the kernel"
        type(self).acquired += 1
        super().acquire(timeout)


def test_no_wait_for_a_semaphore_is_left_to_the_kernel_which_counts_on_the_wall_clock(world, monkeypatch):
    monkeypatch.setattr(posix_ipc, "Semaphore", NeverTimed)
    world.record(2 * FOLD_BATCH)  # a claim and a fold
    guard = _guard(world)
    assert guard.try_acquire()
    insisting_view(world.segment, clock=world.clock).snapshot()  # waits for the guard
    world.record(FOLD_BATCH)  # puts a fold off
    world.clock.ahead += 2 * GUARD_PATIENCE
    world.record(FOLD_BATCH)  # replaces the guard
    guard.close()
    bell = Doorbell(world.segment)
    assert not bell.wait(0.01)
    ring(world.segment)
    assert bell.wait(PATIENCE)
    bell.close()
    assert NeverTimed.acquired > 8


def _guard(world):
    """The guard of the worker's slot, as a reader opens it."""
    prefix = naming.semaphore_prefix(world.segment.name, world.segment.instance)
    number = slots.words_of(world.segment, world.writer.slot)[slots.GUARD]
    return guards.open_existing(guards.guard_name(prefix, world.writer.slot, number))


# The monotonic clock stands still -------------------------------------------------------------------------------------


NOW = time.monotonic()


def stand_still():
    """A clock that does not move."""
    return NOW


def hangs(function, release):
    """Whether `function` does not end by itself; `release` lets it end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(PATIENCE / 6)
    found = thread.is_alive()
    release()
    thread.join(PATIENCE)
    return found


def test_a_claim_while_the_registry_is_busy_ends_though_the_clock_stands_still(make_segment):
    segment = make_segment()
    writer = Writer(segment, clock=stand_still)
    registry = ByteLock(segment.descriptor, REGISTRY)
    assert registry.try_acquire()
    assert not hangs(lambda: writer.record(0.1), registry.release)
    assert writer.slot is None
    assert writer.claim()
    writer.close()
    assert View(segment, clock=stand_still).snapshot().counters.requests == 1


def test_reading_ends_though_a_guard_is_busy_and_the_clock_stands_still(world):
    world.record()
    with _guard(world) as guard:
        assert guard.try_acquire()
        assert not hangs(insisting_view(world.segment, clock=stand_still).snapshot, guard.release)


def test_writing_goes_on_though_a_guard_is_busy_and_the_clock_stands_still(make_segment):
    segment = make_segment()
    writer = Writer(segment, clock=stand_still)
    writer.record(0.1)
    prefix = naming.semaphore_prefix(segment.name, segment.instance)
    with guards.open_existing(guards.guard_name(prefix, writer.slot, 1)) as guard:
        assert guard.try_acquire()

        def fill_the_ring_twice():
            for _ in range(2 * segment.layout.capacity):
                writer.record(0.1)

        assert not hangs(fill_the_ring_twice, guard.release)
    assert View(segment, clock=stand_still).snapshot().counters.requests == 2 * segment.layout.capacity + 1
    writer.close()
