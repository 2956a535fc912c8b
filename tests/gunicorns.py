"""Real gunicorns with shmetrics' hooks, or under `shmetrics run`, which inherit a listening socket on 127.0.0.1."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import gunicorn
import pytest

from shmetrics.errors import HubNotFoundError
from shmetrics.hub import Hub, remove
from tests.cli import environment, until

WORKERS = 4
STOP_PATIENCE = 45.0
"""More than gunicorn's own, after which it kills a worker that lost its signal while it started."""

PLAIN = """
loglevel = "critical"
control_socket_disable = True
{own}
"""
"""A configuration that knows nothing of shmetrics."""
CONF = f"""
import shmetrics.workers.gunicorn
{PLAIN}
shmetrics.workers.gunicorn.install(globals())
"""
STAR = f"""
from shmetrics.workers.gunicorn import *
{PLAIN}
"""

WSGI_APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
ASGI_APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
"""Applications that know nothing of shmetrics. They answer with the worker's pid."""


needs_asgi_worker = pytest.mark.skipif(gunicorn.version_info < (24,), reason="this gunicorn has no ASGI worker")


class Server:
    """A gunicorn that runs, and what its clients see."""

    def __init__(self, process, port, hub):
        self.process, self.port, self.hub = process, port, hub

    def get(self, path="/"):
        """The status and the body of one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def get_many(self, count, path="/"):
        """The answers to `count` requests, eight at a time."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.get, [path] * count))

    def figures(self):
        with Hub.attach(self.hub) as hub:
            return hub.statistics()

    def pids(self):
        """The live workers, by what they wrote into their slots."""
        try:
            with Hub.attach(self.hub) as hub:
                return {worker.pid for worker in hub.snapshot().workers if worker.alive}
        except HubNotFoundError:
            return set()

    def workers_seen(self):
        """All workers that there ever were."""
        return self.figures()["workers_seen"]

    def wait_for_total(self, total):
        """A worker records a request when its last byte is sent, so the client may be a little ahead."""
        until(lambda: self.figures()["total_requests"] >= total)
        return self.figures()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(STOP_PATIENCE) == 0


@contextmanager
def gunicorns(directory, app):
    """A function that starts gunicorn with this source of an application; all it started are ended afterwards."""
    (directory / "served.py").write_text(app)
    servers = []

    def start(*options, own="", conf=CONF, workers=WORKERS, hub=None, runner=(), by_address=False, **more):
        """``runner``: what to put before the command, such as `shmetrics run`.

        ``by_address``: let gunicorn open the socket; one that is inherited it cannot hand on to a successor (USR2).
        """
        (directory / "conf.py").write_text(conf.format(own=own))
        command = [
            *runner,
            sys.executable,
            "-m",
            "gunicorn",
            "--config",
            "conf.py",
            "--workers",
            str(workers),
            *options,
        ]
        named = {"SHMETRICS_HUB": hub} if hub else {}
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            port, descriptors = listener.getsockname()[1], [listener.fileno()]
            bind = f"fd://{descriptors[0]}"
            if by_address:
                listener.close()
                bind, descriptors = f"127.0.0.1:{port}", []
            process = subprocess.Popen(
                [*command, "--bind", bind, "served:app"],
                env=environment(**named, **more),
                cwd=directory,
                pass_fds=descriptors,
                start_new_session=True,
            )
            servers.append(process)
            return Server(process, port, hub or f"gunicorn-{process.pid}")

    try:
        yield start
    finally:
        for process in servers:
            _end(process)


def _end(process):
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the session that we gave it: its workers, if there are any
    process.wait()
    with suppress(HubNotFoundError):
        remove(f"gunicorn-{process.pid}", force=True)


def ready(server, workers=WORKERS, hub=None):
    """The server, when all its workers have their slots. ``hub``: where it is not said in its environment."""
    server.hub = hub or server.hub
    until(lambda: server.process.poll() is not None or len(server.pids()) == workers)
    assert server.process.poll() is None, "gunicorn did not start"
    return server
