"""Named semaphores: safe to open, bounded to acquire, and never more than one holder."""

import os
import shutil
import stat

import pytest

from shmetrics import guards, naming
from shmetrics.guards import Fence
from shmetrics.layout import SEMAPHORE_BYTES
from tests.processes import in_forked_child, run_in_processes, run_in_threads

ROUNDS = 300

FRESH = guards.template()


@pytest.fixture
def name(hub_name):
    """A semaphore's name, free before and after."""
    name = f"{naming.segment_file(hub_name)}.0123456789abcdef.g0.1"
    yield name
    path = path_of(name)
    if os.path.isdir(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


@pytest.fixture
def guard(name):
    """A guard that is free."""
    with guards.create(name, FRESH) as guard:
        yield guard


def path_of(name):
    return f"{naming.SHM_DIR}/sem.{name}"


def test_a_new_semaphore_has_the_value_one(name):
    with guards.create(name, FRESH) as semaphore:
        assert semaphore.value == 1


def test_a_template_leaves_nothing_behind_and_is_the_same_every_time():
    assert guards.template() == FRESH
    assert len(FRESH) == SEMAPHORE_BYTES


def test_taking_and_giving_back_is_seen_by_everyone_who_opened_it(guard, name):
    with guards.open_existing(name) as other:
        assert guard.try_acquire()
        assert other.value == 0
        assert not other.try_acquire()
        guard.release()
        assert other.value == 1
        assert other.try_acquire()


def test_no_more_than_one_process_holds_a_guard(guard, name):
    highest = run_in_processes("fork", 4, hold_in_turn, name)
    assert highest == [1] * 4
    assert guard.value == 1


def hold_in_turn(name, _process):
    """Take and give back ROUNDS times; returns the largest value seen, plus one where the guard was not exclusive."""
    highest = 0
    with guards.open_existing(name) as guard:
        for _ in range(ROUNDS):
            highest = max(highest, guard.value)
            if guard.acquire(30.0):
                highest = max(highest, 1 + guard.value)
                guard.release()
    return highest


def test_closing_does_not_release(guard, name):
    with guards.open_existing(name) as other:
        assert other.try_acquire()
    assert guard.value == 0


def test_acquire_gives_up_when_patience_ends(guard, clock):
    guard.try_acquire()
    assert not guard.acquire(0.005, clock, clock.sleep)
    assert 1000.005 <= clock.now < 1000.006


def test_acquire_of_a_free_guard_does_not_sleep(guard, clock):
    assert guard.acquire(0.005, clock, clock.sleep)
    assert clock.now == 1000.0


def test_acquire_takes_a_guard_that_becomes_free_meanwhile(guard, name, clock):
    guard.try_acquire()

    def sleep(seconds):
        clock.sleep(seconds)
        guard.release()

    with guards.open_existing(name) as other:
        assert other.acquire(0.005, clock, sleep)
    assert clock.now < 1000.005


# Creating -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_mode_is_0600_whatever_the_umask(name, umask):
    before = os.umask(umask)
    try:
        semaphore = guards.create(name, FRESH)
    finally:
        os.umask(before)
    with semaphore:
        assert stat.S_IMODE(os.stat(path_of(name)).st_mode) == 0o600
        with guards.open_existing(name) as other:
            assert other.value == 1


def test_create_replaces_a_leftover_which_its_holders_keep(name):
    with guards.create(name, FRESH) as leftover, guards.create(name, FRESH) as fresh:
        assert leftover.try_acquire()
        assert fresh.try_acquire()
        assert not leftover.try_acquire()
        leftover.release()
        assert fresh.value == 0


def test_create_replaces_a_file_that_is_no_semaphore(name):
    with open(path_of(name), "w"):
        pass
    with guards.create(name, FRESH) as semaphore:
        assert semaphore.try_acquire()


def test_create_replaces_a_symbolic_link_and_not_what_it_points_to(name, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    os.symlink(target, path_of(name))
    with guards.create(name, FRESH):
        assert not os.path.islink(path_of(name))
    assert target.read_bytes() == b"precious"


def test_create_does_without_where_the_name_cannot_be_freed(name):
    os.mkdir(path_of(name))
    assert guards.create(name, FRESH) is None


def test_unlink_says_whether_the_name_is_free(guard, name):
    assert guards.unlink(name)
    assert not os.path.exists(path_of(name))
    assert guards.unlink(name)
    os.mkdir(path_of(name))
    assert not guards.unlink(name)


# Opening --------------------------------------------------------------------------------------------------------------


def truncate(path):
    os.truncate(path, 0)


def lengthen(path):
    os.truncate(path, 4096)


def loosen_for_group(path):
    os.chmod(path, 0o640)


def loosen_for_others(path):
    os.chmod(path, 0o602)


def link(path):
    os.rename(path, f"{path}.moved")
    os.symlink(f"{path}.moved", path)


def make_directory(path):
    os.unlink(path)
    os.mkdir(path)


def make_fifo(path):
    os.unlink(path)
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "spoil", [truncate, lengthen, loosen_for_group, loosen_for_others, link, make_directory, make_fifo]
)
def test_open_existing_refuses_what_is_not_safe(guard, name, spoil):
    """A zero-length file, for one, would kill the process with SIGBUS."""
    spoil(path_of(name))
    try:
        assert guards.open_existing(name) is None
    finally:
        if spoil is link:
            os.unlink(f"{path_of(name)}.moved")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_open_existing_refuses_a_foreign_owner(guard, name):
    shutil.chown(path_of(name), user=12345)
    assert guards.open_existing(name) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away, and remove what is not its own")
def test_unlink_all_leaves_what_belongs_to_another_user(guard, name):
    shutil.chown(path_of(name), user=12345)
    guards.unlink_all(name)
    assert os.path.exists(path_of(name))


def test_open_existing_finds_nothing_where_there_is_nothing(name):
    assert guards.open_existing(name) is None


# The fence ------------------------------------------------------------------------------------------------------------


def fences():
    """Files of this process's fences."""
    return [file for file in os.listdir(naming.SHM_DIR) if f".fence.{os.getpid()}." in file]


def test_a_fence_leaves_nothing():
    fence = Fence()
    assert fences() == []
    fence()
    del fence
    assert fences() == []


def test_a_fence_can_be_crossed_again_and_again():
    fence = Fence()
    for _ in range(1000):
        fence()


def test_fences_beside_each_other_are_separate():
    for fence in [Fence() for _ in range(10)]:
        fence()


def test_a_fence_may_be_shared_by_threads_and_with_a_child():
    fence = Fence()

    def cross(_index):
        for _ in range(500):
            fence()

    run_in_threads(4, cross)
    in_forked_child(lambda: cross(0))
    fence()
