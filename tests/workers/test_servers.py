"""The ASGI middleware under real servers that spawn their workers: each attaches to the hub by its name.

What the clients got is what the hub counted; only where a worker is killed in the middle of its work may it have
counted requests whose answers it did not send any more.
"""

import asyncio
import os
import signal
from contextlib import suppress

import pytest
import websockets

from shmetrics import segment
from shmetrics.aggregator import Aggregator
from shmetrics.demo.load import Load
from tests import cli
from tests.servers import serving

SERVERS = ("uvicorn", "granian", "hypercorn")
RATE = 15.0
"""Requests per second of each client, so that it is the server that the machine is busy with."""
DURATION = "http_server_request_duration_seconds"
ABORTED = "http_server_aborted_requests_total"

STARLETTE = """
import asyncio, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from shmetrics import PerformanceMetrics
from shmetrics.workers.asgi import MetricsMiddleware

metrics = PerformanceMetrics(window_size=50, max_workers=16, max_series=128)

@metrics.measure(batch_size=3)
async def think():
    with metrics.stage("preprocessing"):
        await asyncio.sleep(0.002)

async def predict(request):
    await think()
    return PlainTextResponse(str(os.getpid()))

def in_a_thread(request):
    with metrics.stage("quantization", batch_size=5):
        return PlainTextResponse("ok")

async def fail(request):
    raise RuntimeError("asked for")

async def parts(forever):
    yield b"one "
    await asyncio.sleep(0.05)
    while forever:
        yield b"more "
        await asyncio.sleep(0.05)
    yield b"two"

async def stream(request):
    return StreamingResponse(parts("forever" in request.query_params))

async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)

async def reject(websocket):
    await websocket.close()

app = MetricsMiddleware(
    Starlette(routes=[
        Route("/predict", predict),
        Route("/thread/{number}", in_a_thread),
        Route("/fail", fail),
        Route("/stream", stream),
        Route("/ready", lambda request: PlainTextResponse("ready")),
        WebSocketRoute("/echo/{room}", echo),
        WebSocketRoute("/reject", reject),
    ]),
    metrics,
    skip_paths=["/ready"],
)
"""
FASTAPI = """
import os
from fastapi import FastAPI
from shmetrics import PerformanceMetrics
from shmetrics.workers.asgi import MetricsMiddleware

metrics = PerformanceMetrics(window_size=50, max_workers=16, max_series=128)
app = FastAPI()
app.add_middleware(MetricsMiddleware, metrics=metrics, skip_paths=["/ready"])

@app.get("/predict")
@metrics.measure
async def predict(image: int = 0, batch: int = 1):
    return os.getpid()

@app.get("/items/{item}")
def item(item: int):
    with metrics.stage("preprocessing"):
        return item

@app.get("/ready")
def ready():
    return "ready"
"""


def until(condition):
    """Seldom: each look is a snapshot of the fleet, and takes its part of the machine."""
    return cli.until(condition, pause=0.05)


def counted(server, responses):
    """The requests that the hub has, when it has as many as there were responses, and no worker serves any more."""
    until(lambda: server.figures()["total_requests"] >= responses)
    server.until_idle()
    return server.figures()["total_requests"]


@pytest.fixture
def load(monkeypatch):
    """A function that lets clients ask until a condition holds; what they saw."""
    monkeypatch.setattr("shmetrics.demo.load.RATE", RATE)

    def ask(server, condition):
        clients = Load(server.port)
        clients.start()
        try:
            until(lambda: clients.tally.responses >= 40)
            until(condition)
            seen = clients.tally.responses
            until(lambda: clients.tally.responses >= seen + 40 or server.process.poll() is not None)
        finally:
            clients.stop()
        return clients.tally

    return ask


@pytest.mark.parametrize("kind", SERVERS)
def test_what_the_clients_got_is_what_the_hub_counted(tmp_path, hub_name, load, kind):
    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        seen = load(server, lambda: True)
        assert (seen.interrupted, seen.server_errors) == (0, 0)
        assert counted(server, seen.responses) == seen.responses
        assert server.series(DURATION) == {("GET", "200", "/predict"): seen.responses}
        figures = server.figures()
        assert (figures["workers_seen"], figures["total_errors"], figures["hub"]["dropped_records"]) == (2, 0, 0)
        assert (figures["min_batch_size"], figures["max_batch_size"]) == (3.0, 3.0)
        assert figures["min_preprocessing_time"] >= 0.001  # loops round what one sleeps


@pytest.mark.parametrize("kind", SERVERS)
def test_no_response_is_lost_when_a_worker_is_killed(tmp_path, hub_name, load, kind):
    """hypercorn ends with its worker, the others replace it; the hub stays in any case."""
    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        (victim, _) = server.pids()

        def killed():
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            if kind == "hypercorn":
                return server.process.poll() is not None
            return victim not in server.pids() and len(server.pids()) == 2

        seen = load(server, killed)
        assert seen.responses <= counted(server, seen.responses) <= seen.responses + seen.interrupted
        assert server.figures()["workers_seen"] == (2 if kind == "hypercorn" else 3)


