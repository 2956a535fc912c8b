"""Who a process is."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from shmetrics import process
from shmetrics.layout import HEADER
from shmetrics.process import Fate, Identity, boot_id, current_identity, fate_of, start_ticks

RENAMED = """
import sys
print("started", flush=True)
sys.stdin.readline()
open("/proc/self/comm", "w").write(sys.argv[1])
print("renamed", flush=True)
sys.stdin.readline()
"""


def test_the_identity_is_that_of_this_very_process():
    assert current_identity("web") == Identity(os.getpid(), start_ticks(os.getpid()), "web")


@pytest.mark.parametrize("role", [None, ""])
def test_without_a_role_a_process_is_called_what_multiprocessing_calls_it(monkeypatch, role):
    monkeypatch.setattr(multiprocessing.current_process(), "name", "Worker-7")
    assert current_identity(role).role == "Worker-7"


def test_the_identity_of_a_forked_child_is_its_own():
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(current_identity()), name="Worker-8")
    child.start()
    identity = results.get()
    child.join()
    assert (identity.pid, identity.role) == (child.pid, "Worker-8")


def test_start_ticks_of_a_process_are_the_same_for_itself_and_for_others():
    assert start_ticks("self") == start_ticks(os.getpid()) > 0


@pytest.mark.parametrize("name", ["a) S 1 2 (b", "))))", "a b c", "(", " "])
def test_start_ticks_do_not_depend_on_what_a_process_is_called(name):
    """The name stands in parentheses before the number, and a process may call itself anything."""
    command = [sys.executable, "-c", RENAMED, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "started\n"
        before = start_ticks(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "renamed\n"
        assert start_ticks(child.pid) == before >= start_ticks("self")
        child.stdin.close()


def test_a_process_that_is_gone_has_no_start_ticks():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert start_ticks(child.pid) is None


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**62, 2**64 - 1])
def test_a_pid_that_no_process_can_have_has_no_start_ticks(pid):
    assert start_ticks(pid) is None


@pytest.mark.parametrize(
    ("end", "code"),
    [(lambda: os._exit(0), 0), (lambda: os._exit(77), 77), (lambda: os.kill(os.getpid(), signal.SIGKILL), -9)],
    ids=["status 0", "status 77", "SIGKILL"],
)
def test_how_a_process_ended_can_be_seen_until_its_parent_waits_for_it(end, code):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writing)
        os.read(reading, 1)
        end()
    ticks = start_ticks(pid)
    assert fate_of(pid, ticks) == Fate(is_running=True)
    os.kill(pid, signal.SIGSTOP)
    assert fate_of(pid, ticks) == Fate(is_running=True), "stopped is not ended"
    os.kill(pid, signal.SIGCONT)
    os.close(writing)
    os.close(reading)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert fate_of(pid, ticks) == Fate(is_running=False, exit_code=code)
    assert fate_of(pid, ticks + 1) == Fate(is_running=False), "another process has its pid"
    os.waitpid(pid, 0)
    assert fate_of(pid, ticks) == Fate(is_running=False)


def test_a_process_that_has_let_go_of_its_files_has_ended_whatever_the_kernel_still_does(monkeypatch):
    fields = [b"R", *[b"0"] * 5, b"4228172", *[b"0"] * 12, b"55", *[b"0"] * 29, b"9"]
    monkeypatch.setattr(process, "stat_fields", lambda _path: fields)
    assert fate_of(1, 55) == Fate(is_running=False, exit_code=-9)
    fields[6] = b"4194304"
    assert fate_of(1, 55) == Fate(is_running=True)


def test_the_boot_id_is_the_same_at_every_look_and_fits_the_header():
    assert boot_id() == boot_id() != ""
    assert len(boot_id()) <= HEADER.size_of("boot")
