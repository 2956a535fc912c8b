"""Real gunicorns with shmetrics' hooks, which inherit a listening socket on 127.0.0.1."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

from shmetrics.errors import HubNotFoundError
from shmetrics.hub import Hub, remove
from tests.cli import environment, until

WORKERS = 4
STOP_PATIENCE = 15.0

CONF = """
import shmetrics.workers.gunicorn

loglevel = "critical"
control_socket_disable = True
{own}
shmetrics.workers.gunicorn.install(globals())
"""


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

    def start(*options, own="", workers=WORKERS, hub=None, **more):
        (directory / "conf.py").write_text(CONF.format(own=own))
        command = [sys.executable, "-m", "gunicorn", "--config", "conf.py", "--workers", str(workers), *options]
        named = {"SHMETRICS_HUB": hub} if hub else {}
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            process = subprocess.Popen(
                [*command, "--bind", f"fd://{listener.fileno()}", "served:app"],
                env=environment(**named, **more),
                cwd=directory,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
            servers.append(process)
            return Server(process, listener.getsockname()[1], hub or f"gunicorn-{process.pid}")

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


def ready(server, workers=WORKERS):
    """The server, when all its workers have their slots."""
    until(lambda: server.process.poll() is not None or len(server.pids()) == workers)
    assert server.process.poll() is None, "gunicorn did not start"
    return server
