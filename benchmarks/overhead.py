"""What the middleware costs a server: requests per second of a trivial application with it and without.

    python -m benchmarks.overhead [gunicorn] [uvicorn] [starlette] [--rounds 20] [--seconds 1] [--json]

Two servers of one worker each run at the same time, one with the middleware and one without; wrk loads them in turn, in
an order that changes from round to round. The figure is the median over the rounds of one rate over the other, so that
what else the machine does falls on both. Needs wrk, which Debian has, and the servers of the extra `test`.
"""

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from shmetrics import hub
from shmetrics.benchmarks.timing import progress
from shmetrics.errors import HubNotFoundError

APPS = {
    "wsgi": """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
""",
    "asgi": """
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"),
                                                                   (b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await send(START)
    await send(BODY)
""",
    "flask": """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def hello():
    return "ok"
""",
    "fastapi": """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()

@app.get("/", response_class=PlainTextResponse)
async def hello():
    return "ok"
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/", hello)])
""",
}
WRAP = """
import os
if os.environ.get("MEASURED"):
    from shmetrics import PerformanceMetrics
    from shmetrics.workers.{kind} import MetricsMiddleware
    app = MetricsMiddleware(app, PerformanceMetrics(window_size=1000, name=os.environ["MEASURED"]), **{options})
"""
GUNICORN = ["-m", "gunicorn", "--log-level", "critical", "--bind", "127.0.0.1:{port}", "served:app"]
UVICORN = ["-m", "uvicorn", "--no-access-log", "--log-level", "critical", "--port", "{port}", "served:app"]
H11 = [*UVICORN, "--loop", "asyncio", "--http", "h11"]
HTTPTOOLS = [*UVICORN, "--loop", "uvloop", "--http", "httptools"]
SERVERS = {
    "gunicorn": ("wsgi", GUNICORN),
    "gunicorn-flask": ("flask", GUNICORN),
    "uvicorn": ("asgi", H11),
    "uvicorn-fastapi": ("fastapi", H11),
    "uvicorn-fast": ("asgi", HTTPTOOLS),
    "starlette-fast": ("starlette", HTTPTOOLS),
}
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b")
_PROBLEMS = re.compile(r"(Socket errors|Non-2xx).*")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Server:
    """A server of one worker that runs, and its load."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/"

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 30.0
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=5.0) as response:
                    assert response.read() == b"ok"
                    return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def load(self, connections: int, seconds: float) -> tuple[float, float]:
        """Requests per second that it answered, and the seconds of CPU that each took."""
        before = self._cpu()
        done = subprocess.run(
            ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:g}s", self._url],
            capture_output=True,
            text=True,
            check=True,
        )
        found = _REQUESTS.search(done.stdout)
        problem = _PROBLEMS.search(done.stdout)
        if found is None or problem is not None:
            raise SystemExit(f"wrk says: {problem[0] if problem else done.stdout}")
        requests, took = int(found[1]), float(found[2]) * _UNITS[found[3]]
        return requests / took, (self._cpu() - before) / requests

    def _cpu(self) -> float:
        """Of the server and its worker."""
        main = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
        return sum(each.user + each.system for each in times)


@contextmanager
def served(name: str, options: dict[str, object], *, measured: bool) -> Iterator[Server]:
    """A server of `SERVERS` that answers, with the middleware or without."""
    app, arguments = SERVERS[name]
    with socket.create_server(("127.0.0.1", 0)) as listener:  # not inherited: uvicorn leaves Nagle's delays on those
        port = listener.getsockname()[1]
    hub_name = f"overhead-{os.getpid()}-{port}"
    with tempfile.TemporaryDirectory() as directory:
        kind = "wsgi" if app in ("wsgi", "flask") else "asgi"
        (Path(directory) / "served.py").write_text(APPS[app] + WRAP.format(kind=kind, options=options))
        process = subprocess.Popen(
            [sys.executable, *(argument.format(port=port) for argument in arguments)],
            cwd=directory,
            env={**os.environ, "MEASURED": hub_name if measured else ""},
        )
        try:
            server = Server(process, port)
            server.wait()
            yield server
        finally:
            process.terminate()
            process.wait(15.0)
            with suppress(HubNotFoundError):  # it is made when the server starts, and where there is one
                hub.remove(hub_name, force=True)  # uvicorn ends by the signal itself, and removes nothing


def compare(name: str, rounds: int, seconds: float, options: dict[str, object]) -> dict[str, float]:
    """Median rates and CPU times of both sides, and the medians of the rounds' ratios."""
    connections = 4 if "gunicorn" in name else 16
    rates: dict[bool, list[float]] = {True: [], False: []}
    costs: dict[bool, list[float]] = {True: [], False: []}
    with served(name, options, measured=False) as plain, served(name, options, measured=True) as wrapped:
        sides = {False: plain, True: wrapped}
        for server in sides.values():  # to warm up
            server.load(connections, seconds)
        for done in range(rounds):
            for measured in (True, False) if done % 2 else (False, True):
                rate, cost = sides[measured].load(connections, seconds)
                rates[measured].append(rate)
                costs[measured].append(cost)
            progress(done + 1, rounds)
    ratios = sorted(with_it / without for with_it, without in zip(rates[True], rates[False], strict=True))
    return {
        "requests_per_second_without": statistics.median(rates[False]),
        "requests_per_second_with": statistics.median(rates[True]),
        "ratio": statistics.median(ratios),
        "ratio_low": ratios[len(ratios) // 4],
        "ratio_high": ratios[-1 - len(ratios) // 4],
        "cpu_ratio": statistics.median(a / b for a, b in zip(costs[False], costs[True], strict=True)),
        "cpu_microseconds_added": 1e6 * (statistics.median(costs[True]) - statistics.median(costs[False])),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {', '.join(SERVERS)}; all unless given")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load, for each server and round")
    parser.add_argument("--no-http-metrics", action="store_true", help="the hub's own metrics alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    unknown = set(arguments.servers) - set(SERVERS)
    if unknown:
        parser.error(f"no server {', '.join(sorted(unknown))}; there are {', '.join(SERVERS)}")
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed; Debian has it in the package wrk")
    options: dict[str, object] = {"http_metrics": False} if arguments.no_http_metrics else {}
    results = {
        name: compare(name, arguments.rounds, arguments.seconds, options) for name in arguments.servers or SERVERS
    }
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), "servers": results}, indent=2))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(f"{arguments.rounds} paired rounds of {arguments.seconds:g} s; medians")
    print(f"{'':14}{'requests/s':>12}{'measured':>12}{'ratio':>8}{'quartiles':>16}{'CPU ratio':>11}{'added us':>10}")
    for name, result in results.items():
        print(
            f"{name:14}{result['requests_per_second_without']:12.0f}{result['requests_per_second_with']:12.0f}"
            f"{result['ratio']:8.3f}{result['ratio_low']:8.3f}{result['ratio_high']:8.3f}{result['cpu_ratio']:11.3f}"
            f"{result['cpu_microseconds_added']:10.1f}"
        )


if __name__ == "__main__":
    main()
