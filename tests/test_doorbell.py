"""The doorbell: anybody rings, the leader wakes, and nobody waits."""

import os

import pytest

from shmetrics import doorbell, guards, naming, segment
from shmetrics.doorbell import Doorbell
from tests.processes import in_forked_child


@pytest.fixture
def target(make_segment):
    return make_segment()


@pytest.fixture
def bell(target):
    bell = Doorbell(target)
    yield bell
    bell.close()


def bell_path(target):
    prefix = naming.semaphore_prefix(target.name, target.instance)
    return f"{naming.SHM_DIR}/sem.{guards.bell_name(prefix)}"


def test_ringing_where_nobody_listens_does_nothing(target):
    assert not doorbell.ring(target)
    assert not os.path.exists(bell_path(target))


def test_a_wait_lasts_as_long_as_asked_when_nobody_rings(bell, clock):
    assert not bell.wait(5.0, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(1005.0)


def test_a_ring_before_the_wait_ends_it_at_once(bell, target, clock):
    assert doorbell.ring(target)
    assert bell.wait(5.0, clock=clock, sleep=clock.sleep)
    assert clock.now == 1000.0


def ringing_at(moment, target, clock):
    """A sleep during which somebody rings at a moment of the clock."""

    def sleep(seconds):
        before = clock.now
        clock.sleep(seconds)
        if before < moment <= clock.now:
            doorbell.ring(target)

    return sleep


def test_a_ring_during_the_wait_ends_it_early(bell, target, clock):
    assert bell.wait(5.0, clock=clock, sleep=ringing_at(1001.0, target, clock))
    assert 1001.0 <= clock.now < 1001.1


def test_a_ring_in_the_last_instant_of_a_wait_counts(bell, target, clock):
    assert bell.wait(0.01, clock=clock, sleep=ringing_at(1000.005, target, clock))


def test_a_wait_of_no_time_notices_a_ring(bell, target, clock):
    doorbell.ring(target)
    assert bell.wait(0.0, clock=clock, sleep=clock.sleep)


def test_whatever_else_is_waited_for_ends_the_wait_as_a_ring_does(bell, clock):
    assert bell.wait(5.0, clock=clock, sleep=clock.sleep, until=lambda: clock.now >= 1001.0)
    assert 1001.0 <= clock.now < 1001.03
    assert not bell.wait(1.0, clock=clock, sleep=clock.sleep, until=lambda: False)


def test_two_rings_wake_once(bell, target, clock):
    doorbell.ring(target)
    doorbell.ring(target)
    assert bell.wait(1.0, clock=clock, sleep=clock.sleep)
    assert not bell.wait(1.0, clock=clock, sleep=clock.sleep)


def test_another_process_can_ring(bell, target, clock):
    in_forked_child(lambda: doorbell.ring(target))
    assert bell.wait(1.0, clock=clock, sleep=clock.sleep)


def test_a_read_only_view_can_ring(bell, target, clock):
    view = segment.attach(target.name)
    assert doorbell.ring(view)
    view.close()
    assert bell.wait(1.0, clock=clock, sleep=clock.sleep)


def test_close_removes_the_bell(bell, target):
    bell.close()
    assert not os.path.exists(bell_path(target))
    assert not doorbell.ring(target)


def test_closing_twice_is_harmless_to_a_successor(bell, target):
    bell.close()
    successor = Doorbell(target)
    bell.close()
    assert doorbell.ring(target)
    successor.close()


def test_what_was_rung_for_a_killed_predecessor_does_not_wake_its_successor(bell, target, clock):
    doorbell.ring(target)
    successor = Doorbell(target)  # `bell` was never closed, as if its process had been killed
    assert not successor.wait(1.0, clock=clock, sleep=clock.sleep)
    assert doorbell.ring(target)
    assert successor.wait(1.0, clock=clock, sleep=clock.sleep)
    successor.close()


def test_a_bell_that_is_not_a_safe_semaphore_is_not_rung(target):
    with open(bell_path(target), "w"):
        pass
    assert not doorbell.ring(target)


def test_an_unlinked_hub_gets_no_bell_and_its_leader_waits_all_the_same(target, clock):
    segment.unlink(target.name, target.instance)
    bell = Doorbell(target)
    assert not os.path.exists(bell_path(target))
    assert not bell.wait(1.0, clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(1001.0)
    bell.close()
