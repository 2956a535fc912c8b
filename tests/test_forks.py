"""Forks: what is registered hears of them in the child, and nothing that is the parent's lives on there."""

import gc
import os
import signal
import threading
import traceback
from functools import partial

import pytest

from shmetrics import forks, slots
from shmetrics.locks import REGISTRY, ByteLock, is_locked
from shmetrics.writer import Writer
from tests.processes import in_forked_child


class Child:
    """A forked child that has called `function` and now waits to be killed. What `function` returned stays referenced.

    It ends by itself when this process does. As a context manager it is killed and waited for at the end.
    """

    def __init__(self, function=lambda: None):
        ready, report = os.pipe()
        leash, self._hand = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._hand)
                _kept = function()
                os.write(report, b".")
                os.read(leash, 1)
            except BaseException:  # noqa: BLE001  whatever it is, the child must not return into the test
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(report)
        os.close(leash)
        answer = os.read(ready, 1)
        os.close(ready)
        assert answer == b".", "the child failed: see its traceback"

    def make_zombie(self):
        """Kill it, and leave it unreaped."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def kill(self):
        """Kill it and collect it."""
        if self.pid:
            self.make_zombie()
            os.waitpid(self.pid, 0)
            os.close(self._hand)
            self.pid = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Survivor:
    """Lets a process that is to be killed leave a child behind, which lives until the ``with`` block ends."""

    def __enter__(self):
        self._gate, self._latch = os.pipe()
        return self

    def fork(self):
        """In the process to be killed. Returns once the child has done all that is done after a fork."""
        ready, report = os.pipe()
        if os.fork() == 0:
            os.close(self._latch)
            os.write(report, b".")
            os.read(self._gate, 1)
            os._exit(0)
        os.read(ready, 1)

    def __exit__(self, *_):
        os.close(self._latch)
        os.close(self._gate)


class Witness:
    def __init__(self):
        self.calls = 0
        forks.register(self)

    def after_fork_in_child(self):
        self.calls += 1


def test_each_registered_object_is_called_once_in_the_child():
    witnesses = [Witness() for _ in range(3)]

    def check():
        assert [witness.calls for witness in witnesses] == [1, 1, 1]

    in_forked_child(check)


def test_nothing_is_called_in_the_parent():
    witness = Witness()
    in_forked_child(lambda: None)
    assert witness.calls == 0


def test_an_object_registered_twice_is_called_once():
    witness = Witness()
    forks.register(witness)

    def check():
        assert witness.calls == 1

    in_forked_child(check)


def test_a_grandchild_calls_again():
    witness = Witness()

    def check():
        assert witness.calls == 2

    in_forked_child(lambda: in_forked_child(check))


def test_registering_does_not_keep_an_object_alive():
    gc.collect()
    before = len(forks._registered)
    witnesses = [Witness() for _ in range(10)]
    assert len(forks._registered) == before + 10
    del witnesses
    assert len(forks._registered) == before


def test_an_object_in_a_reference_cycle_is_forgotten_with_it():
    gc.collect()
    before = len(forks._registered)
    witness = Witness()
    witness.itself = witness
    del witness
    gc.collect()
    assert len(forks._registered) == before


def test_the_epoch_differs_after_a_fork_in_parent_and_child():
    before = forks.epoch()

    def check():
        assert forks.epoch() != before

    in_forked_child(check)
    assert forks.epoch() != before


def test_the_epoch_stands_still_without_a_fork():
    assert forks.epoch() == forks.epoch()


def test_a_child_records_into_a_slot_of_its_own(make_segment):
    segment = make_segment()
    writer = Writer(segment)
    writer.record(0.001)

    def check():
        assert writer.slot is None
        writer.record(0.002)
        assert writer.slot == 1
        assert writer.committed == 1

    in_forked_child(check)
    writer.record(0.003)
    assert (writer.slot, writer.committed) == (0, 2)
    writer.close()


@pytest.mark.parametrize("end", ["kill", "make_zombie"])
def test_a_dead_worker_whose_child_lives_on_does_not_look_alive(make_segment, end):
    segment = make_segment()

    def record_and_fork():
        writer = Writer(segment)
        writer.record(0.001)
        survivor.fork()
        return writer

    with Survivor() as survivor, Child(record_and_fork) as worker:
        assert slots.is_alive(segment, 0)
        getattr(worker, end)()
        assert not slots.is_alive(segment, 0)


def test_a_fork_while_the_registry_is_held_leaves_it_to_the_parent(make_segment):
    segment = make_segment()
    registry = ByteLock(segment.descriptor, REGISTRY)
    assert registry.try_acquire()
    with Child():
        assert is_locked(segment.descriptor, REGISTRY)
        registry.release()
        assert not is_locked(segment.descriptor, REGISTRY)


def acquire_all(locks):
    for lock in locks:
        assert lock.try_acquire()


def test_children_forked_while_another_thread_takes_locks_hold_none_of_them(make_segment):
    segment = make_segment()
    for _ in range(40):
        locks = [ByteLock(segment.descriptor, 100 + number) for number in range(25)]
        thread = threading.Thread(target=acquire_all, args=(locks,))
        thread.start()
        with Child():
            thread.join()
            for lock in locks:
                lock.after_fork_in_child()  # as the holder's death would: closed, not unlocked
            assert not any(is_locked(segment.descriptor, 100 + number) for number in range(25))


def test_after_a_fork_neither_side_takes_it_for_being_under_way():
    """Else every lock that is opened would wait for its end."""

    def check():
        assert forks._in_progress == []

    in_forked_child(partial(in_forked_child, check))
    check()
