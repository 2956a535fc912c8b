"""Servers of one worker on this machine, with an application of `served`, and wrk, which loads them.

All servers are on one processor, and what loads them is on the others.
"""

import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from shmetrics import hub
from shmetrics.benchmarks.peers import directory
from shmetrics.errors import HubNotFoundError

WRK: Final = "wrk"
_APPLICATIONS: Final = Path(__file__).parent / "served"
_PATIENCE: Final = 30.0
TURN: Final = 0.1
"""Seconds: hundreds of requests, of which those that find cold caches are few."""
_AFTER_A_TURN: Final = 0.002
_REQUESTS: Final = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b")
_P99: Final = re.compile(r"99%\s+([\d.]+)(us|ms|s|m)\b")
_PROBLEMS: Final = re.compile(r"(Socket errors|Non-2xx).*")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

_GUNICORN: Final = ("gunicorn", "--log-level", "critical", "--bind", "127.0.0.1:{port}")
_UVICORN: Final = ("uvicorn", "--no-access-log", "--log-level", "critical", "--port", "{port}", "--http", "h11")
KINDS: Final = {
    "gunicorn": (*_GUNICORN, "wsgi_bare:app"),
    "gunicorn-flask": (*_GUNICORN, "flask_hello:app"),
    "uvicorn": (*_UVICORN, "--loop", "asyncio", "asgi_bare:app"),
    "uvicorn-fastapi": (*_UVICORN, "--loop", "asyncio", "fastapi_hello:app"),
}
"""Each server and application: what Python's ``-m`` is given. As they are installed by default, with one worker."""


def lacking(kind: str) -> str:
    """Which command brings what a kind of server, and its load, need; "" where all of it is there."""
    if shutil.which(WRK) is None:
        return "apt-get install wrk"
    modules = [*KINDS[kind][:1], *(name for name in ("flask", "fastapi") if f"{name}_" in KINDS[kind][-1])]
    missing = [name for name in modules if find_spec(name) is None]
    return f"pip install {' '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class Load:
    """What one turn of wrk found."""

    rate: float
    """Requests a second that were answered."""
    p99: float | None
    """Seconds; None where others had turns meanwhile."""
    cpu: float
    """Seconds of processor time that the server took for each request."""


class Server:
    """A server that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, connections: int) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/"
        self._connections = connections

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=5.0) as response:
                    assert response.read() == b"ok"
                    return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def load(self, seconds: int) -> Load:
        """Load it for so long, and no other."""
        before = self.cpu()
        with self.wrk(seconds) as client:
            said = client.communicate()[0]
        return self.found(said, before, self.cpu())

    @contextmanager
    def wrk(self, seconds: int) -> Iterator["subprocess.Popen[str]"]:
        """What loads it for so long."""
        arguments = ["--threads", "1", "--connections", str(self._connections), "--latency"]
        command = [WRK, *arguments, "--duration", f"{seconds}s", self._url]
        with _on(_processors()[1]):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def found(self, said: str, before: dict[int, float], after: dict[int, float], seconds: float | None = None) -> Load:
        """What wrk said, and the processor time before and after. ``seconds``: of its turns, if it had such."""
        requests, p99, problem = _REQUESTS.search(said), _P99.search(said), _PROBLEMS.search(said)
        if requests is None or p99 is None or problem is not None:
            raise RuntimeError(f"wrk could not load {self._url}: {problem[0] if problem else said}")
        if after.keys() != before.keys():
            raise RuntimeError(f"a process of the server at {self._url} ended or was started while it was loaded")
        count = int(requests[1])
        used = sum(after.values()) - sum(before.values())
        if seconds is not None:
            return Load(count / seconds, None, used / count)
        return Load(count / (float(requests[2]) * _UNITS[requests[3]]), float(p99[1]) * _UNITS[p99[2]], used / count)

    def cpu(self) -> dict[int, float]:
        """Seconds of processor time of the server and of its worker so far, by pid."""
        main = psutil.Process(self._process.pid)
        return {process.pid: _cpu(process.pid) for process in (main, *main.children(recursive=True))}


def load_in_turns(servers: Sequence[Server], turns: int, draw: random.Random) -> list[Load]:
    """Load one at a time for `TURN`, so often, in an order that is drawn for each turn of all.

    A server that is loaded has the processor, and its caches, to itself; and what else changes with time, as the speed
    of the processor does, is the same for all from one second to the next.
    """
    seconds = turns * TURN
    with ExitStack() as stack:
        before = [server.cpu() for server in servers]
        at_most = math.ceil(_PATIENCE + 3.0 * seconds * len(servers))
        clients = [_stopped(stack.enter_context(server.wrk(at_most))) for server in servers]
        for _ in range(turns - 1):
            for client in draw.sample(clients, len(clients)):
                client.send_signal(signal.SIGCONT)
                time.sleep(TURN)
                _stopped(client)
        said = [_last_turn(client) for client in clients]
        after = [server.cpu() for server in servers]
    results = zip(servers, said, before, after, strict=True)
    return [server.found(words, first, last, seconds) for server, words, first, last in results]


def _stopped(client: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    """It has stopped, and what it asked for is answered."""
    client.send_signal(signal.SIGSTOP)
    time.sleep(_AFTER_A_TURN)
    return client


def _last_turn(client: "subprocess.Popen[str]") -> str:
    """What it says at the end of it."""
    if client.poll() is not None:
        raise RuntimeError(
            f"wrk ended before its turns were over, since the machine stood still: {client.communicate()[0]}"
        )
    client.send_signal(signal.SIGCONT)
    time.sleep(TURN)
    client.send_signal(signal.SIGINT)  # by which wrk ends, and says what it has found
    return client.communicate()[0]


def _cpu(pid: int) -> float:
    """Of all threads of a process, to the nanosecond: the first figure of a task's schedstat (man 5 proc_pid_schedstat,
    Documentation/scheduler/sched-stats.rst). Other figures of processor time are of a hundredth of a second.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return 1e-9 * sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


@contextmanager
def _on(processors: list[int]) -> Iterator[None]:
    """What is started meanwhile is on these, with all of its threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _processors() -> tuple[list[int], list[int]]:
    """Those of servers, and those of what loads them."""
    first, *others = sorted(os.sched_getaffinity(0))
    return [first], others or [first]


@contextmanager
def serving(kind: str, measured_by: str) -> Iterator[Server]:
    """A server of one of `KINDS` that answers, measured by what `served.measured` has of that name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # not inherited: uvicorn leaves Nagle's delays on those
        port = listener.getsockname()[1]
    hub_name = f"end-to-end-{os.getpid()}-{port}"
    with directory() as files:
        with _on(_processors()[0]):
            process = subprocess.Popen(
                [sys.executable, "-m", *(argument.format(port=port) for argument in KINDS[kind])],
                cwd=_APPLICATIONS,
                env={
                    **os.environ,
                    "MEASURED_BY": measured_by,
                    "SHMETRICS_HUB": hub_name,
                    **({"PROMETHEUS_MULTIPROC_DIR": files} if measured_by == "prometheus" else {}),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )
        try:
            server = Server(process, port, 4 if kind.startswith("gunicorn") else 16)
            server.wait()
            yield server
        finally:
            _end(process)
            with suppress(HubNotFoundError):  # uvicorn ends by the signal itself, and removes nothing
                hub.remove(hub_name, force=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server, and its worker, whatever they are at."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        for worker in psutil.Process(process.pid).children(recursive=True):
            worker.kill()
        process.kill()
        process.wait()
