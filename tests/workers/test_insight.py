"""What one is told of the workers of a real gunicorn: which one hangs, and what one that was killed was doing."""

import http.client
import os
import signal
import time

import pytest

from shmetrics import segment
from shmetrics.aggregator import Aggregator
from shmetrics.hub import Hub
from tests.cli import run, strict_json, until, writing_to
from tests.gunicorns import gunicorns, ready

APP = """
import os, time
from shmetrics import PerformanceMetrics

metrics = PerformanceMetrics(window_size=50, max_workers=16, max_series=16)

def app(environ, start_response):
    recorder, path = metrics.recorder, environ["PATH_INFO"]
    ticket = recorder.enter(f"{environ['REQUEST_METHOD']} {path}")
    started = time.perf_counter()
    if path == "/slow":
        time.sleep(float(environ["QUERY_STRING"]))
    metrics.update_inference(time.perf_counter() - started)
    recorder.leave(ticket)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
LIMIT = 1.0
PROMPTLY = 2.0
"""Seconds within which a worker that hangs must be named, once its request has passed the limit."""


@pytest.fixture
def serve(tmp_path, hub_name):
    with gunicorns(tmp_path, APP) as start:
        yield start


@pytest.fixture
def ask():
    """A function that begins a request and does not wait for its answer."""
    connections = []

    def ask(server, path):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connections.append(connection)
        connection.request("GET", path)

    yield ask
    for connection in connections:
        connection.close()


def in_flight(server):
    """The workers that serve something, by pid: what, and for how long."""
    with Hub.attach(server.hub) as hub:
        fleet = hub.snapshot()
    return {
        worker.pid: [(request.label, fleet.taken_at - request.started_at) for request in worker.in_flight]
        for worker in fleet.workers
        if worker.alive and worker.in_flight
    }


def stats(server, *options):
    return strict_json(run("stats", server.hub, "--json", *options).stdout)


def test_a_worker_that_hangs_is_named_within_two_seconds_of_passing_its_limit(serve, hub_name, ask, tmp_path):
    server = ready(serve(hub=hub_name))
    output = tmp_path / "output"
    with writing_to(output, "serve", server.hub, "--stuck-after", str(LIMIT)):
        until(lambda: "leading hub" in output.read_text())
        ask(server, "/slow?30")
        until(lambda: in_flight(server))
        ((pid, ((label, age),)),) = in_flight(server).items()
        began = time.monotonic() - age
        assert label == "GET /slow"
        until(lambda: f"! worker {pid} in slot " in output.read_text())
        assert time.monotonic() - began < LIMIT + PROMPTLY
    assert "hangs: it has been serving GET /slow for " in output.read_text()
    (finding,) = stats(server, "--stuck-after", str(LIMIT))["findings"]
    assert (finding["kind"], finding["level"], finding["pid"]) == ("hung_worker", "problem", pid)
    assert finding["threshold"] == LIMIT <= finding["value"]
    assert stats(server)["findings"] == [], "ten seconds are the limit unless somebody says otherwise"
    os.kill(pid, signal.SIGKILL)  # its server would wait for it


def test_a_worker_that_hangs_is_named_in_the_first_look_after_its_limit(serve, hub_name, ask):
    server = ready(serve(hub=hub_name))
    ask(server, "/slow?30")
    until(lambda: in_flight(server))
    ((pid, ((_, age),)),) = in_flight(server).items()
    began = time.monotonic() - age
    with Hub.attach(server.hub) as hub:
        while time.monotonic() - began < LIMIT:
            time.sleep(0.02)
        findings = hub.statistics(stuck_after=LIMIT)["findings"]
        assert [finding["pid"] for finding in findings] == [pid]
    os.kill(pid, signal.SIGKILL)  # its server would wait for it


@pytest.mark.parametrize("kind", [("sync",), ("gthread", "--threads", "4")], ids=["sync", "gthread"])
def test_a_request_in_flight_at_the_kill_is_in_the_obituary(serve, hub_name, ask, kind):
    server = ready(serve("--worker-class", *kind, hub=hub_name))
    server.get_many(40)
    server.wait_for_total(40)
    ask(server, "/slow?30")
    until(lambda: in_flight(server))
    ((pid, ((label, age),)),) = in_flight(server).items()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in server.pids() and len(server.pids()) == 4)
    with Aggregator(segment.attach(server.hub, writable=True)) as aggregator:
        assert aggregator.try_lead()
        aggregator.tick()
    (obituary,) = strict_json(run("obituaries", server.hub, "--json").stdout)
    assert obituary["pid"] == pid
    assert obituary["in_flight"] == 1
    (request,) = obituary["requests_in_flight"]
    assert request["label"] == label == "GET /slow"
    assert request["age"] >= age
    assert obituary["requests"] == len(obituary["last_records"]) or len(obituary["last_records"]) == 8
    text = run("stats", server.hub).stdout
    assert f"! worker {pid} in slot " in text
    assert "while serving 1 request: GET /slow for " in text
    server.stop()


def test_recycled_and_stopped_workers_are_no_news(serve, hub_name):
    server = ready(serve("--max-requests", "5", hub=hub_name))
    server.get_many(60)
    server.wait_for_total(60)
    server.stop()
    with Aggregator(segment.attach(hub_name, writable=True)) as aggregator:
        assert aggregator.try_lead()
        assert aggregator.tick()["workers_seen"] > 6
    assert strict_json(run("obituaries", hub_name, "--json").stdout) == []
