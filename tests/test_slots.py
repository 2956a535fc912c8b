"""The life of a slot: claimed in a fixed order, reaped exactly once whatever is killed, believed only if plausible."""

import itertools
import os

import numpy as np
import pytest

from shmetrics import guards, naming, segment, slots
from shmetrics.hub import View
from shmetrics.layout import BOARD, CLAIMED, FOLD_BATCH, FREE
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.process import Identity
from shmetrics.slots import LINGER, NoFreeSlotError, RegistryBusyError
from shmetrics.writer import Writer
from tests.processes import run_in_processes
from tests.test_forks import Child

WORKERS = 4
RECORDS = FOLD_BATCH + 44
TOTALS = {"incarnations": 1, "requests": RECORDS, "errors": 3, "cache_hits": 2, "cache_misses": 1, "dropped": 0}


@pytest.fixture
def hub(make_segment):
    return make_segment(max_workers=WORKERS)


@pytest.fixture
def take(hub, clock):
    """A function that claims a slot; what it claimed is let go at the end."""
    taken = []

    def take(role="worker", **options):
        claim = slots.claim(hub, Identity(4711, 42, role), **{"patience": 0.0, "clock": clock, **options})
        hub.slots["owner"]["state"][claim.slot] = CLAIMED  # as its owner does when it has moved in
        taken.append(claim)
        return claim

    yield take
    for claim in taken:
        claim.release()


def record(hub):
    """Record in this process what TOTALS say, before any clock of a test; the writer keeps its slot."""
    writer = Writer(hub, clock=lambda: 1.0)
    for _ in range(RECORDS):
        writer.record(0.01, 2)
    for word, amount in ((slots.ERRORS, 3), (slots.CACHE_HITS, 2), (slots.CACHE_MISSES, 1)):
        writer.add(word, amount)
    return writer


def let_die(hub, count=1):
    """Have workers record what TOTALS say, and kill them; slots are taken in order."""
    for child in [Child(lambda: record(hub)) for _ in range(count)]:
        child.kill()


def states(hub):
    return hub.slots["owner"]["state"].tolist()


def totals(hub):
    """What the retired area says."""
    retired = hub.retired(hub.retired_index)
    return {name: int(retired[name]) for name in TOTALS}


def times(count):
    return {name: count * number for name, number in TOTALS.items()}


def guard_file(hub, slot, number):
    name = guards.guard_name(naming.semaphore_prefix(hub.name, hub.instance), slot, number)
    return f"{naming.SHM_DIR}/sem.{name}"


# Claiming -------------------------------------------------------------------------------------------------------------


def test_the_lowest_unused_slot_comes_first(take):
    assert [take().slot for _ in range(WORKERS)] == [0, 1, 2, 3]


def test_a_claimed_slot_shows_its_owner(hub, take, clock):
    claim = take("resnet")
    owner = hub.slots["owner"][claim.slot]
    assert (int(owner["state"]), int(owner["generation"])) == (CLAIMED, claim.generation) == (CLAIMED, 1)
    assert (int(owner["pid"]), int(owner["start_ticks"]), bytes(owner["role"])) == (4711, 42, b"resnet")
    assert owner["claimed_at"] == owner["heartbeat"] == clock.now
    assert slots.is_alive(hub, claim.slot)


def test_a_slot_is_claimed_clean_whatever_was_left_in_it(hub, take):
    hub.slots["hot"][0] = np.full(1, 7, np.uint64)
    hub.slots["board"]["start"][0] = 5.0
    hub.slots["board"]["label"][0] = b"x"
    hub.slots["folded"]["valid"][0] = 9
    take()
    part = hub.slots[0]
    assert not np.asarray(part["hot"]).tobytes().strip(b"\0")
    assert not part["board"].tobytes().strip(b"\0")
    assert not part["folded"][0].tobytes().strip(b"\0")


def end_at(hub, clock, claims, moments):
    """Let claims end and be reaped at moments of the clock: ``{slot: moment}``, in order of time."""
    for slot, moment in moments.items():
        claims[slot].alive.release()
        clock.now = moment
        assert slots.reap(hub, clock=clock) == 1


def test_while_all_ended_lately_the_slot_that_ended_first_comes_first(hub, take, clock):
    claims = [take() for _ in range(WORKERS)]
    end_at(hub, clock, claims, {2: 1010.0, 1: 1020.0, 3: 1030.0, 0: 1040.0})
    assert [take().slot for _ in range(WORKERS)] == [2, 1, 3, 0]


