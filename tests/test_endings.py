"""How workers ended, as told by whoever waited for them: before the worker is reaped, or after."""

import os
import signal
import time

import pytest

from shmetrics import doorbell, slots
from shmetrics.endings import expect_own, note_own, report_end
from shmetrics.hub import View
from shmetrics.layout import FREE
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.obituaries import AMENDABLE
from shmetrics.writer import Writer
from tests.test_forks import Child
from tests.test_obituaries import serve


@pytest.fixture
def hub(make_segment):
    return make_segment()


def dead_worker(hub):
    """The pid of a worker that was killed and waited for."""
    with Child(lambda: serve(hub)) as child:
        pid = child.pid
        child.kill()
    return pid


def obituaries(hub):
    return View(hub).snapshot().obituaries


def test_it_waits_in_the_slot_for_the_reaper(hub):
    pid = dead_worker(hub)
    before = time.monotonic()
    assert report_end(hub, pid, -9)
    after = time.monotonic()
    slots.reap(hub)
    (each,) = obituaries(hub)
    assert (each.pid, each.exit_code) == (pid, -9)
    assert before <= each.noticed <= after, "it is known when that was"


def test_it_is_said_later_where_the_reaper_was_first(hub):
    pid = dead_worker(hub)
    slots.reap(hub)
    view = View(hub)
    assert view.snapshot().obituaries[0].exit_code is None
    assert report_end(hub, pid, 3)
    assert view.snapshot().obituaries[0].exit_code == 3
    assert report_end(hub, pid, 0)
    assert view.snapshot().obituaries[0].exit_code == 3, "what is known stays"


def end_by(hub, exit_code, end):
    """The pid of a worker that says by what it is being ended, and then is."""

    def work():
        writer = serve(hub)
        note_own(hub, writer.slot, exit_code)
        end()
        return writer

    with Child(work) as child:
        pid = child.pid
        child.kill()
    return pid


def test_a_worker_may_say_itself_by_what_it_is_being_ended(hub):
    pid = end_by(hub, -6, lambda: None)
    slots.reap(hub)
    (each,) = obituaries(hub)
    assert (each.pid, each.exit_code) == (pid, -6)


def test_what_it_said_counts_though_it_then_exits_in_order(hub):
    """As under gunicorn, whose aggregator may come between its exit and its arbiter."""
    child = os.fork()
    if child == 0:
        try:
            writer = serve(hub)
            note_own(hub, writer.slot, -6)
        finally:
            os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    slots.reap(hub)
    os.waitpid(child, 0)
    assert [(each.exit_code, each.is_news) for each in obituaries(hub)] == [(-6, True)]


def test_whoever_waited_for_it_knows_better(hub):
    pid = end_by(hub, -6, lambda: None)
    assert report_end(hub, pid, -9)
    slots.reap(hub)
    assert [each.exit_code for each in obituaries(hub)] == [-9]


def test_who_has_lost_its_slot_says_nothing_in_that_of_another(hub):
    pid = dead_worker(hub)
    before = bytes(hub.memory)
    note_own(hub, 0, -6)
    expect_own(hub, 0, True)
    assert bytes(hub.memory) == before
    slots.reap(hub)
    assert [(each.pid, each.exit_code) for each in obituaries(hub)] == [(pid, None)]


def test_a_pid_that_was_used_again_long_after_is_not_the_dead_ones(hub):
    pid = dead_worker(hub)
    slots.reap(hub)
    assert not report_end(hub, pid, 3, clock=lambda: time.monotonic() + AMENDABLE + 1.0)
    assert obituaries(hub)[0].exit_code is None


def test_nothing_is_said_of_the_living_nor_of_strangers(hub):
    with Child(lambda: serve(hub)) as child:
        assert not report_end(hub, child.pid, -9)
        assert not report_end(hub, 2**31, -9)
        assert not report_end(hub, 2**64 - 1, -9)
        child.kill()
        slots.reap(hub)
    assert obituaries(hub)[0].exit_code is None


def test_of_two_slots_with_a_pid_the_living_ones_is_left_alone(hub):
    pid = dead_worker(hub)
    with Child(lambda: serve(hub)):
        hub.slots["owner"]["pid"][1] = pid
        assert report_end(hub, pid, -6)
        assert slots.words_of(hub, 1)[slots.ENDING] == 0
        slots.reap(hub)
    assert [each.exit_code for each in obituaries(hub)] == [-6]


def test_the_next_owner_of_the_slot_does_not_inherit_it(hub):
    pid = dead_worker(hub)
    report_end(hub, pid, -9)
    slots.reap(hub)
    for slot in range(4):
        assert hub.slots["owner"]["state"][slot] == FREE
    writers = [Writer(hub) for _ in range(4)]
    for writer in writers:
        writer.record(0.1)
        writer._folding.claim.alive.release()
    assert [slots.words_of(hub, slot)[slots.ENDING] for slot in range(4)] == [0] * 4


def test_a_busy_registry_keeps_nobody_waiting_for_long(hub, clock):
    pid = dead_worker(hub)
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        start = clock.now
        assert not report_end(hub, pid, -9, clock=clock, sleep=clock.sleep)
        assert clock.now - start < 0.11
    assert report_end(hub, pid, -9)


def test_the_aggregator_is_woken(hub):
    bell = doorbell.Doorbell(hub)
    report_end(hub, 1, -9)
    assert bell.wait(0.0)
    bell.close()


@pytest.mark.parametrize("code", [256, 9 << 8, -65, 2**40])
def test_a_wait_status_is_not_taken_for_an_exit_code(hub, code):
    with pytest.raises(ValueError, match="waitstatus_to_exitcode"):
        report_end(hub, 1, code)


def test_a_reporter_killed_before_the_last_store_has_said_nothing(hub):
    pid = dead_worker(hub)
    hub.slots["notes"]["ended_at"][0] = 1.0
    slots.reap(hub)
    (each,) = obituaries(hub)
    assert (each.pid, each.exit_code) == (pid, None)
    assert each.noticed > 2.0


def test_a_worker_killed_by_a_signal_of_the_arbiter_is_told_so(hub):
    with Child(lambda: serve(hub)) as child:
        os.kill(child.pid, signal.SIGTERM)
        _, status = os.waitpid(child.pid, 0)
        pid, child.pid = child.pid, 0
        report_end(hub, pid, os.waitstatus_to_exitcode(status))
        slots.reap(hub)
        os.close(child._hand)
    assert obituaries(hub)[0].exit_code == -signal.SIGTERM
