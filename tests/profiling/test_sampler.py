"""The sampler: what it finds, what it leaves out, and what it may cost. In this process, with real threads."""

import os
import select
import socket
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from shmetrics.profiling.sampler import SHARE, Sampler, _looking
from shmetrics.profiling.sampling import Sampling
from tests.processes import in_forked_child, wait_until
from tests.profiling.workloads import assert_split, work

ENOUGH = 1200
"""Samples for a share of 60 % to be within 5 points, three and a half standard deviations."""


class Looks:
    """A wait for so many looks that takes no time; `clock` and `spent` are under its control."""

    def __init__(self, looks, cost=0.0):
        self.left, self.cost = looks, cost
        self.now = self.used = 0.0

    def clock(self):
        return self.now

    def spent(self):
        return self.used

    def wait(self, seconds):
        self.now += seconds + 1e-9  # or it may be a little less than it should: sums of floats are
        self.used += self.cost
        self.left -= 1
        return self.left < 0


def sampled(looks, rate=100, **options):
    sampler = Sampler(rate, clock=looks.clock, spent=looks.spent, **options)
    thread = threading.Thread(target=sampler.run, args=(looks.wait,))
    thread.start()
    thread.join()
    return sampler.taken()


def stacks(counts):
    return counts.profile(0.01).stacks


