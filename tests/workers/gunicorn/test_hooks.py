"""The hooks, under real gunicorns that inherit a listening socket on 127.0.0.1."""

import http.client
import os
import re
import signal
from contextlib import closing, suppress

import psutil
import pytest

from shmetrics import naming, segment
from shmetrics.aggregator import Aggregator
from shmetrics.errors import HubNotFoundError
from shmetrics.hub import Hub
from tests.cli import started, until
from tests.gunicorns import STOP_PATIENCE, WORKERS, gunicorns, ready

APP = '''
import os, pathlib, signal, time
from shmetrics import PerformanceMetrics
from shmetrics.workers.wsgi import MetricsMiddleware

metrics = PerformanceMetrics(window_size=50, max_workers=16, max_series=16)

def stream(go_on):
    """Two parts; the second when the file given is there."""
    yield b"one "
    deadline = time.monotonic() + 20
    while not go_on.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    yield b"two"

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/exit":
        os._exit(7)
    if path == "/hang":
        time.sleep(60)
    if path == "/hang-hard":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGABRT])
        time.sleep(60)
    if path == "/raise":
        raise RuntimeError("asked for")
    start_response("500 Oops" if path == "/error" else "200 OK", [("Content-Type", "text/plain")])
    return stream(pathlib.Path(query)) if path == "/stream" else [str(os.getpid()).encode()]

app = MetricsMiddleware(application, metrics)
'''


@pytest.fixture
def serve(tmp_path, hub_name):
    """A function that starts gunicorn. (`hub_name`, so that its hub is removed after the workers have ended.)"""
    with gunicorns(tmp_path, APP) as start:
        yield start


def files_of_pid(pid):
    """Segments and semaphores of hubs that are named after a process."""
    return [file for file in os.listdir(naming.SHM_DIR) if re.search(rf"shmetrics\..*-{pid}\b", file)]


# What is counted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["load", "preload"])
@pytest.mark.parametrize("kind", [("sync",), ("gthread", "--threads", "4")], ids=["sync", "gthread"])
def test_totals_are_exact(serve, hub_name, kind, preload):
    server = ready(serve("--worker-class", *kind, *preload, hub=hub_name))
    assert {status for status, _ in server.get_many(60)} == {200}
    assert {status for status, _ in server.get_many(5, "/error") + server.get_many(5, "/raise")} == {500}
    figures = server.wait_for_total(70)
    assert (figures["total_requests"], figures["total_errors"], figures["workers_seen"]) == (70, 10, WORKERS)
    until(lambda: not any(row["in_flight"] for row in server.figures()["workers"]))
    server.stop()
    assert (server.figures()["total_requests"], server.figures()["active_workers"]) == (70, 0)


