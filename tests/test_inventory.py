"""The inventory: what serves nobody is found and removed, and nothing else ever is."""

import os
import time

import pytest

from shmetrics import Hub, PerformanceMetrics, guards, inventory, naming, segment
from shmetrics.errors import HubNotFoundError
from shmetrics.layout import Layout
from shmetrics.process import start_ticks
from tests.processes import in_forked_child

SMALL = {"max_workers": 2, "max_series": 8}


def mine(part):
    """The leftovers with this in their names; other tests run beside us."""
    return [leftover for leftover in inventory.leftovers() if part in leftover.name]


@pytest.fixture
def semaphore():
    """A function that makes a semaphore; it is removed if it is still there."""
    made = []

    def make(name):
        guards.create(name, guards.template()).close()
        made.append(name)
        return f"sem.{name}"

    yield make
    for name in made:
        guards.unlink(name)


@pytest.fixture
def abandoned(monkeypatch):
    """The name of a private hub as a killed creator leaves it.

    It bears our own pid, which is said to be gone: tests that run beside us remove what really dead processes left.
    """
    monkeypatch.setattr(inventory, "is_gone", lambda pid: pid == os.getpid())
    target = segment.create(naming.private_name(), Layout(**SMALL))
    target.close()
    yield target.name
    segment.unlink(target.name, target.instance)


def test_a_process_is_gone_when_it_was_waited_for():
    assert not inventory.is_gone(os.getpid())
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert inventory.is_gone(pid)


def test_a_private_hub_whose_process_was_killed_serves_nobody(abandoned):
    (found,) = mine(abandoned)
    assert found.is_hub
    assert "is gone" in found.why
    assert inventory.remove(found)
    with pytest.raises(HubNotFoundError):
        Hub.attach(abandoned)


def test_a_private_hub_whose_process_was_killed_and_has_its_number_used_again_serves_nobody():
    """Its creation, put back to before this process began, tells."""
    target = segment.create(naming.private_name(), Layout(**SMALL))
    assert mine(target.name) == []
    for created in (float("nan"), float("inf"), time.monotonic()):
        target.header["created_monotonic"] = created
        assert mine(target.name) == []
    started = start_ticks("self") / os.sysconf("SC_CLK_TCK")
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    target.header["created_monotonic"] = started - suspended - 10.0
    assert mine(target.name) == [], "we have it attached"
    target.close()
    (found,) = mine(target.name)
    assert "is gone, and its number another's" in found.why
    assert inventory.remove(found)


def test_a_private_hub_that_a_child_still_uses_stays(abandoned):
    found = mine(abandoned)
    user = segment.attach(abandoned, writable=True)
    assert mine(abandoned) == []
    assert not inventory.remove(found[0]), "it was removed under a process that attached it meanwhile"
    user.close()
    assert mine(abandoned) == found


def test_a_private_hub_whose_process_lives_stays():
    with PerformanceMetrics(**SMALL) as metrics:
        assert mine(metrics.name) == []


def test_an_arbiters_hub_stays_while_the_arbiter_lives_though_no_worker_has_it():
    target = segment.create(naming.arbiter_name(), Layout(**SMALL))
    target.close()
    assert mine(target.name) == []
    (kept,) = (kept for kept in inventory.unremovable() if kept.name == target.name)
    assert "lives" in kept.why
    segment.unlink(target.name, target.instance)


def test_a_hub_with_a_name_is_kept_with_its_totals(hub_name):
    PerformanceMetrics(name=hub_name, **SMALL).close()
    assert mine(hub_name) == []
    (kept,) = (kept for kept in inventory.unremovable() if kept.name == hub_name)
    assert "totals" in kept.why


def test_a_hub_in_use_is_kept_and_its_users_are_named(hub_name):
    with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
        metrics.update_inference(0.1)
        (kept,) = (kept for kept in inventory.unremovable() if kept.name == hub_name)
        assert "1 live worker" in kept.why


def test_what_is_no_hub_is_kept_with_the_reason(hub_name):
    path = naming.segment_path(hub_name)
    with open(path, "wb") as file:
        file.write(b"not a hub")
    os.chmod(path, 0o600)
    (kept,) = (kept for kept in inventory.unremovable() if kept.name == hub_name)
    assert "too few for a hub" in kept.why
    os.unlink(path)


