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
from shmetrics.writer import RETRY_INTERVAL
from tests.hazards.injection import KINDS
from tests.hazards.worlds import SCENES, at_every_moment
from tests.processes import PATIENCE


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


def forked(function):
    """Run `function` in a forked child and return its pid; the child exits with 0, or prints what it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:  # noqa: BLE001  whatever it is, the child must not return into the test
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def requests_by_pid(metrics):
    """The requests of each worker that was ever in a slot, by its pid."""
    found = collections.Counter()
    for worker in metrics.snapshot().workers:
        found[worker.pid] += worker.counters.requests
    return found


# While other threads record -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["exits abruptly", "exits in order"])
def test_thirty_forks_while_two_threads_record_are_exact_and_hang_nobody(hub_name, end):
    done, stop = [0, 0], threading.Event()

    def keep_recording(index):
        while not stop.is_set():
            metrics.update_inference(0.001)
            done[index] += 1

    def record_and_end(count):
        for _ in range(count):
            metrics.update_inference(0.002)
        if end == "exits in order":
            metrics.close()

    with PerformanceMetrics(name=hub_name, max_workers=64) as metrics:
        threads = [threading.Thread(target=keep_recording, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        try:
            children = {forked(partial(record_and_end, 10 * count)): 10 * count for count in range(1, 31)}
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


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)], ids=["oldest first", "middle first", "youngest first"])
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


def forks_at_every_moment(kind, scene, hub_name):
    """Play a scene and fork at each of its moments. Parent and child return from the handler, and both go on."""
    before, write = scene

    def fork(world):
        world.child = os.fork()
        if world.child == 0:
            world.count_from(1000)

    def write_and_end_a_child_that_fails(world):
        try:
            write(world)
        except BaseException:
            if world.child == 0:
                traceback.print_exc()
                os._exit(1)
            raise

    def check(world):
        if world.child == 0:
            go_on_in_child(world)
        world.check_that_it_goes_on()
        if world.child is not None:
            wait_for([world.child])
            own = [1000.0, 1001.0, 1002.0]
            by_pid = {worker.pid: worker.window["inference_time"].tolist() for worker in world.workers()}
            assert by_pid == {os.getpid(): world.done, world.child: own}
            world.begun += own
            world.done += own
        world.check()
        assert world.held() == [world.writer.slot]

    at_every_moment(kind, (before, write_and_end_a_child_that_fails), fork, check, hub_name)


def go_on_in_child(world):
    """Record three times and end, without a way back into the test."""
    status = 1
    try:
        world.record(1)
        world.clock.ahead += 2 * RETRY_INTERVAL
        world.record(2)
        assert world.writer.slot is not None
        status = 0
    except BaseException:  # noqa: BLE001  whatever it is, it is printed and is this child's exit status
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "record that folds"])
def test_a_handler_that_forks_at_any_moment_disturbs_neither_side_and_the_write_counts_once(hub_name, scene, kind):
    """In the parent. A fork in the middle of a fold is not supported, and said to be."""
    forks_at_every_moment(kind, SCENES[scene], hub_name)