MIGRATED = """
from shmetrics.exporters.prometheus import Counter, Histogram, generate_latest

SERVED = Counter("served", "Requests served")
HTTP = Histogram("http_server_request_duration_seconds", "Of a name that the middleware uses too", ["path"])

def app(environ, start_response):
    SERVED.inc()
    HTTP.labels("/").observe(0.1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [generate_latest()]
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["load", "preload"])
def test_requests_of_an_application_that_moved_from_prometheus_client_are_measured(tmp_path, hub_name, preload):
    with gunicorns(tmp_path, MIGRATED) as start:
        server = ready(start(*preload, hub=hub_name))
        assert {status for status, _ in server.get_many(20)} == {200}
        server.wait_for_total(20)
        _, page = server.get()
    assert b"\nserved_total 21.0\n" in page
    assert b'http_server_request_duration_seconds_count{path="/"} 21.0' in page


@pytest.mark.parametrize("kind", [("sync",), ("gthread", "--threads", "4")], ids=["sync", "gthread"])
def test_a_streamed_response_is_in_flight_until_its_last_byte(serve, hub_name, tmp_path, kind):
    server = ready(serve("--worker-class", *kind, workers=1, hub=hub_name), workers=1)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", f"/stream?{tmp_path / 'go_on'}")
        response = connection.getresponse()
        assert response.read(4) == b"one "
        during = server.figures()
        (tmp_path / "go_on").touch()
        assert response.read() == b"two"
    assert (during["total_requests"], during["workers"][0]["in_flight"]) == (0, 1)
    after = server.wait_for_total(1)
    assert after["max_inference_time"] > 0.0
    until(lambda: server.figures()["workers"][0]["in_flight"] == 0)


def test_a_reload_loses_nothing(serve, hub_name):
    server = ready(serve(hub=hub_name))
    server.get_many(20)
    old = server.pids()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(server.pids()) == WORKERS and not server.pids() & old)
    server.get_many(20)
    assert server.wait_for_total(40)["total_requests"] == 40
    until(lambda: server.workers_seen() == 2 * WORKERS)


def test_recycling_by_max_requests_loses_nothing(serve, hub_name):
    server = ready(serve("--max-requests", "5", hub=hub_name))
    assert len({body for _, body in server.get_many(60)}) > WORKERS
    assert server.wait_for_total(60)["total_requests"] == 60


def test_sigkill_of_a_worker_loses_nothing(serve, hub_name):
    server = ready(serve(hub=hub_name))
    (_, victim), *_ = server.get_many(20)
    server.wait_for_total(20)
    os.kill(int(victim), signal.SIGKILL)
    until(lambda: len(server.pids() - {int(victim)}) == WORKERS)
    server.get_many(20)
    figures = server.wait_for_total(40)
    assert (figures["total_requests"], figures["workers_seen"]) == (40, WORKERS + 1)


def test_a_successor_takes_the_hub_over_and_removes_it_at_its_end(serve):
    """USR2: both arbiters have workers for a while; then the first ends, and the second later."""
    server = ready(serve(by_address=True))
    server.get_many(20)
    first = server.pids()
    server.process.send_signal(signal.SIGUSR2)
    until(lambda: len(server.pids()) == 2 * WORKERS)
    successor = psutil.Process((server.pids() - first).pop()).parent()
    server.get_many(20)
    server.process.terminate()  # and not waited for, so that the hub that is named after it is not taken for a leftover
    until(lambda: psutil.Process(server.process.pid).status() == psutil.STATUS_ZOMBIE)
    server.get_many(20)
    assert server.wait_for_total(60)["total_requests"] == 60
    until(lambda: server.pids() and not server.pids() & first)
    until(lambda: server.workers_seen() == 2 * WORKERS)
    successor.terminate()
    psutil.wait_procs([successor], timeout=STOP_PATIENCE)
    until(lambda: files_of_pid(server.process.pid) == [])


# How a worker ended ---------------------------------------------------------------------------------------------------


ENDINGS = {
    "a crash": ("/exit", 7),
    "a time-out": ("/hang", -signal.SIGABRT),
    "a time-out of one that does not listen": ("/hang-hard", -signal.SIGKILL),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_obituary_of_a_worker_says_how_it_ended_and_over_what(serve, hub_name, ending):
    path, exit_code = ENDINGS[ending]
    server = ready(serve("--timeout", "1", workers=1, hub=hub_name), workers=1)
    (pid,) = server.pids()
    with suppress(http.client.HTTPException, OSError):  # some releases of gunicorn answer with 500 after a time-out
        server.get(path)
    until(lambda: server.pids() - {pid})
    (obituary,) = reaped(hub_name)
    assert (obituary.pid, obituary.exit_code) == (pid, exit_code)
    assert [request["label"] for request in obituary.requests_in_flight] == [f"GET {path}"]
    assert obituary.is_news


def test_the_obituary_of_a_killed_worker_says_so_and_shows_the_request_it_served(serve, hub_name, tmp_path):
    server = ready(serve(workers=1, hub=hub_name), workers=1)
    (pid,) = server.pids()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", f"/stream?{tmp_path / 'never'}")
        connection.getresponse().read(4)
        os.kill(pid, signal.SIGKILL)
        until(lambda: server.pids() - {pid})
    (obituary,) = reaped(hub_name)
    assert (obituary.pid, obituary.exit_code, obituary.in_flight) == (pid, -signal.SIGKILL, 1)


def test_workers_that_end_in_order_get_no_obituary(serve, hub_name):
    server = ready(serve("--max-requests", "5", hub=hub_name))
    server.get_many(30)
    ready(server)  # gunicorn's workers lose a signal that comes before they have their handlers
    server.stop()
    assert reaped(hub_name) == ()


def reaped(name):
    """The obituaries, when all the dead have been reaped."""
    with Aggregator(segment.attach(name, writable=True)) as aggregator:
        aggregator.try_lead()
        aggregator.tick()
        return aggregator.obituaries()


def test_child_exit_rings_for_the_aggregator(serve, hub_name, tmp_path):
    """One that would look again in a minute sees the death at once."""
    server = ready(serve(workers=1, hub=hub_name), workers=1)
    output = tmp_path / "output"
    with output.open("w") as file, started("serve", hub_name, "--interval", "60", stdout=file):
        until(lambda: output.read_text().count("\n") == 2)
        os.kill(*server.pids(), signal.SIGKILL)
        until(lambda: output.read_text().count("\n") > 2)


# Which hub, and for how long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["load", "preload"])
def test_without_a_name_the_hub_is_named_after_the_arbiter(serve, preload):
    server = serve(*preload, workers=1)
    server.get()
    assert until(server.pids, patience=5.0)
    assert server.figures()["hub"]["name"] == f"gunicorn-{server.process.pid}"


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["load", "preload"])
def test_a_hub_without_a_name_goes_with_the_arbiter(serve, preload):
    server = serve(*preload, workers=2)
    server.get()
    until(lambda: len(files_of_pid(server.process.pid)) == 1 + 2)
    server.stop()
    assert files_of_pid(server.process.pid) == []


def test_a_hub_without_a_name_goes_also_when_a_worker_had_to_be_killed(serve, tmp_path):
    """The worker is in the middle of a response that takes longer than the arbiter waits."""
    server = ready(serve("--graceful-timeout", "1", workers=1), workers=1)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", f"/stream?{tmp_path / 'never'}")
        connection.getresponse().read(4)
        server.stop()
    assert files_of_pid(server.process.pid) == []


def test_a_hub_without_a_name_goes_also_under_an_aggregator(serve, tmp_path):
    server = ready(serve(workers=1), workers=1)
    output = tmp_path / "output"
    with output.open("w") as file, started("serve", server.hub, stdout=file):
        until(output.read_text)
        server.stop()
        with pytest.raises(HubNotFoundError):
            Hub.attach(server.hub)


def test_a_hub_with_a_name_stays_with_its_totals(serve, hub_name):
    for _ in range(2):
        server = ready(serve(workers=1, hub=hub_name), workers=1)
        server.get()
        server.stop()
    assert server.figures()["total_requests"] == 2


# The user's own hooks -------------------------------------------------------------------------------------------------

MARKING = """
import os, pathlib

def mark(text):
    with pathlib.Path("marks").open("a") as file:
        file.write(text + chr(10))

def on_starting(server):
    mark("on_starting")

def post_worker_init(worker):
    mark(f"post_worker_init {worker.pid}")

def worker_exit(server, worker):
    mark(f"worker_exit {worker.pid}")

def child_exit(server, worker):
    mark(f"child_exit {worker.pid}")

def on_exit(server):
    mark(f"on_exit {os.environ.get('SHMETRICS_HUB')}")
"""


def test_the_users_hooks_of_the_same_names_run_too(serve, tmp_path):
    server = ready(serve(workers=1, own=MARKING), workers=1)
    (worker,) = server.pids()
    server.stop()
    assert (tmp_path / "marks").read_text().splitlines() == [
        "on_starting",
        f"post_worker_init {worker}",
        f"worker_exit {worker}",
        f"child_exit {worker}",
        f"on_exit {server.hub}",
    ]
    assert files_of_pid(server.process.pid) == []