def test_the_semaphores_of_a_hub_that_is_gone_serve_nobody(hub_name, semaphore):
    file = semaphore(guards.guard_name(naming.semaphore_prefix(hub_name, 1), 0, 1))
    (found,) = mine(file)
    assert found.why == f"hub {hub_name!r} is gone"
    assert inventory.remove(found)
    assert not os.path.exists(f"{naming.SHM_DIR}/{file}")
    assert not inventory.remove(found), "it was removed before"


def test_the_semaphores_of_an_earlier_hub_of_a_name_serve_nobody(make_segment, semaphore):
    target = make_segment()
    file = semaphore(guards.bell_name(naming.semaphore_prefix(target.name, target.instance ^ 1)))
    (found,) = mine(file)
    assert "another by now" in found.why


def test_the_guards_and_the_bell_of_a_hub_stay_and_a_guard_that_was_replaced_goes(make_segment, semaphore):
    target = make_segment()
    prefix = naming.semaphore_prefix(target.name, target.instance)
    target.slots["owner"]["guard"][1] = 3
    old = semaphore(guards.guard_name(prefix, 1, 2))
    for name in (guards.guard_name(prefix, 1, 3), guards.guard_name(prefix, 1, 4), guards.bell_name(prefix)):
        semaphore(name)
    (found,) = mine(target.name)
    assert (found.name, found.why) == (old, "its owner made guard 3 in its place")


def test_what_was_to_last_an_instant_is_left_behind_after_a_minute(semaphore):
    file = semaphore(f"{naming.segment_file('')}template.{os.getpid()}.0123456789abcdef")
    changed = os.stat(f"{naming.SHM_DIR}/{file}").st_ctime
    at = {
        seconds: [found.name for found in inventory.leftovers(wall=lambda seconds=seconds: changed + seconds)]
        for seconds in (1.0, inventory.INSTANT + 1.0)
    }
    assert file not in at[1.0]
    assert file in at[inventory.INSTANT + 1.0]


@pytest.mark.parametrize("spoil", ["another user's", "a symbolic link", "a directory", "a name we never give"])
def test_what_is_not_ours_is_never_among_them(hub_name, spoil, tmp_path):
    name = guards.guard_name(naming.semaphore_prefix(hub_name, 1), 0, 1)
    path = f"{naming.SHM_DIR}/sem.{name}" + (".x" if spoil == "a name we never give" else "")
    if spoil == "a directory":
        os.mkdir(path)
    elif spoil == "a symbolic link":
        os.symlink(tmp_path, path)
    else:
        with open(path, "wb"):
            pass
        if spoil == "another user's":
            os.chown(path, 12345, -1)
    try:
        assert mine(hub_name) == []
    finally:
        os.rmdir(path) if spoil == "a directory" else os.unlink(path)


def test_looking_changes_nothing(abandoned):
    before = sorted(os.listdir(naming.SHM_DIR))
    in_forked_child(lambda: (list(inventory.leftovers()), list(inventory.unremovable())))
    assert abandoned in list(naming.hub_names())
    assert {file for file in before if abandoned in file} <= set(os.listdir(naming.SHM_DIR))


def test_a_runner_removes_what_went_with_a_predecessor_of_its_number_and_no_more(hub_name):
    """As process 1 of a container that is started again has."""
    left, used, foreign = (f"run-t-{pid}-{number:08x}" for pid, number in ((os.getpid(), 1), (os.getpid(), 2), (1, 3)))
    dims = Layout(**SMALL)
    segment.create(left, dims).close()
    segment.create(foreign, dims).close()
    segment.create(hub_name, dims).close()
    with PerformanceMetrics(name=used, **SMALL) as metrics:
        inventory.remove_predecessors()
        assert {left, used, foreign, hub_name} & set(naming.hub_names()) == {used, foreign, hub_name}
        metrics.unlink()
    inventory.remove_predecessors()
    segment.unlink(foreign, segment.attach(foreign).instance)