def test_slots_whose_last_worker_ended_long_ago_come_before_those_lowest_first(hub, take, clock):
    claims = [take() for _ in range(WORKERS)]
    end_at(hub, clock, claims, {2: 1010.0, 1: 1020.0, 3: 1030.0, 0: 1040.0})
    clock.now = 1025.0 + LINGER
    assert [take().slot for _ in range(WORKERS)] == [1, 2, 3, 0]


def test_a_slot_taken_again_is_of_the_next_generation(hub, take, clock):
    assert take().generation == 1
    hub.slots["owner"]["generation"][1] = 41
    assert take().generation == 42


def test_when_all_are_live_the_dropped_records_are_counted_and_nobody_is_harmed(hub, take):
    claims = [take() for _ in range(WORKERS)]
    for unplaced in (5, 7):
        with pytest.raises(NoFreeSlotError):
            take(unplaced={slots.HEAD: unplaced})
    assert int(hub.header["dropped"]) == 12
    assert states(hub) == [CLAIMED] * WORKERS
    assert [int(generation) for generation in hub.slots["owner"]["generation"]] == [1] * WORKERS
    assert all(slots.is_alive(hub, claim.slot) for claim in claims)


def test_a_busy_registry_is_waited_for_as_long_as_allowed_and_then_reported(hub, take):
    ticks = itertools.count(0.0, 0.5)
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        with pytest.raises(RegistryBusyError):
            take(patience=2.0, clock=ticks.__next__)
    assert next(ticks) <= 3.5
    assert states(hub) == [FREE] * WORKERS


def test_the_registry_is_free_again_after_a_claim_whether_it_succeeded_or_not(hub, take):
    for _ in range(WORKERS):
        take()
    with pytest.raises(NoFreeSlotError):
        take()
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()


def test_a_claimant_reaps_when_nothing_is_free(hub, take):
    let_die(hub, WORKERS)
    assert take().slot in range(WORKERS)
    assert totals(hub) == times(WORKERS)
    assert sorted(states(hub)) == [FREE] * (WORKERS - 1) + [CLAIMED]


def test_a_claimant_leaves_the_dead_alone_while_a_slot_is_free(hub, take):
    let_die(hub)
    assert take().slot == 1
    assert totals(hub) == times(0)


@pytest.mark.parametrize("role", ["x" * 100, "é" * 17, "", "a\0b", "\udcff"])
def test_no_name_a_process_can_have_keeps_it_from_claiming(hub, take, role):
    take(role)
    assert len(bytes(hub.slots["owner"]["role"][0])) <= 32
    assert View(hub).snapshot().workers[0].role.isprintable()


# Guards ---------------------------------------------------------------------------------------------------------------


def guard_number(hub, slot):
    return int(hub.slots["owner"]["guard"][slot])


def test_each_incarnation_starts_with_a_fresh_guard(hub, take, clock):
    first = take()
    number = guard_number(hub, 0)
    first.guard.try_acquire()  # and dies with it
    end_at(hub, clock, [first], {0: 1010.0})
    clock.now += LINGER + 1.0
    second = take()
    assert second.slot == 0
    assert second.guard.value == 1
    assert guard_number(hub, 0) == number + 1
    assert not os.path.exists(guard_file(hub, 0, number))


def test_a_renewed_guard_has_a_new_name_and_the_old_one_is_gone(hub, take):
    slot = take().slot
    number = guard_number(hub, slot)
    with slots.renew_guard(hub, slot, slots.words_of(hub, slot)) as guard:
        assert guard.value == 1
    assert guard_number(hub, slot) == number + 1
    assert os.path.exists(guard_file(hub, slot, number + 1))
    assert not os.path.exists(guard_file(hub, slot, number))


def test_an_unlinked_hub_gets_no_new_guards(hub, take):
    slot = take().slot
    segment.unlink(hub.name, hub.instance)
    assert slots.renew_guard(hub, slot, slots.words_of(hub, slot)) is None
    assert not os.path.exists(guard_file(hub, slot, guard_number(hub, slot)))


# Reaping --------------------------------------------------------------------------------------------------------------


def test_reaping_moves_the_totals_of_the_dead_once(hub):
    let_die(hub, 2)
    assert slots.reap(hub) == 2
    assert totals(hub) == times(2)
    assert int(hub.retired(hub.retired_index)["folded"]["valid"]) == 2 * RECORDS
    assert states(hub) == [FREE] * WORKERS
    assert slots.reap(hub) == 0
    assert totals(hub) == times(2)


def test_reaping_leaves_the_living_alone(hub, take):
    take()
    assert slots.reap(hub) == 0
    assert states(hub)[0] == CLAIMED


