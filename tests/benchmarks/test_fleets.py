"""Processes that do what they are asked while a block lasts."""

import atexit
import multiprocessing
import multiprocessing.util
import os
import signal

import psutil
import pytest

from shmetrics.benchmarks.fleets import STARTS, FleetError, fleet


def prepared(number, greeting):
    def fail():
        raise ValueError("no such thing")

    return {
        "greet": lambda name: f"{greeting}, {name}, from {number}",
        "pid": os.getpid,
        "fail": fail,
        "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    }


def refuse(_number):
    raise RuntimeError("there is nothing to begin with")


@pytest.mark.parametrize("start", STARTS)
def test_all_of_a_fleet_or_the_first_few_answer_and_they_are_gone_after_the_block(start):
    with fleet(3, start, prepared, "hello") as some:
        assert len(some) == 3
        assert some.ask("greet", "you") == [f"hello, you, from {number}" for number in range(3)]
        assert some.ask("greet", "you", of=1) == ["hello, you, from 0"]
        pids = some.ask("pid")
        assert len({*pids, os.getpid()}) == 4
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_two_fleets_work_at_the_same_time():
    with fleet(2, "fork", prepared, "a") as some, fleet(1, "fork", prepared, "b") as others:
        some.tell("greet", "x")
        others.tell("greet", "y")
        assert others.heard() == ["b, y, from 0"]
        assert some.heard() == ["a, x, from 0", "a, x, from 1"]


def test_what_fails_in_a_process_is_told_to_whoever_asked_and_the_process_goes_on():
    with fleet(1, "fork", prepared, "") as some:
        with pytest.raises(FleetError, match=r"process 0 of the fleet failed:\n(.|\n)*ValueError: no such thing"):
            some.ask("fail")
        assert some.ask("greet", "you") == [", you, from 0"]


def test_a_process_that_dies_or_cannot_begin_is_no_riddle():
    with fleet(1, "fork", prepared, "") as some:
        for question in ("die", "pid"):
            with pytest.raises(FleetError, match="process 0 of the fleet ended"):
                some.ask(question)
    with pytest.raises(FleetError, match="nothing to begin with"), fleet(2, "fork", refuse):
        pass


def test_a_fleet_does_not_hear_of_ctrl_c_and_whoever_has_it_does():
    with fleet(1, "fork", prepared, "") as some:
        some.ask("interrupt")
        assert some.ask("greet", "you") == [", you, from 0"]
    with pytest.raises(KeyboardInterrupt), fleet(1, "fork", prepared, ""):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_fleet_ends_when_whoever_has_it_is_killed():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with fleet(2, "fork", prepared, "") as some:
            os.write(writing, " ".join(map(str, some.ask("pid"))).encode())
            signal.pause()
    pids = [int(pid) for pid in os.read(reading, 1000).split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert len(pids) == 2
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)
    assert not alive, gone


def test_a_process_that_dies_is_noticed_while_others_wait_for_what_it_had():
    held = multiprocessing.get_context("fork").Lock()

    def locked(number):
        return {"lock": held.acquire, "die": lambda: os.kill(os.getpid(), signal.SIGKILL) if number else held.acquire()}

    with fleet(2, "fork", locked) as some:
        some.ask("lock", of=1)
        with pytest.raises(FleetError, match="process 1 of the fleet ended"):
            some.ask("die")


def test_what_a_process_would_do_at_its_exit_keeps_nobody_waiting(tmp_path):
    def leaving(_number):
        atexit.register((tmp_path / "left").touch)
        multiprocessing.util.Finalize(None, (tmp_path / "left").touch, exitpriority=1)
        return {"greet": lambda: "hello"}

    with fleet(1, "fork", leaving) as some:
        assert some.ask("greet") == ["hello"]
    assert not (tmp_path / "left").exists()
