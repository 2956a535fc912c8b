"""Workers and readers that are stopped, killed, half dead or somebody else: the others neither wait nor miscount."""

import logging
import os
import signal
import time

import pytest

from shmetrics import Hub, PerformanceMetrics, guards, naming, segment, slots
from shmetrics.aggregator import Aggregator
from shmetrics.claimant import CLAIM_PATIENCE, RETRY_INTERVAL
from shmetrics.cli.render import findings
from shmetrics.copies import Copier
from shmetrics.errors import HubNotFoundError
from shmetrics.folding import Folding
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH, FREE
from shmetrics.process import Identity, start_ticks
from shmetrics.reader import GUARD_PATIENCE
from shmetrics.writer import Writer
from tests.conftest import FakeClock
from tests.hazards.stopped import Stopped
from tests.insisting import in_python, insisting_view
from tests.processes import in_forked_child
from tests.test_forks import Child
from tests.torture.failpoints import line_with

MID_FOLD = line_with(Folding.fold, "self._add_rows(")
MID_CLAIM = line_with(slots._lock_free_slot, "return slot, alive")
CLEARING = line_with(slots._take, "guard = renew_guard(")
MID_REAP = line_with(slots._retire, "segment.flip_retired(")
END_OF_REAP = line_with(slots._retire, "words[STATE] = FREE")
MID_READ = line_with(Copier._attempt, "owners = owners_of(")

RECORDS = FOLD_BATCH + 44


@pytest.fixture
def clock():
    """A clock under the test's control, that starts where the clock of the processes it starts is."""
    return FakeClock(time.monotonic())


def record(target, count=RECORDS, **options):
    """Record in this process; the writer keeps its slot."""
    writer = Writer(target, **options)
    for _ in range(count):
        writer.record(0.01)
    return writer


def let_die(target):
    """A worker that recorded RECORDS and was killed."""
    with Child(lambda: record(target)):
        pass


def requests(target):
    return View(target).snapshot().counters.requests


def guard_path(target, slot, number):
    return f"{naming.SHM_DIR}/sem.{guard_name(target, slot, number)}"


def guard_name(target, slot, number):
    return guards.guard_name(naming.semaphore_prefix(target.name, target.instance), slot, number)


# Stopped --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_view", "wait"), [(View, 0.0), (insisting_view, GUARD_PATIENCE)], ids=["at once", "with its guard"]
)
def test_a_worker_stopped_in_the_middle_of_a_fold_is_read_as_it_last_was_within_5_ms_and_loses_nothing(
    make_segment, clock, make_view, wait
):
    target = make_segment()
    with Stopped(lambda: record(target), MID_FOLD) as worker:
        fleet = make_view(target, clock=clock, sleep=clock.sleep).snapshot()
        assert wait <= fleet.health.seconds_waited <= wait + 0.001
        assert fleet.counters.requests == int(fleet.folded.valid) == FOLD_BATCH
        assert fleet.workers[0].alive
        worker.go_on()
        fleet = View(target, clock=clock, sleep=clock.sleep).snapshot()
        assert fleet.health.seconds_waited == 0.0
        assert fleet.counters.requests == int(fleet.folded.valid) == RECORDS
        assert int(target.slots["hot"]["fold"][0]) >> 1 == FOLD_BATCH


def test_while_a_worker_is_stopped_in_the_middle_of_a_fold_the_others_claim_record_and_fold(make_segment):
    target = make_segment()
    with Stopped(lambda: record(target), MID_FOLD):
        writer = record(target, 3 * FOLD_BATCH)
        assert writer.slot == 1
        assert int(target.slots["hot"]["fold"][1]) >> 1 >= 2 * FOLD_BATCH
        assert requests(target) == FOLD_BATCH + 3 * FOLD_BATCH
        writer.close()


class ClockThatRuns(FakeClock):
    """A clock that moves by itself at every look at it."""

    STEP = 0.05

    def __call__(self):
        self.now += self.STEP
        return self.now


