"""The hooks around unchanged applications: every kind of worker, every way in, under load, through all that happens.

What the clients got is what the hub counted. Only where a worker is killed in the middle of its work may it have
counted requests whose answers it did not send any more.
"""

import os
import signal
from contextlib import contextmanager, suppress

import pytest

from shmetrics.demo.load import Load
from tests import cli
from tests.cli import command
from tests.gunicorns import ASGI_APP, CONF, PLAIN, STAR, WSGI_APP, gunicorns, needs_asgi_worker, ready

WORKERS = 2
RATE = 15.0
"""Requests per second of each client, so that it is the server that the machine is busy with."""
OPTIONS = ("--max-requests", "40", "--graceful-timeout", "5")
"""gunicorn loses a SIGTERM to a worker that is just being forked, and waits for it that long."""

WORKER_CLASSES = {
    "sync": (WSGI_APP, ("sync",)),
    "gthread": (WSGI_APP, ("gthread", "--threads", "4")),
    "gevent": (WSGI_APP, ("gevent",)),
    "asgi": (ASGI_APP, ("asgi",)),
    "uvicorn": (ASGI_APP, ("uvicorn_worker.UvicornWorker",)),
    "uvicorn.workers": (ASGI_APP, ("uvicorn.workers.UvicornWorker",)),
}
COVERING = [  # each kind of worker with and without --preload, and by each way in
    ("sync", "load", "install"),
    ("sync", "preload", "run"),
    ("gthread", "load", "run"),
    ("gthread", "preload", "star"),
    ("gevent", "load", "star"),
    ("gevent", "preload", "run"),
    ("asgi", "load", "run"),
    ("asgi", "preload", "install"),
    ("uvicorn", "load", "star"),
    ("uvicorn", "preload", "run"),
    ("uvicorn.workers", "load", "run"),
]


def until(condition):
    """Seldom: each look is a snapshot of the fleet, and takes its part of the machine."""
    return cli.until(condition, pause=0.05)


@contextmanager
def serving(directory, hub, worker_class, preload, way, *options):
    """A server with an application that knows nothing of shmetrics, and the function that signals its arbiter."""
    app, kind = WORKER_CLASSES[worker_class]
    options = ("--worker-class", *kind, *(["--preload"] if preload == "preload" else []), *options)
    with gunicorns(directory, app) as start:
        if way == "run":
            runner = command("run", "--name", hub, "--")
            yield ready(start(*options, conf=PLAIN, workers=WORKERS, runner=runner), WORKERS, hub)
        else:
            conf = {"install": CONF, "star": STAR}[way]
            yield ready(start(*options, conf=conf, workers=WORKERS, hub=hub), WORKERS, hub)


@contextmanager
def load_on(server):
    """Clients that ask all the time; afterwards they have what they asked for."""
    load = Load(server.port)
    load.start()
    try:
        until(lambda: load.tally.responses >= 20)
        yield load
        seen = load.tally.responses
        until(lambda: load.tally.responses >= seen + 20)
    finally:
        load.stop()


def counted(server, responses):
    """The requests that the hub has, when it has as many as there were responses, and no worker serves any more."""
    until(lambda: server.figures()["total_requests"] >= responses)
    until(lambda: not any(row["in_flight"] for row in server.figures()["workers"] if row["alive"]))
    return server.figures()["total_requests"]


def kill_one(server):
    """SIGKILL to a worker; the youngest, since the others are about to be recycled."""
    while True:
        victim = max(server.pids(), default=0)
        if victim:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                return victim


ROWS = [pytest.param(row, id="-".join(row), marks=[needs_asgi_worker] * (row[0] == "asgi")) for row in COVERING]


@pytest.mark.parametrize("row", ROWS)
def test_what_the_clients_got_is_what_the_hub_counted(tmp_path, hub_name, monkeypatch, row):
    monkeypatch.setattr("shmetrics.demo.load.RATE", RATE)
    with serving(tmp_path, hub_name, *row, *OPTIONS) as server:
        first = server.pids()
        with load_on(server) as load:
            server.process.send_signal(signal.SIGHUP)
            until(lambda: not server.pids() & first)
            until(lambda: server.workers_seen() >= 3 * WORKERS)  # the first, those after the reload, and as many again
        before = load.tally
        assert before.responses == counted(server, before.responses)
        assert before.server_errors == server.figures()["total_errors"] == 0

        server.process.send_signal(signal.SIGTTIN)
        until(lambda: len(server.pids()) == WORKERS + 1)
        server.process.send_signal(signal.SIGTTOU)
        until(lambda: len(server.pids()) == WORKERS)

        seen = server.workers_seen()
        with load_on(server) as load:
            victim = kill_one(server)
            until(lambda: victim not in server.pids() and server.workers_seen() > seen)
        after = load.tally
        responses = before.responses + after.responses
        assert responses <= counted(server, responses) <= responses + after.interrupted
        server.stop()
        assert server.figures()["active_workers"] == 0
