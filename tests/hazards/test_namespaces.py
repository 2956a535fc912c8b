"""Workers in another pid namespace, as in a container that shares /dev/shm: alive, dead and counted like any other."""

import os
import signal
import subprocess
import sys

import pytest

from shmetrics import PerformanceMetrics, segment, slots
from shmetrics.hub import View
from tests.cli import until
from tests.hazards.unshared import why_not

RECORDS = 300


def work(name):
    """In the namespace: record, say so, and wait to be killed."""
    metrics = PerformanceMetrics(name=name, max_workers=4, max_series=16)
    for _ in range(RECORDS):
        metrics.update_inference(0.01)
    print(os.getpid(), flush=True)
    sys.stdin.read()


NAMESPACES = {"its own pids": ["--pid", "--fork"], "its own pids and /proc": ["--pid", "--fork", "--mount-proc"]}


@pytest.mark.parametrize("options", NAMESPACES.values(), ids=NAMESPACES)
def test_a_worker_in_another_pid_namespace_lives_dies_and_is_counted_like_any_other(make_segment, options):
    if reason := why_not(*options):
        pytest.skip(reason)
    target = make_segment()
    command = [sys.executable, "-c", f"from {__name__} import work; work({target.name!r})"]
    with subprocess.Popen(
        ["unshare", *options, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as unshare:
        assert int(unshare.stdout.readline()) == 1, "the worker is the first process of its namespace"
        (worker,) = View(target).snapshot().workers
        assert (worker.pid, worker.alive, worker.counters.requests) == (1, True, RECORDS)
        assert slots.reap(target) == 0
        (row,) = View(target).comprehensive()["workers"]
        assert (row["cpu_percent"], row["rss_bytes"]) == (None, None), "those of our own process 1"
        os.kill(child_of(unshare.pid), signal.SIGKILL)
        until(lambda: not View(target).snapshot().workers[0].alive)
        assert slots.reap(target) == 1
    fleet = View(target).snapshot()
    assert (fleet.counters.requests, int(fleet.folded.valid), fleet.workers_seen) == (RECORDS, RECORDS, 1)


def child_of(pid):
    """The only child of a process, as this namespace numbers it."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        (child,) = file.read().split()
    return int(child)


def test_a_worker_out_here_is_alive_to_a_reader_in_another_pid_namespace(make_segment):
    if reason := why_not("--pid", "--fork"):
        pytest.skip(reason)
    target = make_segment()
    with PerformanceMetrics(name=target.name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.01)
        code = f"from {__name__} import look; look({target.name!r})"
        answer = subprocess.run(
            ["unshare", "--pid", "--fork", sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
        assert answer.stdout.split() == ["True", "0"], answer.stderr


def look(name):
    """In the namespace: whether the worker lives, and how many were reaped as dead."""
    target = segment.attach(name, writable=True)
    print(View(target).snapshot().workers[0].alive, slots.reap(target))
