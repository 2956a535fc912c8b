"""py-spy: what it writes, read; and the real one, on real workers."""

import os
import re
import signal
import sys
import tempfile
import time

import psutil
import pytest

from shmetrics import PerformanceProfiler
from shmetrics.process import start_ticks
from shmetrics.profiling import merged, py_spy
from shmetrics.profiling.asking import Target, ask
from shmetrics.profiling.frames import Frame
from shmetrics.profiling.wire import Request
from tests.processes import forked, wait_until
from tests.profiling.listening import workers
from tests.profiling.spies import spy
from tests.profiling.workloads import assert_split, shared_account, work


def test_what_it_writes_is_read():
    raw = (
        "<module> (/srv/serve.py:1);Model.predict (/srv/app/model.py:4);solve (/v/site-packages/np/x.py:9) 65\n"
        "<module> (/srv/serve.py:1);Model.predict (/srv/app/model.py:4) 3\n"
        "process 7:worker;<lambda> (<string>) 1\n"
    )
    predict = (Frame("serve:<module>"), Frame("app.model:Model.predict"))
    assert py_spy.parse(raw, ["/srv"]) == {
        (*predict, Frame("np.x:solve", "np")): 65,
        predict: 3,
        (Frame("?:process 7:worker"), Frame("<string>:<lambda>")): 1,
    }


def test_functions_at_several_lines_are_one():
    raw = "run (/srv/app.py:1) 2\nrun (/srv/app.py:9) 3\n"
    assert py_spy.parse(raw, ["/srv"]) == {(Frame("app:run"),): 5}


def test_the_thread_that_waits_to_be_asked_is_left_out():
    thread = "_serve (/usr/lib/python3/dist-packages/shmetrics/profiling/listener.py"
    raw = f"Listener.{thread}:9);accept (/usr/lib/python3.11/socket.py:3) 7\n{thread}) 7\nrun (a.py:1) 1\n"
    assert list(py_spy.parse(raw).values()) == [1]


def test_a_stack_of_nothing_is_left_out():
    """Of a worker that is about to end, and between greenlets, it writes samples without a stack."""
    assert list(py_spy.parse(" 5\nrun (a.py:1) 2\n 1\n").values()) == [2]


def test_threads_that_sample_are_left_out():
    begin = "_bootstrap (/usr/lib/python3.11/threading.py:3);Watch._run (/srv/shmetrics/profiling/statistical.py:1)"
    sampler = "run (/srv/shmetrics/profiling/sampler.py:7)"
    raw = f"{begin};Sampler.{sampler};wait (/srv/x.py:1) 7\n{begin};{sampler} 7\n{begin} 1\nrun (/srv/sampler.py:1) 1\n"
    assert sum(py_spy.parse(raw).values()) == 2


def test_what_is_of_this_package_is_one_frame_wherever_it_was_installed_from(hub_name):
    def profiled(metrics):
        call = PerformanceProfiler(metrics).profile_function(work, breakdown="sampling")
        metrics.claim()
        while True:
            call()

    program = spy()
    with workers(hub_name, function=profiled) as found:
        (answer,) = py_spy.record(program, found, Request(1.0, 100.0, False))
    frames = {frame for stack in answer.profile.stacks for frame in stack}
    assert "shmetrics" in frames
    assert not any(frame.startswith(("functions:", "statistical:", "sampler:")) for frame in frames)


@pytest.mark.parametrize("raw", ["nonsense\n", "run (a.py:1)\n", "run (a.py:1) -3\n", "12\n", "run (a.py:1) \u0663\n"])
def test_what_it_would_not_write_is_refused(raw):
    with pytest.raises(ValueError, match="line 1 of what py-spy wrote"):
        py_spy.parse(raw)


def test_the_real_one_finds_a_known_split_without_leave_of_the_workers(hub_name):
    program = spy()
    accounts = [shared_account() for _ in range(4)]
    with workers(hub_name, 4, enabled=False, accounts=accounts) as found:
        answers = py_spy.record(program, found, Request(10.0, 100.0, False))
    assert [answer.problem for answer in answers] == [""] * 4
    assert_split(merged(answer.profile for answer in answers), accounts)


def test_the_real_one_and_the_sampler_find_the_same_stacks(hub_name):
    program = spy()
    with workers(hub_name, 2) as found:
        outside = merged(answer.profile for answer in py_spy.record(program, found, Request(5.0, 100.0, False)))
        inside = merged(answer.profile for answer in ask(found, Request(5.0, 100.0, False)))
    assert {stack[-4:] for stack, n in inside.stacks.items() if n > 20} <= {stack[-4:] for stack in outside.stacks}


