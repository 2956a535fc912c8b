"""Forks at the worst moments: while other threads record, in the middle of a record, and of forks themselves."""

import collections
import os
import signal
import threading
import time
import traceback
from functools import partial

import pytest

from shmetrics import PerformanceMetrics, slots
from shmetrics.segment import attach
from tests.hazards.worlds import SCENES, at_every_moment
from tests.processes import PATIENCE, forked


def wait_for(pids, patience=PATIENCE):
    """Wait until these children have ended, all of them well; kill those that hang."""
    deadline = time.monotonic() + patience
    left, bad = set(pids), {}
    while left and time.monotonic() < deadline:
        for pid in list(left):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                left.remove(pid)
                if status:
                    bad[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left, f"children hang: {left}"
    assert not bad, f"children failed: {bad}"


def wait_for_slot(recorder):
    """Wait until this child has a slot, though others claim too: what waits for one in a process ends with it."""
    deadline = time.monotonic() + PATIENCE
    while not recorder.claim():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def requests_by_pid(metrics):
    """The requests of each worker that was ever in a slot, by its pid."""
    found = collections.Counter()
    for worker in metrics.snapshot().workers:
        found[worker.pid] += worker.counters.requests
    return found


# While other threads record -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["exits abruptly", "exits in order"])
def test_sixty_forks_while_two_threads_record_are_exact_and_hang_nobody(hub_name, end):
    done, stop = [0, 0], threading.Event()

    def keep_recording(index):
        while not stop.is_set():
            metrics.update_inference(0.001)
            done[index] += 1

    def record_and_end(count):
        for _ in range(count):
            metrics.update_inference(0.002)
        wait_for_slot(metrics)
        if end == "exits in order":
            metrics.close()

    with PerformanceMetrics(name=hub_name, max_workers=64) as metrics:
        threads = [threading.Thread(target=keep_recording, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        try:
            children = {forked(partial(record_and_end, 10 * count)): 10 * count for count in range(1, 61)}
            wait_for(children)
        finally:
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        assert requests_by_pid(metrics) == {os.getpid(): sum(done), **children}
        assert metrics.get_statistics()["total_requests"] == sum(done) + sum(children.values())


# Forks of forks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_generations():
    """A function that starts a child, its child and its child's child, and returns their pids once they have recorded.

    Generation n records n + 1 requests, then forks the next, then lives until it is killed or the test ends.
    """
    (ready, report), (leash, hand) = os.pipe(), os.pipe()

    def live(metrics, generation):
        if generation == 0:
            os.close(hand)
        for _ in range(generation + 1):
            metrics.update_inference(0.1)
        os.write(report, os.getpid().to_bytes(4, "little"))
        if generation < 2:
            forked(partial(live, metrics, generation + 1))
        os.read(leash, 1)

    def start(metrics):
        children.append(forked(partial(live, metrics, 0)))
        return [int.from_bytes(os.read(ready, 4), "little") for _ in range(3)]

    children = []
    yield start
    for descriptor in (ready, report, leash, hand):
        os.close(descriptor)
    for child in children:
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)], ids=["oldest first", "middle first", "youngest first"]
)
def test_each_generation_has_its_own_slot_and_is_reaped_when_it_dies_though_its_descendants_live(
    hub_name, order, three_generations
):
    with PerformanceMetrics(name=hub_name, max_workers=4) as metrics:
        metrics.update_inference(0.1)
        pids = three_generations(metrics)
        assert requests_by_pid(metrics) == {os.getpid(): 1, pids[0]: 1, pids[1]: 2, pids[2]: 3}
        alive = {os.getpid(), *pids}
        hub = attach(hub_name, writable=True)
        for generation in order:
            os.kill(pids[generation], signal.SIGKILL)
            alive.remove(pids[generation])
            deadline = time.monotonic() + PATIENCE
            while not slots.reap(hub):
                assert time.monotonic() < deadline, "somebody else keeps the dead alive"
                time.sleep(0.001)
            assert {worker.pid for worker in metrics.snapshot().workers if worker.alive} == alive
            assert metrics.get_statistics()["total_requests"] == 7
        hub.close()


# A handler that forks in the middle of a write ------------------------------------------------------------------------

FORKED = ("first record while others wait", "record while the registry is busy", "record", "first error", "error")
CHILDS_OWN = (1000.0, 1001.0, 1002.0)


def fork_in_the_middle(world):
    """Be a signal handler that forks and returns, in the child too."""
    world.not_begun = bool(world.writer.token._token)
    world.child = os.fork()
    if world.child == 0:
        world.count_from(CHILDS_OWN[0])
        world.clock.step = 0.0  # it must not run ahead of the parent's, whom times from the future would alarm


def end_child_on_error(write):
    """The same write, but in a child that was forked meanwhile it does not raise into the test."""

    def guarded(world):
        try:
            write(world)
        except BaseException:
            if world.child == 0:
                traceback.print_exc()
                os._exit(1)
            raise

    return guarded


def go_on_in_child(world):
    """Record three times and end, without a way back into the test."""
    status = 1
    try:
        world.record(len(CHILDS_OWN))
        wait_for_slot(world.writer)
        status = 0
    except BaseException:  # noqa: BLE001  whatever it is, it is printed and is this child's exit status
        traceback.print_exc()
    finally:
        os._exit(status)


def check_both(world):
    """Whether parent and child each have exactly what is theirs.

    A write that has not begun when the fork comes, since it has no token yet, is made by both.
    """
    if world.child == 0:
        go_on_in_child(world)
    if world.child is not None:
        world.record()  # while the child goes on too
        wait_for([world.child])
    world.check_that_it_goes_on()
    if world.child is not None:
        found = {
            (worker.pid, tuple(worker.window["inference_time"].tolist()), worker.counters.errors)
            for worker in world.workers()
        }
        parents = {(os.getpid(), tuple(world.done), world.errors_done)}
        childs = {(world.child, CHILDS_OWN, 0)}
        if world.not_begun:
            childs |= {(world.child, (*world.begun[-4:-3], *CHILDS_OWN), 0), (world.child, CHILDS_OWN, 1)}
        assert found - childs == parents, found
        assert found - parents, "the child has nothing"
    assert world.held() == [world.writer.slot]


@pytest.mark.parametrize(
    ("scene", "strict"), [*((scene, "0") for scene in FORKED), (FORKED[0], "1"), (FORKED[-2], "1")]
)
def test_a_handler_that_forks_at_any_moment_disturbs_neither_side_and_the_write_counts_in_the_parent(
    hub_name, scene, strict, monkeypatch
):
    """Not in the middle of a fold, which is said to be unsupported; and not between lines, where no handler runs.

    In strict mode every store of a word is a call, and so a moment.
    """
    monkeypatch.setenv("SHMETRICS_STRICT", strict)
    before, write = SCENES[scene]
    at_every_moment("calls", (before, end_child_on_error(write)), fork_in_the_middle, check_both, hub_name)
