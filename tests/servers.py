"""Real servers of ASGI applications with several workers, on a port of 127.0.0.1."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress

from shmetrics.errors import HubNotFoundError
from shmetrics.hub import Hub
from tests.cli import environment, until

STOP_PATIENCE = 20.0
COMMANDS = {
    "uvicorn": "uvicorn --host 127.0.0.1 --port {port} --workers {workers} --log-level critical --no-access-log",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --workers {workers} --respawn-failed-workers "
    "--no-log",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --workers {workers} --log-level CRITICAL",
}


class Server:
    """A server that runs, its clients, and what its hub says of it."""

    def __init__(self, process, port, hub):
        self.process, self.port, self.hub = process, port, hub

    def connect(self):
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20))

    def get(self, path="/", method="GET"):
        """The status and the body of one request on a connection of its own."""
        with self.connect() as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()

    def answers(self):
        """Whether it does; such a request does not count where the application skips its path."""
        assert self.process.poll() is None, "the server did not start"
        with suppress(OSError):
            return self.get("/ready")[0] == 200
        return False

    def figures(self):
        with Hub.attach(self.hub) as hub:
            return hub.statistics()

    def series(self, name):
        """The series of a custom metric that something was added to, by label values: count or value."""
        with Hub.attach(self.hub) as hub:
            families = {family.definition.name: family for family in hub.snapshot().families}
        family = families[name]
        if family.definition.kind == "histogram":
            return {series.labels: series.count for series in family.series if series.count}
        return {series.labels: series.value for series in family.series if series.value}

    def pids(self):
        """The live workers, by what they wrote into their slots."""
        with suppress(HubNotFoundError), Hub.attach(self.hub) as hub:
            return {worker.pid for worker in hub.snapshot().workers if worker.alive}
        return set()

    def until_idle(self):
        """Until no live worker has a request in flight."""
        until(lambda: not any(row["in_flight"] for row in self.figures()["workers"] if row["alive"]), pause=0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(STOP_PATIENCE)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def serving(kind, directory, source, hub, *options, workers=2, **more):
    """A server with this source of an application, when it answers; ended afterwards, workers and all."""
    (directory / "served.py").write_text(source)
    port = free_port()
    command = COMMANDS[kind].format(port=port, workers=workers).split()
    with running([sys.executable, "-m", *command, *options, "served:app"], directory, port, hub, **more) as server:
        until(lambda: len(server.pids()) == workers, pause=0.05)
        yield server


@contextmanager
def running(command, directory, port, hub, *, ready=Server.answers, **more):
    """A server by its command, when it is ready."""
    process = subprocess.Popen(
        command, env=environment(SHMETRICS_HUB=hub, **more), cwd=directory, start_new_session=True
    )
    try:
        server = Server(process, port, hub)
        until(lambda: ready is None or ready(server), pause=0.05)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session that we gave it: its workers, if there are any
        process.wait()