HOLDERS = {
    "mid-claim": (record, MID_CLAIM, RECORDS),
    "mid-reap, before the flip": (lambda target: slots.reap(target, patience=10.0), MID_REAP, 0),
    "mid-reap, after the flip": (lambda target: slots.reap(target, patience=10.0), END_OF_REAP, 0),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_while_the_holder_of_the_registry_is_stopped_readers_see_all_and_claimants_record_for_themselves_after_2_s(
    make_segment, holder, caplog
):
    hold, at, held_records = HOLDERS[holder]
    target = make_segment()
    let_die(target)
    clock = ClockThatRuns(time.monotonic())
    writer = Writer(target, clock=clock)
    with Stopped(lambda: hold(target), at) as stopped:
        before = clock.now
        writer.record(0.5)
        assert CLAIM_PATIENCE <= clock.now - before <= CLAIM_PATIENCE + 5 * ClockThatRuns.STEP
        assert writer.slot is None
        before = clock.now
        for _ in range(9):
            writer.record(0.5)
            clock.now += RETRY_INTERVAL
        assert clock.now - before <= 9 * (RETRY_INTERVAL + 10 * ClockThatRuns.STEP), "a later try waited"
        assert writer.slot is None
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        fleet = View(target, clock=clock).snapshot()
        assert (fleet.counters.requests, fleet.counters.dropped) == (RECORDS, 0)
        assert fleet.health.seconds_waited == 0.0
        assert slots.reap(target) == 0
        stopped.go_on()
        writer.record(0.5)
        assert writer.slot is not None
        fleet = View(target, clock=clock).snapshot()
        assert (fleet.counters.requests, fleet.counters.dropped) == (RECORDS + held_records + 11, 0)
    writer.close()


def test_while_a_claimant_is_stopped_clearing_its_slot_others_claim_theirs(make_segment):
    target = make_segment()
    with Stopped(lambda: record(target), CLEARING) as stopped:
        writer = record(target, 1)
        assert writer.slot == 1
        stopped.go_on()
        assert requests(target) == RECORDS + 1
    writer.close()


# A reader that holds a guard ------------------------------------------------------------------------------------------


def outlive_guard(writer, clock, look):
    """Record until the guard has been busy for longer than a writer puts up with; look after every record."""
    for _ in range(2):
        for _ in range(FOLD_BATCH):
            writer.record(0.01)
            look()
        clock.now += 2.0


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_guard_that_a_reader_keeps_is_replaced_by_its_owner_and_none_is_ever_worth_more_than_one(
    make_segment, clock, end
):
    target = make_segment()
    writer = record(target, 1, clock=clock)
    values = []
    with (
        guards.open_existing(guard_name(target, 0, 1)) as kept,
        Stopped(lambda: in_python(insisting_view(target)).snapshot(), MID_READ) as reader,
    ):
        if end == "killed":
            os.kill(reader.pid, signal.SIGKILL)
        outlive_guard(writer, clock, lambda: values.append(kept.value))
        assert set(values) == {0}
        assert not os.path.exists(guard_path(target, 0, 1))
        with guards.open_existing(guard_name(target, 0, 2)) as fresh:
            if end == "stopped":
                reader.go_on()
                assert (kept.value, fresh.value) == (1, 1), "it gave back what it had taken, and to nobody else"
            assert (kept.value, fresh.value) == (int(end == "stopped"), 1)
            fleet = View(target, clock=clock, sleep=clock.sleep).snapshot()
            assert (fleet.health.seconds_waited, fleet.counters.requests) == (0.0, 1 + 2 * FOLD_BATCH)
            for _ in range(2 * FOLD_BATCH):
                writer.record(0.01)
                assert fresh.value <= 1
            assert int(target.slots["hot"]["fold"][0]) >> 1 >= 2 * FOLD_BATCH
    writer.close()


def test_readers_use_the_new_guard(make_segment, clock):
    target = make_segment()
    writer = record(target, 1, clock=clock)

    def read():
        return in_python(insisting_view(target)).snapshot()

    with Stopped(read, MID_READ):
        outlive_guard(writer, clock, lambda: None)
        with Stopped(read, MID_READ), guards.open_existing(guard_name(target, 0, 2)) as new:
            assert new.value == 0
    writer.close()


# Dead, or not quite ---------------------------------------------------------------------------------------------------


def test_a_zombie_worker_is_seen_dead_and_reaped(make_segment):
    target = make_segment()
    with Child(lambda: record(target)) as worker:
        worker.make_zombie()
        os.kill(worker.pid, 0)  # to kill(2) it is still there
        fleet = View(target).snapshot()
        assert [worker.alive for worker in fleet.workers] == [False]
        assert slots.reap(target) == 1
        assert int(target.slots["owner"]["state"][0]) == FREE
        assert requests(target) == RECORDS


def impostor():
    """A worker's identity after its pid went to another process, which lives: this one."""
    return Identity(os.getpid(), start_ticks("self") - 1, "worker")


def test_a_dead_worker_whose_pid_belongs_to_a_live_process_now_is_reaped(make_segment):
    target, identity = make_segment(), impostor()
    with Child(lambda: record(target, identity=lambda _role: identity)):
        pass
    assert int(target.slots["owner"]["pid"][0]) == os.getpid()
    assert [worker.alive for worker in View(target).snapshot().workers] == [False]
    assert slots.reap(target) == 1
    assert requests(target) == RECORDS


@pytest.mark.parametrize("alive", [True, False])
def test_a_worker_is_never_shown_with_the_cpu_and_memory_of_the_process_that_got_its_pid(make_segment, alive):
    target, identity = make_segment(), impostor()
    with Child(lambda: record(target, identity=lambda _role: identity)) as worker:
        if not alive:
            worker.kill()
        (row,) = View(target).comprehensive()["workers"]
        assert (row["alive"], row["cpu_percent"], row["rss_bytes"]) == (alive, None, None)


# Slots exhausted ------------------------------------------------------------------------------------------------------


def test_workers_beyond_the_last_slot_run_on_counted_as_dropped_and_move_in_when_another_is_killed(
    make_segment, clock, caplog
):
    target = make_segment(max_workers=2)
    with Child(lambda: record(target)) as first, Child(lambda: record(target)):
        extra = [Writer(target, clock=clock) for _ in range(2)]
        for _ in range(50):
            for writer in extra:
                writer.record(0.5)
            clock.now += RETRY_INTERVAL
        assert [writer.slot for writer in extra] == [None, None]
        assert ["max_workers" in record.message for record in caplog.records] == [True] * len(extra)
        first.kill()
        for writer in extra:
            writer.record(0.5)
        assert [writer.slot for writer in extra] == [0, None]
        for writer in extra:
            writer.close()
        fleet = View(target, clock=clock).snapshot()
        assert fleet.counters.requests + fleet.counters.dropped == 2 * RECORDS + 2 * 51
        assert 2 * RECORDS < fleet.counters.requests < 2 * RECORDS + 10, "what waited for the slot moved in with it"


# The hub's name removed -----------------------------------------------------------------------------------------------


def files_of(name):
    return [file for file in os.listdir(naming.SHM_DIR) if file.endswith(f".{name}") or f".{name}." in file]


def test_a_hub_removed_under_its_workers_is_noticed_reported_and_recorded_into_and_leaves_no_new_files(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4) as metrics, Hub.attach(hub_name) as hub:
        metrics.update_inference(0.1)
        assert not hub.snapshot().health.unlinked
        metrics.unlink()
        assert files_of(hub_name) == []

        def work():
            for _ in range(RECORDS):
                metrics.update_inference(0.1)

        work()
        in_forked_child(work)  # claims a slot of the removed hub, and has no guard
        target = metrics._attachment.segment
        with Aggregator(segment.Segment(hub_name, os.dup(target.descriptor), target.layout, writable=True)) as leader:
            assert leader.try_lead()  # and has no doorbell
            figures = leader.tick()
            assert files_of(hub_name) == []
        assert figures["total_requests"] == hub.snapshot().counters.requests == 1 + 2 * RECORDS
        assert hub.snapshot().health.unlinked
        assert figures["hub"]["unlinked"]
        assert any("name was removed" in line for line in findings(figures))
        assert files_of(hub_name) == []
        with pytest.raises(HubNotFoundError):
            Hub.attach(hub_name)


def test_a_new_starter_of_a_removed_hub_gets_a_new_one_and_the_old_workers_stay_in_theirs(hub_name):
    with PerformanceMetrics(name=hub_name) as old:
        old.update_inference(0.1)
        old.unlink()
        with PerformanceMetrics(name=hub_name) as new:
            new.update_inference(0.2)
            old.update_inference(0.1)
            assert new.get_statistics()["total_requests"] == 1
            assert old.get_statistics()["total_requests"] == 2


def test_an_abandoned_guard_of_a_removed_hub_is_given_up_and_not_made_again(make_segment, clock):
    target = make_segment()
    writer = record(target, 1, clock=clock)
    with Stopped(lambda: in_python(insisting_view(target)).snapshot(), MID_READ):
        segment.unlink(target.name, target.instance)
        outlive_guard(writer, clock, lambda: None)
        assert files_of(target.name) == []
        for _ in range(FOLD_BATCH):
            writer.record(0.01)
        assert int(target.slots["hot"]["fold"][0]) >> 1 >= FOLD_BATCH
    writer.close()