def test_of_a_worker_that_dies_there_is_what_the_real_one_found(hub_name):
    program = spy()
    with workers(hub_name) as found:

        def kill(answers):
            if answers[0].passed > 2:
                os.kill(found[0].pid, signal.SIGKILL)

        (answer,) = py_spy.record(program, found, Request(60.0, 100.0, False), progress=kill)
    assert "has died after" in answer.problem
    assert answer.profile.samples > 0


@pytest.mark.parametrize("holds", [False, True], ids=["sleeps", "holds it in its exit"])
def test_a_program_that_does_not_notice_that_a_worker_has_died_is_ended(hub_name, tmp_path, holds):
    """py-spy 0.4.3 held 7 of 500 that were killed while it looked at them, until it ended by itself."""
    spy()  # whether it may be traced
    program = tmp_path / "py-spy"
    program.write_text(
        f"#!{sys.executable}\n"
        "import ctypes, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "SEIZE, TRACE_EXIT = 0x4206, 0x40\n"
        "pid = int(sys.argv[sys.argv.index('--pid') + 1])\n"
        f"if {holds}: assert ctypes.CDLL(None).ptrace(SEIZE, pid, None, ctypes.c_void_p(TRACE_EXIT)) == 0\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: pass\n"
        "open(sys.argv[sys.argv.index('--output') + 1], 'w').write('main (app.py:3) 7\\n')\n"
    )
    program.chmod(0o700)
    with workers(hub_name) as found:

        def kill(answers):
            if answers[0].passed > 0.5:
                os.kill(found[0].pid, signal.SIGKILL)

        (answer,) = py_spy.record(str(program), found, Request(60.0, 100.0, False), progress=kill)
    assert re.search(r"has died after [01]\.\d s of 60", answer.problem)
    assert answer.passed < 2
    assert answer.profile.samples == 7


@pytest.mark.parametrize("rate", [100.0, 1000.0])
def test_of_a_worker_that_ends_in_order_there_is_what_the_real_one_found(hub_name, rate):
    def end_after_a_second(metrics):
        metrics.claim()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            work()

    program = spy()
    with workers(hub_name, function=end_after_a_second) as found:
        (answer,) = py_spy.record(program, found, Request(10.0, rate, False))
    assert re.search(r"has died after \d\.\d s of 10", answer.problem)
    assert answer.profile.samples > 0


def test_of_a_worker_that_dies_at_once_it_is_said_that_it_has_died(hub_name):
    program = spy()
    with workers(hub_name) as found:

        def kill(answers):
            os.kill(found[0].pid, signal.SIGKILL)

        (answer,) = py_spy.record(program, found, Request(10.0, 100.0, False), progress=kill)
    assert re.search(r"has died after 0\.\d s of 10", answer.problem)


def test_a_profile_that_is_killed_takes_its_py_spies_with_it_and_leaves_no_file(hub_name):
    program = spy()
    with workers(hub_name) as found:
        before = set(os.listdir(tempfile.gettempdir()))
        reading, writing = os.pipe()

        def look():
            py_spy.record(
                program,
                found,
                Request(60.0, 100.0, False),
                progress=lambda _: os.write(writing, b"."),
            )

        asker = forked(look)
        os.read(reading, 1)
        (child,) = psutil.Process(asker).children()
        os.kill(asker, signal.SIGKILL)
        os.waitpid(asker, 0)
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert not [file for file in set(os.listdir(tempfile.gettempdir())) - before if file.startswith("shmetrics-")]
        os.close(reading)
        os.close(writing)


def test_a_process_that_is_none_of_python_is_said_to_be_so():
    program = spy()
    init = Target(0, 1, start_ticks(1), 0)
    (answer,) = py_spy.record(program, [init], Request(1.0, 100.0, False))
    assert answer.problem.startswith("py-spy cannot look at worker 0 (pid 1): Error")


def test_a_process_that_is_gone_is_not_looked_at():
    (answer,) = py_spy.record("/nowhere", [Target(0, os.getpid(), 1, 0)], Request(1.0, 100.0, False))
    assert "has ended" in answer.problem


def test_a_program_that_cannot_be_started_is_said_to_be_so(hub_name):
    with workers(hub_name) as found:
        (answer,) = py_spy.record("/nowhere", found, Request(1.0, 100.0, False))
    assert answer.problem == "py-spy cannot be started (/nowhere): No such file or directory"