@contextmanager
def waiting(function, *args):
    """The ident of a thread that is in `function(*args)`, which returns when the block ends."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    yield thread.ident
    thread.join()


def spin(enough):
    while not enough:
        pass


def until_set(event):
    """In a function that is not known to wait."""
    while not event.is_set():
        time.sleep(0.001)


def test_a_known_split_is_found_in_one_process():
    account = [0.0, 0.0, 0.0]
    with Sampling(400, share=0.2) as sampling:
        until = time.thread_time() + ENOUGH / 400
        while time.thread_time() < until:
            work(account=account)
    assert_split(sampling.profile(), [account])


def test_every_thread_is_looked_at_but_for_the_one_that_looks():
    enough = threading.Event()

    def here():
        enough.wait()

    def there():
        enough.wait()

    with waiting(here), waiting(there):
        counts = sampled(Looks(10), idle=True)
        enough.set()
    assert counts.seconds == pytest.approx(0.1)
    # Threads of the test runner, and some that other tests have left, may come and go meanwhile.
    samples = counts.profile(0.01, expanded=["shmetrics"]).total()
    called = {name.rpartition(":")[2].rpartition(".")[2]: found for name, found in samples.items()}
    assert (called["here"], called["there"], called["sampled"]) == (10, 10, 10)
    assert "_look" not in called
    assert "run" not in called


def nobody_looks():
    assert not _looking


def test_a_sampler_does_not_count_another():
    with Sampling():
        wait_until(lambda: _looking)
        counts = sampled(Looks(10), idle=True, only=list(_looking))
        in_forked_child(nobody_looks)  # where another thread may have its number
    assert not stacks(counts)
    assert not _looking


def test_a_thread_that_computes_runs_and_one_that_waits_is_idle():
    enough, signal = [], threading.Event()
    with waiting(spin, enough) as runs, waiting(signal.wait) as waits:
        with Sampling(only=[runs, waits]) as sampling:
            until = time.process_time() + 0.4  # on a busy machine it takes longer until it has run for so long
            wait_until(lambda: time.process_time() > until)
        enough.append(True)
        signal.set()
    profile = sampling.profile()
    assert {stack[-1] for stack in profile.stacks} == {f"{__name__}:spin"}
    assert profile.samples > 10
    assert profile.idle > 10


@pytest.mark.parametrize("kind", ["select", "poll", "epoll", "lock", "accept", "recv", "sleep", "read"])
def test_whatever_code_waits_in_it_is_idle(kind):
    here, there = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    lock = threading.Lock()
    lock.acquire()
    poll, epoll = select.poll(), select.epoll()
    poll.register(here, select.POLLIN)
    epoll.register(here, select.EPOLLIN)
    reading, writing = os.pipe()
    enough = threading.Event()

    def accept():
        server.accept()[0].close()

    def sleep():
        while not enough.is_set():
            time.sleep(0.2)

    waits = {
        "select": lambda: select.select([here], [], []),
        "poll": poll.poll,
        "epoll": epoll.poll,
        "lock": lock.acquire,
        "accept": accept,
        "recv": lambda: here.recv(1),
        "sleep": sleep,
        "read": lambda: os.read(reading, 1),
    }
    with closing(here), closing(there), closing(server), closing(epoll), waiting(waits[kind]) as ident:
        counts = sampled(Looks(20), only=[ident])
        there.send(b"x")
        os.write(writing, b"x")
        lock.release()
        enough.set()
        socket.create_connection(server.getsockname()).close()
    os.close(reading)
    os.close(writing)
    assert counts.idle + sum(counts.stacks.values()) == 20
    assert counts.idle > 15  # the first look has nothing to compare with, and it may just begin to wait


def test_threads_that_wait_count_as_well_where_that_is_asked_for():
    enough = threading.Event()
    with waiting(enough.wait) as ident:
        counts = sampled(Looks(10), idle=True, only=[ident])
        enough.set()
    assert (sum(counts.stacks.values()), counts.idle) == (10, 0)
    assert [stack[-1] for stack in stacks(counts)] == ["threading"]


def test_a_look_that_comes_late_counts_for_those_that_were_due():
    looks = Looks(3)
    on_time = looks.wait

    def wait(seconds):
        looks.now += 0.05 if looks.left == 2 else 0.0
        return on_time(seconds)

    looks.wait = wait
    counts = sampled(looks, idle=True, only=[threading.get_ident()])
    assert sum(counts.stacks.values()) == 7
    assert counts.seconds == pytest.approx(0.07)
    assert counts.skipped == 0


def test_each_look_comes_at_random_within_its_interval_so_that_work_of_a_steady_beat_is_found_everywhere():
    looks = Looks(300)
    on_time, times = looks.wait, []

    def wait(seconds):
        enough = on_time(seconds)
        times.append(100 * looks.now)
        return enough

    looks.wait = wait
    sampled(looks, only=[])
    assert [int(time) for time in times[:300]] == list(range(300))
    parts = [time % 1 for time in times]
    assert min(parts) < 0.1
    assert max(parts) > 0.9
    assert sum(parts) / len(parts) == pytest.approx(0.5, abs=0.1)


def test_a_sampler_that_costs_more_than_its_share_looks_less_often_and_says_so():
    looks = Looks(200, cost=0.001)  # ten times what a look of a hundred a second may cost at 1 %
    counts = sampled(looks, share=0.01, idle=True, only=[threading.get_ident()])
    assert counts.cost == pytest.approx(0.2)
    assert counts.cost / looks.now < 0.011
    assert counts.skipped > 1500
    assert sum(counts.stacks.values()) == pytest.approx(100 * counts.seconds)  # each counts for those left out


def test_the_switch_interval_is_as_it_was_afterwards_and_in_a_child():
    before = sys.getswitchinterval()
    with Sampling(), Sampling():
        wait_until(lambda: sys.getswitchinterval() < before)

        def check():
            assert sys.getswitchinterval() == before

        in_forked_child(check)
    assert sys.getswitchinterval() == before


def test_a_forked_child_can_be_sampled_while_its_parent_is():
    def check():
        with Sampling(only=[threading.get_ident()]) as sampling:
            until = time.thread_time() + 0.3
            while time.thread_time() < until:
                work()
        assert sampling.profile().samples > 5

    with Sampling():
        in_forked_child(check)


def test_a_child_that_is_forked_in_the_block_leaves_it_with_what_there_was():
    with Sampling() as sampling:
        pid = os.fork()
        if pid == 0:
            sampling.__exit__(None, None, None)
            os._exit(0 if sampling.profile().seconds < 60 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def deep(levels, then):
    return deep(levels - 1, then) if levels else then()


def test_of_a_stack_too_deep_the_innermost_frames_are_kept():
    counts = deep(400, lambda: sampled(Looks(1), idle=True, only=[threading.get_ident()]))
    (stack,) = counts.profile(0.01, expanded=["threading"]).stacks
    assert len(stack) == 251
    assert stack[0] == "(deeper)"
    assert stack[1] == f"{__name__}:deep"


def test_stacks_past_what_is_told_apart_count_as_one(monkeypatch):
    monkeypatch.setattr("shmetrics.profiling.sampler._MOST_STACKS", 0)
    counts = sampled(Looks(5), idle=True, only=[threading.get_ident()])
    assert stacks(counts) == {("(other)",): 5}


def test_what_was_taken_does_not_come_again():
    sampler = Sampler(1000)
    looks = Looks(4)
    taken = []

    def wait(seconds):
        if looks.left == 2:
            taken.append(sampler.taken())
        return looks.wait(seconds)

    sampler._clock = looks.clock
    thread = threading.Thread(target=sampler.run, args=(wait,))
    thread.start()
    thread.join()
    assert taken[0].seconds == pytest.approx(0.002)
    assert sampler.taken().seconds == pytest.approx(0.002)


def test_of_threads_that_come_and_go_without_end_nothing_is_kept():
    looks = Looks(150)
    on_time = looks.wait
    sampler = Sampler(100, idle=True, clock=looks.clock, spent=looks.spent)
    threads = []

    def wait(seconds):
        if threads:
            enough, thread = threads.pop()
            enough.set()
            thread.join()
        enough = threading.Event()
        threads.append((enough, threading.Thread(target=lambda: until_set(enough))))
        threads[0][1].start()
        return on_time(seconds)

    thread = threading.Thread(target=sampler.run, args=(wait,))
    thread.start()
    thread.join()
    for enough, last in threads:
        enough.set()
        last.join()
    assert len(sampler._processor) < 40


@pytest.mark.parametrize("rate", [0, 0.5, 1001, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(ValueError, match="rate must be 1 to 1000"):
        Sampler(rate)


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(ValueError, match="share must be above 0"):
        Sampler(share=share)


def test_the_real_cost_is_measured():
    with Sampling() as sampling:
        until = time.thread_time() + 0.5
        while time.thread_time() < until:
            work()
    profile = sampling.profile()
    assert 0 < profile.cost < SHARE * profile.seconds + 0.1
