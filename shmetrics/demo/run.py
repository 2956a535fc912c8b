"""The course of the demonstration: start, load, kill, count, clean up."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from shmetrics import hub, naming, segment
from shmetrics.demo import MAX_WORKERS, WINDOW, WORKERS
from shmetrics.demo.load import Load, Tally
from shmetrics.errors import HubInUseError, ShmetricsError
from shmetrics.hub import Hub
from shmetrics.layout import Layout
from shmetrics.metrics import HUB_VARIABLE
from shmetrics.statistics import Statistics

_START_PATIENCE: Final = 30.0
_STOP_PATIENCE: Final = 20.0
_LISTENING: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


@dataclass(frozen=True)
class Casualty:
    """The worker that was killed."""

    pid: int
    slot: int
    requests: int


@dataclass(frozen=True)
class Outcome:
    """What the demonstration showed."""

    client: Tally
    figures: Statistics
    casualty: Casualty
    left_behind: list[str]

    @property
    def equal(self) -> bool:
        """Whether the hub counted exactly the responses that the client got."""
        return self.client.responses == int(self.figures["total_requests"])


class Demo:
    """One run. ``show`` gets the figures about twice a second; ``say`` gets what happens, a line each."""

    def __init__(
        self,
        seconds: float,
        *,
        show: Callable[[Statistics], None],
        say: Callable[[str], None],
        aggregator_output: int | None,
    ) -> None:
        self._seconds = seconds
        self._show = show
        self._say = say
        self._aggregator_output = aggregator_output
        self._name = f"demo-{os.getpid()}"

    def run(self) -> Outcome:
        """Do it; ShmetricsError when the server does not start or does not stop."""
        if importlib.util.find_spec("gunicorn") is None:
            raise ShmetricsError("the demo needs gunicorn; install it with: pip install gunicorn")
        with ExitStack() as stack:
            stack.enter_context(self._hub())
            stack.enter_context(_process(self._aggregator()))
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            server = stack.enter_context(_process(self._server(listener)))
            view = stack.enter_context(Hub.attach(self._name))
            self._wait_for_workers(view, server)
            load = Load(listener.getsockname()[1])
            stack.callback(load.stop)
            start = time.monotonic()
            load.start()
            self._watch(view, start + self._seconds / 2)
            casualty = self._kill_one(view, server)
            self._watch(view, start + self._seconds)
            client = load.stop()
            _end(server)
            figures = view.statistics()
        return Outcome(client, figures, casualty, _left_behind(self._name))

    @contextmanager
    def _hub(self) -> Iterator[None]:
        made = segment.create(self._name, Layout(max_workers=MAX_WORKERS, window_size=WINDOW))
        try:
            size = made.layout.size / 2**20
            self._say(f"hub {self._name!r}: {size:.1f} MiB of shared memory for {MAX_WORKERS} workers")
            yield
        finally:
            made.close()
            _remove_when_free(self._name)

    # In sessions of their own, so that Ctrl-C and a closed terminal reach this process alone, which then ends them.

    def _aggregator(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "shmetrics", "serve", self._name]
        return subprocess.Popen(command, stdout=self._aggregator_output, start_new_session=True)

    def _server(self, listener: socket.socket) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gunicorn", "--config", "python:shmetrics.demo.gunicorn_conf"]
        command += ["--bind", f"fd://{listener.fileno()}", "shmetrics.demo.app:app"]
        self._say(f"gunicorn: {WORKERS} pre-forked workers on 127.0.0.1:{listener.getsockname()[1]}")
        # One BLAS thread a worker: four workers with a pool each would fight for the cores.
        environment = os.environ | {HUB_VARIABLE: self._name, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], start_new_session=True)

    def _wait_for_workers(self, view: Hub, server: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _START_PATIENCE
        while view.snapshot().health.slots_live < WORKERS:
            if server.poll() is not None:
                raise ShmetricsError(f"gunicorn ended with status {server.returncode} before it served; see above")
            if time.monotonic() > deadline:
                raise ShmetricsError(f"gunicorn's workers did not start within {_START_PATIENCE:.0f} s")
            time.sleep(0.05)

    def _watch(self, view: Hub, until: float) -> None:
        while (left := until - time.monotonic()) > 0.0:
            self._show(view.statistics())
            time.sleep(min(0.5, left))

    def _kill_one(self, view: Hub, server: "subprocess.Popen[bytes]") -> Casualty:
        """SIGKILL a worker between two of its requests.

        Between, so that two independent counts can be compared to the unit: a worker killed after it recorded a request
        and before it sent the last byte would make the hub count one more. So the worker is stopped first and looked
        at; when it has a connection it goes on, and we try again.

        The hub's pids are shared memory, which anything may have overwritten: no process is signalled but the
        server's children, and psutil looks each time whether the pid is still theirs.
        """
        children = {child.pid: child for child in psutil.Process(server.pid).children(recursive=True)}
        workers = [worker for worker in view.snapshot().workers if worker.alive]
        victim = next((worker for worker in workers if worker.pid in children), None)
        if victim is None:
            pids = ", ".join(str(worker.pid) for worker in workers) or "none"
            raise ShmetricsError(
                f"no live worker in hub {self._name!r} (pids: {pids}) is a process of the demo's gunicorn "
                f"({server.pid}), so none is killed; run the demo again"
            )
        process = children[victim.pid]
        for _ in range(2000):
            process.suspend()
            _wait_until_stopped(victim.pid)
            if not _is_connected(victim.pid):
                process.kill()
                now = next(worker for worker in view.snapshot().workers if worker.slot == victim.slot)
                done = now.counters.requests
                self._say(f"SIGKILL to worker {victim.pid} in slot {victim.slot}, after {done:,} requests")
                return Casualty(victim.pid, victim.slot, done)
            process.resume()
            time.sleep(0.003)
        raise ShmetricsError(f"worker {victim.pid} was never seen between two requests")


def _remove_when_free(name: str) -> None:
    """Remove the hub; the workers of a killed server need a moment to see that their parent is gone."""
    deadline = time.monotonic() + _STOP_PATIENCE
    while True:
        try:
            hub.remove(name)
            return
        except HubInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextmanager
def _process(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process of ours to end; insist when it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_connected(pid: int) -> bool:
    """Whether a process, which is stopped, has a TCP connection over IPv4: a socket in proc(5) that does not listen."""
    with open(f"/proc/{pid}/net/tcp") as file:
        rows = [line.split() for line in file]
    connected = {f"socket:[{row[9]}]" for row in rows[1:] if row[3] != _LISTENING}
    descriptors = f"/proc/{pid}/fd"
    return any(os.readlink(f"{descriptors}/{number}") in connected for number in os.listdir(descriptors))


def _wait_until_stopped(pid: int) -> None:
    """Return when SIGSTOP has taken effect (state T in proc(5)); at once when the process is gone."""
    while True:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                stat = file.read()
        except FileNotFoundError:
            return
        if stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] in b"TtZX":
            return


def _left_behind(name: str) -> list[str]:
    """Files of the hub that are still in /dev/shm."""
    return [file for file in os.listdir(naming.SHM_DIR) if naming.segment_file(name) in file]
