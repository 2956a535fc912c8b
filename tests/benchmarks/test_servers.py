"""Servers of benchmarks: what a load of them found, and when it says nothing."""

import os
import random
import signal
import threading

import psutil
import pytest

from shmetrics.benchmarks.servers import lacking, load_in_turns, serving

pytestmark = pytest.mark.skipif(bool(lacking("gunicorn")), reason="gunicorn and wrk are needed")


def test_a_load_finds_what_was_answered_and_what_it_took_the_server():
    with serving("gunicorn", "") as server:
        load = server.load(1)
    assert load.rate > 10.0
    assert 0.0 < load.cpu < 1.0
    assert load.p99 > 0.0


def test_servers_have_a_processor_in_turns_and_each_tells_its_own():
    with serving("gunicorn", "") as one, serving("gunicorn", "") as other:
        loads = load_in_turns([one, other], 4, random.Random(1))
        processors = {tuple(psutil.Process(pid).cpu_affinity()) for server in (one, other) for pid in server.cpu()}
    assert len(processors) == 1
    assert len(processors.pop()) == 1
    assert all(load.rate > 10.0 and 0.0 < load.cpu < 1.0 and load.p99 is None for load in loads)
    assert all(load.rate * load.cpu < 1.5 for load in loads)  # seconds of a processor in a second of its turns


def test_a_load_in_which_a_worker_is_killed_and_replaced_counts_for_nothing():
    def kill_worker(of):
        (worker,) = psutil.Process(of).children()
        os.kill(worker.pid, signal.SIGKILL)

    with serving("gunicorn", "") as server:
        killer = threading.Timer(0.3, kill_worker, [server._process.pid])
        killer.start()
        with pytest.raises(RuntimeError, match=r"wrk could not load|a process of the server .* ended or was started"):
            server.load(1)
        killer.join()