def test_a_reaper_killed_between_the_flip_and_the_freeing_is_repeated_without_counting_twice(hub, clock):
    let_die(hub)
    slots.reap(hub, clock=clock)
    index = hub.retired_index
    hub.slots["owner"]["state"][0] = CLAIMED  # as it was when the reaper was killed
    hub.slots["owner"]["ended_at"][0] = 0.0
    assert slots.reap(hub, clock=clock) == 1
    assert hub.retired_index == index
    assert totals(hub) == times(1)
    assert states(hub)[0] == FREE
    assert hub.slots["owner"]["ended_at"][0] == clock.now


def test_what_a_reaper_killed_before_the_flip_has_half_written_is_never_seen(hub):
    let_die(hub, 2)
    slots.reap(hub)
    inactive = hub.retired(hub.retired_index + 1)
    inactive[...] = np.frombuffer(b"\xa5" * inactive.dtype.itemsize, inactive.dtype)[0]
    let_die(hub)
    assert slots.reap(hub) == 1
    assert totals(hub) == times(3)


def test_a_busy_registry_puts_reaping_off(hub):
    let_die(hub)
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        assert slots.reap(hub) == 0
    assert states(hub)[0] == CLAIMED
    assert slots.reap(hub) == 1


def reap(name, _process):
    return slots.reap(segment.attach(name, writable=True), patience=10.0)


def test_two_reapers_at_once_count_every_dead_worker_once(hub):
    for round_number in range(1, 4):
        let_die(hub, WORKERS)
        assert sum(run_in_processes("fork", 2, reap, hub.name)) == WORKERS
        assert totals(hub) == times(round_number * WORKERS)


# Slots that cannot be believed ----------------------------------------------------------------------------------------


def commit_word_ahead(part):
    part["hot"]["head"] += np.uint64(1_000_000)


def commit_word_behind(part):
    part["hot"]["head"] = 1


def counter_out_of_range(part):
    part["hot"]["errors"] = 2**63


def every_bit_set(part):
    for word in part["hot"].dtype.names:
        part["hot"][word] = 2**64 - 1
    part["board"] = np.frombuffer(b"\xff" * BOARD.itemsize, BOARD)[0]
    for name in ("ring", "folded", "cells"):
        part[name].view(np.uint8)[...] = 0xFF


def sum_not_a_number(part):
    part["folded"]["sum"][:] = np.nan


def sum_beyond_measure(part):
    part["folded"]["sum"][:] = 1.7e308


def maximum_infinite(part):
    part["folded"]["max"][:] = np.inf


def sketch_too_full(part):
    part["folded"]["sketch"][:, 0, 5] += np.uint64(1)


def sketch_that_wraps_around(part):
    """Its buckets add up to the right count, modulo 2**64."""
    part["folded"]["sketch"][:, 0, 5:9] += np.uint64(2**62)


def seconds_that_never_come(part):
    """In the per-second ring the newest second wins its place, for ever."""
    part["folded"]["second"][:] = 2**39


@pytest.mark.parametrize(
    "spoil",
    [
        commit_word_ahead,
        commit_word_behind,
        counter_out_of_range,
        every_bit_set,
        sum_not_a_number,
        sum_beyond_measure,
        maximum_infinite,
        sketch_too_full,
        sketch_that_wraps_around,
        seconds_that_never_come,
    ],
)
def test_a_dead_slot_that_cannot_be_believed_is_freed_counted_and_harms_no_total(hub, spoil):
    let_die(hub, 3)
    for slot in (0, 1):
        spoil(hub.slots[slot])
    assert slots.reap(hub) == 3
    assert states(hub) == [FREE] * WORKERS
    assert int(hub.header["corrupt"]) == 2
    assert totals(hub) == times(1)
    fleet = View(hub).snapshot()
    assert fleet.health.corrupt_reaped == 2
    assert "retired area" not in fleet.health.corrupt
    assert fleet.counters.requests == int(fleet.folded.valid) == RECORDS
    assert fleet.folded.maximum[0] == 0.01
    assert fleet.folded.sum[0] == pytest.approx(RECORDS * 0.01)
    assert int(fleet.folded.sketch[0].max()) == RECORDS
    assert int(fleet.folded.requests.sum()) == RECORDS


def test_a_dead_slot_of_an_unknown_state_is_freed_too(hub):
    let_die(hub)
    hub.slots["owner"]["state"][0] = 7
    slots.reap(hub)
    assert states(hub)[0] == FREE
    assert totals(hub) == times(1)