RECYCLING = {"uvicorn": ("--limit-max-requests", "30"), "hypercorn": ("--max-requests", "30")}


@pytest.mark.parametrize("kind", RECYCLING)
def test_no_response_is_lost_when_workers_are_recycled(tmp_path, hub_name, load, kind):
    """granian recycles by age, a minute at least."""
    with serving(kind, tmp_path, STARLETTE, hub_name, *RECYCLING[kind]) as server:
        seen = load(server, lambda: server.figures()["workers_seen"] >= 4)
        assert seen.responses <= counted(server, seen.responses) <= seen.responses + seen.interrupted


@pytest.mark.parametrize("kind", ["uvicorn", "granian"])
def test_workers_of_a_server_that_was_stopped_are_no_news(tmp_path, hub_name, kind):
    """uvicorn's end by the signal that stopped them, after their lifespan's shutdown.

    As soon as one of hypercorn's has ended it sends SIGTERM to the others, whether they have shut down or not.
    """
    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        pids = server.pids()
        server.get("/predict")
        server.stop()
        until(lambda: not server.pids())
    with Aggregator(segment.attach(hub_name, writable=True)) as aggregator:
        assert aggregator.try_lead()
        assert aggregator.tick()["workers_seen"] == len(pids) == 2
        assert aggregator.obituaries() == ()


@pytest.mark.parametrize("kind", SERVERS)
def test_errors_streams_and_threads(tmp_path, hub_name, kind):
    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        assert server.get("/stream") == (200, b"one two")
        assert [server.get(path)[0] for path in ("/fail", "/nowhere", "/thread/5")] == [500, 404, 200]
        assert server.get("/predict", method="PUT")[0] == 405
        assert counted(server, 5) == 5
        assert server.series(DURATION) == {
            ("GET", "200", "/stream"): 1,
            ("GET", "500", "/fail"): 1,
            ("GET", "404", ""): 1,
            ("GET", "200", "/thread/{number}"): 1,
            ("PUT", "405", "/predict"): 1,
        }
        assert server.series("http_server_time_to_first_byte_seconds") == {("GET", "200", "/stream"): 1}
        figures = server.figures()
        assert figures["total_errors"] == 1
        assert figures["max_quantization_time"] > 0.0
        assert figures["max_batch_size"] == 5.0


@pytest.mark.parametrize("kind", SERVERS)
def test_a_client_that_goes_away_is_counted_apart(tmp_path, hub_name, kind):
    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        with server.connect() as connection:
            connection.request("GET", "/stream?forever")
            assert connection.getresponse().read(4) == b"one "
        assert counted(server, 1) == 1
        ((method, route, reason),) = server.series(ABORTED)
        assert (method, route) == ("GET", "/stream")
        assert reason in ("disconnect", "cancelled")  # as the server says it
        assert server.figures()["total_errors"] == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_websockets_are_counted_apart_from_requests(tmp_path, hub_name, kind):
    async def talk(server):
        during = {}
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/echo/5") as one:
            for text in ("hello", "again"):
                await one.send(text)
                assert await one.recv() == text
            during = await asyncio.to_thread(server.series, "websocket_active_connections")
        async with websockets.connect(f"ws://127.0.0.1:{server.port}/echo/6") as two:
            two.transport.abort()
        with suppress(websockets.InvalidStatus, websockets.ConnectionClosed):
            async with websockets.connect(f"ws://127.0.0.1:{server.port}/reject") as three:
                await three.recv()
        return during

    with serving(kind, tmp_path, STARLETTE, hub_name) as server:
        assert asyncio.run(talk(server)) == {(): 1.0}
        name = "websocket_connection_duration_seconds"
        until(lambda: sum(server.series(name).values()) == 3)
        assert server.series(name) == {("/echo/{room}", "closed"): 2, ("/reject", "rejected"): 1}
        assert server.series("websocket_active_connections") == {}
        assert server.figures()["total_requests"] == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_fastapi_with_the_middleware_within(tmp_path, hub_name, load, kind):
    with serving(kind, tmp_path, FASTAPI, hub_name) as server:
        seen = load(server, lambda: True)
        assert (server.get("/items/5"), server.get("/items/x")[0]) == ((200, b"5"), 422)
        assert (seen.interrupted, seen.server_errors) == (0, 0)
        assert counted(server, seen.responses + 2) == seen.responses + 2
        assert server.series(DURATION) == {
            ("GET", "200", "/predict"): seen.responses,
            ("GET", "200", "/items/{item}"): 1,
            ("GET", "422", "/items/{item}"): 1,
        }
