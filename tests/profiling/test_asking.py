"""Asking live workers for a profile, and what is said of those that do not give one."""

import ctypes
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.process import start_ticks, stat_fields
from shmetrics.profiling import wire
from shmetrics.profiling.asking import Target, ask
from shmetrics.profiling.counts import Counts
from shmetrics.profiling.frames import Frame
from shmetrics.profiling.wire import Request
from tests.cli import until
from tests.profiling.listening import REQUEST, address, answers_itself, serve, workers


def test_a_worker_that_did_not_enable_it_is_not_asked_and_what_to_do_is_said(hub_name):
    with workers(hub_name, enabled=False) as found:
        (answer,) = ask(found, REQUEST)
    assert answer.parts == []
    assert f"worker 0 (pid {found[0].pid}) has not enabled profiling" in answer.problem
    assert "SHMETRICS_PROFILING=1" in answer.problem


def test_a_process_that_got_the_number_of_a_worker_is_not_asked(hub_name):
    with workers(hub_name) as (target,):
        (answer,) = ask([Target(target.slot, target.pid, target.start_ticks - 1, target.instance)], REQUEST)
    assert "has ended" in answer.problem


def test_of_a_worker_that_dies_there_is_what_it_said_until_then(hub_name):
    with workers(hub_name) as found:

        def kill(answers):
            if len(answers[0].parts) == 2:
                os.kill(found[0].pid, signal.SIGKILL)

        (answer,) = ask(found, Request(60.0, 100.0, False), progress=kill)
    assert f"{found[0]} has died after 2." in answer.problem
    assert answer.profile.samples > 0


def test_a_worker_that_stands_still_is_given_up(hub_name):
    with workers(hub_name) as found:
        os.kill(found[0].pid, signal.SIGSTOP)
        until(lambda: stat_fields(f"/proc/{found[0].pid}/stat")[0] == b"T")
        (answer,) = ask(found, REQUEST, patience=0.5)
    assert "does not answer: nothing for" in answer.problem
    assert "py-spy dump" in answer.problem


def test_a_worker_in_a_call_that_keeps_the_interpreter_s_lock_is_given_up(hub_name):
    def keep(metrics):
        metrics.claim()
        until(lambda: answers_itself(metrics))  # from now on no thread of it runs, so it has to have begun to listen
        ctypes.PyDLL(None).sleep(30)

    with workers(hub_name, function=keep) as found:
        (answer,) = ask(found, REQUEST, patience=0.5)
    # It may just have said that it begins.
    assert re.search("(does not answer|stopped answering): nothing for .* keeps the interpreter's lock", answer.problem)


def test_a_worker_that_stands_still_meanwhile_is_given_up_with_what_there_is(hub_name):
    with workers(hub_name) as found:

        def stop(answers):
            if len(answers[0].parts) == 1:
                os.kill(found[0].pid, signal.SIGSTOP)

        (answer,) = ask(found, Request(60.0, 100.0, False), progress=stop, patience=2.0)
    assert "stopped answering" in answer.problem
    assert answer.profile.samples > 0


def test_a_worker_that_does_not_come_to_an_end_is_given_up_with_what_there_is(hub_name):
    part = wire.encode_part(Counts([Frame("app:main")], {(0,): 1}, seconds=0.1), last=False)

    def go_on(server):
        with server.accept()[0] as connection, suppress(OSError):
            while True:
                connection.sendall(part)
                time.sleep(0.05)

    with PerformanceMetrics(name=hub_name) as metrics, socket.socket(socket.AF_UNIX) as server:
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        server.bind(address(target))
        server.listen()
        thread = threading.Thread(target=go_on, args=(server,))
        thread.start()
        (answer,) = ask([target], Request(0.1, 100.0, False), patience=0.5)
        thread.join()
    assert re.search(r"goes on after \d+ s of 0.1", answer.problem)
    assert answer.profile.samples > 0


def test_of_a_worker_in_another_network_namespace_it_is_said_that_it_is_there(hub_name):
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace")

    def apart(metrics):
        if ctypes.CDLL(None).unshare(0x40000000) != 0:  # CLONE_NEWNET
            os._exit(0)
        serve(metrics)

    with workers(hub_name, enabled=False, function=apart) as found:
        (answer,) = ask(found, REQUEST)
    assert "is in another network namespace, and cannot be asked from here" in answer.problem


def test_somebody_who_listens_in_the_place_of_a_worker_is_not_asked(hub_name):
    with workers(hub_name, enabled=False) as (target,), socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(address(target))
        impostor.listen()
        (answer,) = ask([target], REQUEST)
    assert f"process {os.getpid()} of user {os.geteuid()} listens in the place of {target}" in answer.problem
