"""Workers that listen for whoever asks for a profile, and asking them by hand."""

import json
import os
import signal
import socket
from contextlib import contextmanager, suppress

from shmetrics import Hub, PerformanceMetrics
from shmetrics.process import start_ticks
from shmetrics.profiling import merged, wire
from shmetrics.profiling.asking import ask, targets
from shmetrics.profiling.wire import Request
from tests.cli import until
from tests.processes import forked
from tests.profiling.workloads import work

REQUEST = Request(1.0, 100.0, False)


def serve(metrics, account=None):
    """A worker: it takes its slot, and works until it is killed."""
    metrics.claim()
    while True:
        work(account=account)


@contextmanager
def workers(name, count=1, enabled=True, function=serve, accounts=None):
    """The targets of so many workers of a hub, forked from a process that made it; they are killed afterwards.

    ``accounts``: one for each, of those that `serve`.
    """
    arguments = [()] * count if accounts is None else [(account,) for account in accounts]
    with PerformanceMetrics(name=name) as metrics:
        if enabled:
            metrics.enable_profiling()
        pids = [forked(lambda more=more: function(metrics, *more)) for more in arguments]
        try:
            with Hub.attach(name) as hub:
                until(lambda: sum(worker.alive for worker in hub.snapshot().workers) == count)
                found = targets(hub.snapshot(), metrics.instance)
            if enabled:
                until(lambda: all(listens(target) for target in found))
            yield found
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def address(target):
    return wire.address(target.instance, target.pid, target.start_ticks)


def listens(target):
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(address(target)) == 0


def answers_itself(metrics):
    """Whether this process listens, asked by itself."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(wire.address(metrics.instance, os.getpid(), start_ticks("self"))) == 0


def connected(target):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address(target))  # which waits while too many ask; one with a timeout would not
    connection.settimeout(20)
    return connection


def asked(connection, request=REQUEST):
    with suppress(BrokenPipeError):  # it was refused at once
        connection.sendall(wire.encode_request(request))
    return json.loads(connection.makefile().readline())


def profile_of(found, seconds):
    """Of all workers, from 1,000 looks on: one whose looks are dear, as on a machine without time, looks less often
    than it is asked to, and each look counts for more; by few of them no share is known to within points.
    """
    profiles = []
    while sum(profile.samples - profile.skipped for profile in profiles) < 1_000:
        answers = ask(found, Request(seconds, 100.0, False))
        assert [answer.problem for answer in answers] == [""] * len(found)
        profiles += [answer.profile for answer in answers]
    return merged(profiles)


def samples_now(target, seconds=30.0):
    """A conversation in which the worker has begun to sample."""
    connection = connected(target)
    assert asked(connection, Request(seconds, 100.0, False)) == {"accepted": True}
    return connection
