"""The listener of a worker: who may ask, when, and what it costs the worker. Real processes, real sockets."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import psutil
import pytest

from shmetrics import Hub, PerformanceMetrics
from shmetrics.process import start_ticks
from shmetrics.profiling.asking import Target, ask
from shmetrics.profiling.wire import Request
from tests.cli import until
from tests.processes import forked
from tests.profiling.listening import REQUEST, address, asked, connected, listens, profile_of, samples_now, workers
from tests.profiling.workloads import assert_split, shared_account


def test_a_worker_that_enabled_it_samples_itself_and_says_what_it_found(hub_name):
    with workers(hub_name) as found:
        (answer,) = ask(found, Request(3.0, 200.0, False))
    assert answer.problem == ""
    assert 0.0 < answer.passed <= 3.3  # less where looks are dear, and the next is put off past the end
    assert len(answer.parts) >= 2
    assert any(name.endswith("workloads:features") for name in answer.profile.total())


def test_a_known_split_is_found_in_one_worker(hub_name):
    accounts = [shared_account()]
    with workers(hub_name, accounts=accounts) as found:
        profile = profile_of(found, 12.0)
    assert_split(profile, accounts)


def test_a_known_split_is_found_over_four_workers(hub_name):
    accounts = [shared_account() for _ in range(4)]
    with workers(hub_name, 4, accounts=accounts) as found:
        profile = profile_of(found, 8.0)
    assert_split(profile, accounts)


def test_the_one_that_was_not_forked_listens_from_its_first_record_on(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.enable_profiling()
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        assert not listens(target)
        metrics.update_inference(0.01)
        until(lambda: listens(target))
    until(lambda: not listens(target))


def test_one_that_closes_at_once_does_not_listen_later(hub_name):
    def threads():
        return set(os.listdir("/proc/self/task"))

    for _ in range(20):
        before = threads()
        with PerformanceMetrics(name=hub_name) as metrics:
            metrics.enable_profiling()
            metrics.claim()
            target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        until(lambda before=before: threads() <= before)  # its own may only now begin, and be about to listen
        assert not listens(target)


def test_it_is_enabled_at_any_time_and_as_often_as_one_likes(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.claim()
        metrics.enable_profiling()
        metrics.enable_profiling()
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        until(lambda: listens(target))


def test_it_waits_for_an_earlier_one_of_the_process_that_has_not_let_go_yet(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics, socket.socket(socket.AF_UNIX) as earlier:
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        earlier.bind(address(target))
        metrics.enable_profiling()
        metrics.claim()
        tries = metrics._attachment._listener._sockets
        until(lambda: tries)
        earlier.close()
        until(lambda: listens(target))


@pytest.mark.parametrize(("setting", "enabled"), [("1", True), ("0", False), (None, False)])
def test_the_environment_enables_it(hub_name, monkeypatch, setting, enabled):
    if setting is not None:
        monkeypatch.setenv("SHMETRICS_PROFILING", setting)
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.claim()
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        if enabled:
            until(lambda: listens(target))
        else:
            assert metrics._attachment._listener is None


def test_a_worker_is_profiled_by_one_at_a_time(hub_name):
    with workers(hub_name) as found:
        with closing(samples_now(found[0])):
            (answer,) = ask(found, REQUEST)
        assert "is being profiled by somebody else" in answer.problem
        until(lambda: not ask(found, REQUEST)[0].problem)


@contextmanager
def in_two_hubs(name):
    """This process, as a worker of two hubs that listens for both."""
    with PerformanceMetrics(name=name) as one, PerformanceMetrics() as other:
        found = []
        for metrics in (one, other):
            metrics.claim()
            metrics.enable_profiling()
            found.append(Target(0, os.getpid(), start_ticks("self"), metrics.instance))
        until(lambda: all(listens(target) for target in found))
        yield found


def test_two_hubs_of_one_process_have_one_sampler(hub_name):
    with in_two_hubs(hub_name) as found:
        with closing(samples_now(found[0])):
            (answer,) = ask(found[1:], REQUEST)
        assert "is being profiled by somebody else" in answer.problem


def test_the_listener_of_another_hub_waits_and_is_no_work(hub_name):
    with in_two_hubs(hub_name) as found:
        (answer,) = ask(found[:1], Request(0.5, 100.0, False), expanded=["all"])
    assert not any("profiling.listener" in frame for stack in answer.profile.stacks for frame in stack)


def test_a_worker_stops_when_whoever_asked_goes_away(hub_name):
    with workers(hub_name) as found:
        samples_now(found[0]).close()
        until(lambda: not ask(found, REQUEST)[0].problem)


def test_a_worker_whose_threads_are_greenlets_does_not_listen(hub_name):
    code = (
        "from gevent import monkey\nmonkey.patch_all()\n"
        "import threading, shmetrics\n"
        f"with shmetrics.PerformanceMetrics(name={hub_name!r}) as metrics:\n"
        "    metrics.update_inference(0.1)\n"
        "    listener = metrics._attachment._listener\n"
        "    assert listener is not None and listener._turn is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SHMETRICS_PROFILING": "1"})


def test_a_worker_that_is_out_of_descriptors_answers_when_it_has_some_again(hub_name):
    def without_descriptors(metrics):
        metrics.claim()
        until(lambda: metrics._attachment._listener._sockets)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
        while True:
            signal.pause()

    with workers(hub_name, function=without_descriptors) as found:
        until(lambda: "does not answer" in ask(found, Request(0.1, 100.0, True), patience=0.2)[0].problem)
        os.kill(found[0].pid, signal.SIGUSR1)
        until(lambda: ask(found, Request(0.1, 100.0, True))[0].problem == "")


def test_a_worker_without_descriptors_for_another_goes_on_with_the_first(hub_name):
    def on_demand(metrics):
        metrics.claim()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NOFILE, (3, most)))
        while True:
            signal.pause()

    with workers(hub_name, function=on_demand) as found:

        def ask_as_well(answers):
            if len(answers[0].parts) == 1 and not others:
                os.kill(found[0].pid, signal.SIGUSR1)
                until(lambda: resource.prlimit(found[0].pid, resource.RLIMIT_NOFILE)[0] == 3)
                others.append(connected(found[0]))

        others = []
        (answer,) = ask(found, Request(3.0, 100.0, True), progress=ask_as_well)
        others[0].close()
    assert answer.problem == ""


def test_it_listens_again_when_it_was_stopped_a_moment_ago(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.claim()
        metrics.enable_profiling()
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        listener = metrics._attachment._listener
        for _ in range(20):
            listener.stop()
            listener.start()
        until(lambda: listens(target))
        assert listener._turn is not None


def test_one_that_finds_a_slot_only_when_it_is_closed_listens_no_more(hub_name):
    def take_the_only_slot():
        metrics.claim()
        os.write(writing, b".")
        signal.pause()

    reading, writing = os.pipe()
    with PerformanceMetrics(name=hub_name, max_workers=1) as metrics:
        other = forked(take_the_only_slot)
        os.read(reading, 1)
        metrics.enable_profiling()
        metrics.update_inference(0.1)
        writer, listener = metrics._attachment.writer, metrics._attachment._listener
        assert writer.slot is None
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    with Hub.attach(hub_name) as hub:
        assert hub.statistics()["total_requests"] == 1  # so it found one
    assert listener._turn is None
    os.close(reading)
    os.close(writing)


def test_other_users_are_refused(hub_name):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with workers(hub_name) as found:
        reading, writing = os.pipe()

        def as_nobody():
            os.setuid(65534)
            with connected(found[0]) as connection:
                os.write(writing, json.dumps(asked(connection)).encode())

        assert os.waitstatus_to_exitcode(os.waitpid(forked(as_nobody), 0)[1]) == 0
        assert json.loads(os.read(reading, 1000)) == {"refused": "stranger"}
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"{}\n",
        b"x" * 5000,
        b'{"shmetrics":2,"seconds":1,"rate":100,"idle":false}\n',
        b'{"shmetrics":1,"seconds":1e9,"rate":100,"idle":false}\n',
        b'{"shmetrics":1,"seconds":1,"rate":NaN,"idle":false}\n',
        b'{"shmetrics":1,"seconds":1,"rate":100,"idle":0}\n',
    ],
)
def test_what_makes_no_sense_is_refused_and_the_next_is_served(hub_name, line):
    with workers(hub_name) as found:
        with connected(found[0]) as connection:
            connection.sendall(line)
            assert json.loads(connection.makefile().readline()) == {"refused": "unclear"}
        assert ask(found, Request(0.1, 100.0, False))[0].problem == ""


def test_a_worker_that_has_forked_answers_the_next_that_asks(hub_name):
    """A fork ends what is being accepted just then, and nothing that is accepted later."""
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.enable_profiling()
        metrics.claim()
        target = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        until(lambda: listens(target))
        for _ in range(5):
            os.waitpid(forked(lambda: None), 0)
            assert ask([target], Request(0.1, 100.0, False))[0].problem == ""


def test_a_child_that_a_worker_forks_does_not_keep_its_place(hub_name):
    """The parent's socket is closed in it, so that the parent's end is seen as one."""

    def parent(metrics):
        metrics.claim()
        until(lambda: len(metrics._attachment._listener._sockets) > 0)
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        time.sleep(20)

    with workers(hub_name, function=parent) as found:
        target = found[0]
        until(psutil.Process(target.pid).children)
        connection = samples_now(target)
        os.kill(target.pid, signal.SIGKILL)
        connection.settimeout(5)
        while connection.recv(1 << 16):  # until the end, which the child does not put off
            pass
        connection.close()
        until(lambda: not listens(target))


def test_the_listener_is_no_part_of_what_it_finds(hub_name):
    with workers(hub_name) as found:
        (answer,) = ask(found, Request(0.5, 100.0, True), expanded=["all"])
    assert not any("profiling.listener" in frame for stack in answer.profile.stacks for frame in stack)


def test_a_process_that_does_not_want_it_loads_nothing_of_it(hub_name):
    code = (
        f"import sys, shmetrics\nshmetrics.PerformanceMetrics(name={hub_name!r}).update_inference(0.1)\n"
        "assert not [name for name in sys.modules if name.startswith('shmetrics.profiling')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
