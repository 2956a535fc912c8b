"""Kernel locks: seen by everyone, held on behalf of nobody else, and gone with their holder."""

import gc
import mmap
import os

import pytest

from shmetrics import locks
from shmetrics.locks import (
    ATTACHED,
    REGISTRY,
    ROLE,
    ByteLock,
    above_standard,
    file_of,
    is_locked,
    slot_byte,
    try_share,
)
from tests.processes import in_forked_child
from tests.test_forks import Child

BYTE = 3


@pytest.fixture
def descriptor(tmp_path):
    """A file to lock."""
    number = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.truncate(number, 1)
    yield number
    os.close(number)


@pytest.fixture
def lock(descriptor):
    """A lock on BYTE, held by this process."""
    lock = ByteLock(descriptor, BYTE)
    assert lock.try_acquire()
    yield lock
    lock.release()


def open_descriptors():
    """How many this process has, not counting those of garbage."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_a_file_never_keeps_the_number_of_a_closed_stream(tmp_path):
    def open_and_lock():
        os.closerange(0, 3)
        number = above_standard(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = ByteLock(number, BYTE)
        assert lock.try_acquire()
        assert is_locked(number, BYTE)
        lock.release()
        assert not is_locked(number, BYTE)
        assert [stream for stream in range(3) if file_of(stream)] == []
        assert not os.get_inheritable(number)

    in_forked_child(open_and_lock)


def test_a_number_above_the_streams_is_kept(descriptor):
    assert above_standard(descriptor) == descriptor


def test_registry_role_attachment_and_slots_are_different_bytes():
    used = [REGISTRY, ROLE, ATTACHED, *(slot_byte(slot) for slot in range(1024))]
    assert len(set(used)) == len(used)


def test_a_free_byte_is_not_locked(descriptor):
    assert not is_locked(descriptor, BYTE)


def test_a_lock_is_seen_through_another_description_of_the_same_process(lock, descriptor):
    assert lock.held
    assert is_locked(descriptor, BYTE)


def test_a_read_only_descriptor_sees_a_lock(lock, descriptor):
    reading = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        assert is_locked(reading, BYTE)
    finally:
        os.close(reading)


def test_looking_does_not_lock(descriptor):
    is_locked(descriptor, BYTE)
    with ByteLock(descriptor, BYTE) as lock:
        assert lock.try_acquire()


def test_a_second_lock_is_refused_and_leaves_no_descriptor(lock, descriptor):
    before = open_descriptors()
    other = ByteLock(descriptor, BYTE)
    assert not other.try_acquire()
    assert not other.held
    assert open_descriptors() == before


@pytest.mark.parametrize("neighbour", [BYTE - 1, BYTE + 1])
def test_neighbouring_bytes_are_independent(lock, descriptor, neighbour):
    assert not is_locked(descriptor, neighbour)
    with ByteLock(descriptor, neighbour) as other:
        assert other.try_acquire()


def test_a_released_lock_is_free_and_can_be_taken_again(lock, descriptor):
    lock.release()
    assert not lock.held
    assert not is_locked(descriptor, BYTE)
    assert lock.try_acquire()


def test_releasing_what_is_not_held_is_harmless(lock, descriptor):
    ByteLock(descriptor, BYTE).release()
    assert is_locked(descriptor, BYTE)


def test_the_context_manager_releases(descriptor):
    with ByteLock(descriptor, BYTE) as lock:
        lock.try_acquire()
    assert not is_locked(descriptor, BYTE)


def test_trying_again_while_holding_it_does_not_lose_the_lock(lock, descriptor):
    before = open_descriptors()
    lock.try_acquire()
    assert lock.held
    assert is_locked(descriptor, BYTE)
    lock.release()
    assert not is_locked(descriptor, BYTE)
    assert open_descriptors() == before - 1


def test_a_program_that_is_executed_does_not_inherit_the_lock(lock):
    assert not os.get_inheritable(lock._descriptor)


def test_the_lock_works_on_an_unlinked_file(descriptor, tmp_path):
    (tmp_path / "file").unlink()
    with ByteLock(descriptor, BYTE) as lock:
        assert lock.try_acquire()
        assert is_locked(descriptor, BYTE)
    assert not is_locked(descriptor, BYTE)


def test_an_error_other_than_busy_is_raised(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        ByteLock(-1, BYTE).try_acquire()


# Other processes ------------------------------------------------------------------------------------------------------


def hold(descriptor):
    lock = ByteLock(descriptor, BYTE)
    assert lock.try_acquire()
    return lock


def test_a_lock_of_another_process_is_seen_and_refused(descriptor):
    with Child(lambda: hold(descriptor)):
        assert is_locked(descriptor, BYTE)
        assert not ByteLock(descriptor, BYTE).try_acquire()


def test_a_killed_process_holds_nothing(descriptor):
    with Child(lambda: hold(descriptor)) as holder:
        holder.kill()
        assert not is_locked(descriptor, BYTE)


def test_a_zombie_holds_nothing(descriptor):
    with Child(lambda: hold(descriptor)) as holder:
        holder.make_zombie()
        assert os.path.exists(f"/proc/{holder.pid}")
        assert not is_locked(descriptor, BYTE)


def test_a_child_finds_its_parents_lock_not_held_and_still_locked(lock, descriptor):
    def check():
        assert not lock.held
        assert is_locked(descriptor, BYTE)
        assert not ByteLock(descriptor, BYTE).try_acquire()

    in_forked_child(check)


def test_a_child_that_releases_its_copy_does_not_free_the_parents_lock(lock, descriptor):
    in_forked_child(lock.release)
    assert lock.held
    assert is_locked(descriptor, BYTE)


def test_a_description_shared_with_a_child_stays_locked_until_the_child_closes_it_too(lock, descriptor):
    """What the kernel does, and why a child must close what it inherits."""
    copy = os.dup(lock._descriptor)
    with Child() as child:
        os.close(copy)
        lock.after_fork_in_child()  # as the parent's death would: closed, not unlocked
        assert is_locked(descriptor, BYTE)
        child.kill()
        assert not is_locked(descriptor, BYTE)


def test_releasing_frees_the_byte_also_while_a_child_has_the_description(lock, descriptor):
    copy = os.dup(lock._descriptor)
    with Child():
        os.close(copy)
        lock.release()
        assert not is_locked(descriptor, BYTE)


# Patience -------------------------------------------------------------------------------------------------------------


def test_acquire_gives_up_when_patience_ends(lock, descriptor, clock):
    assert not ByteLock(descriptor, BYTE).acquire(2.0, clock, clock.sleep)
    assert clock.now == pytest.approx(1002.0)


def test_a_lock_that_is_being_tried_for_is_not_held_yet(lock, descriptor, monkeypatch):
    """Other threads ask whether an alerting leads, while its own tries for the role that another process has."""
    other, seen, fcntl = ByteLock(descriptor, BYTE), [], locks.fcntl.fcntl

    def look(*arguments):
        seen.append(other.held)
        return fcntl(*arguments)

    monkeypatch.setattr(locks.fcntl, "fcntl", look)
    assert not other.try_acquire()
    lock.release()
    assert other.try_acquire()
    assert other.held
    assert seen[0] is False
    other.release()
    assert not other.held


def test_acquire_without_patience_does_not_sleep(lock, descriptor, clock):
    assert not ByteLock(descriptor, BYTE).acquire(0.0, clock, clock.sleep)
    assert clock.now == 1000.0


def test_acquire_takes_the_lock_within_one_pause_after_it_is_free(lock, descriptor, clock):
    def sleep(seconds):
        clock.sleep(seconds)
        if clock.now > 1001.0:
            lock.release()

    with ByteLock(descriptor, BYTE) as other:
        assert other.acquire(2.0, clock, sleep)
        assert other.held
    assert clock.now <= 1001.0 + locks._LONGEST_PAUSE


def test_waiting_is_jittered(lock, descriptor, clock):
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        clock.sleep(seconds)

    ByteLock(descriptor, BYTE).acquire(0.1, clock, sleep)
    assert len(set(naps)) > len(naps) // 2


def test_a_lock_is_not_taken_on_a_file_that_got_the_segments_descriptor_number(descriptor, tmp_path):
    """A daemon closes all descriptors, and the next file opened has the number of one of them."""
    source = os.dup(descriptor)
    lock = ByteLock(source, BYTE)
    other = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.dup2(other, source)
    with pytest.raises(OSError, match="another file"):
        lock.try_acquire()
    assert not lock.held
    os.close(source)
    os.close(other)


def test_a_lock_whose_descriptor_was_closed_is_not_held_and_closes_nothing_of_others(descriptor, tmp_path):
    lock = ByteLock(descriptor, BYTE)
    assert lock.try_acquire()
    number = lock._descriptor
    os.close(number)
    assert not lock.held
    other = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    lock.release()
    os.close(number)  # still open: it is the log's


def test_a_shared_byte_is_locked_until_the_last_mapping_of_its_description_is_gone(descriptor):
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    memory = mmap.mmap(own, 1)
    assert try_share(own, BYTE)
    assert not ByteLock(descriptor, BYTE).try_acquire()
    os.close(own)
    assert is_locked(descriptor, BYTE)
    memory.close()
    assert not is_locked(descriptor, BYTE)


def test_a_byte_is_not_shared_with_one_who_has_it_alone(descriptor):
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    with ByteLock(descriptor, BYTE) as lock:
        lock.try_acquire()
        assert not try_share(own, BYTE)
    assert try_share(own, BYTE)
    os.close(own)


def test_acquire_gives_up_although_the_clock_stands_still(descriptor):
    with ByteLock(descriptor, BYTE) as other:
        other.try_acquire()
        assert not ByteLock(descriptor, BYTE).acquire(2.0, lambda: 1000.0, lambda _seconds: None)
