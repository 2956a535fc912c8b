"""WebSockets under the ASGI middleware, with bare ASGI applications."""

import asyncio
from contextlib import nullcontext

import pytest

from shmetrics import CustomMetrics
from shmetrics.workers.asgi import MetricsMiddleware

ACCEPT, CLOSE = {"type": "websocket.accept"}, {"type": "websocket.close", "code": 1000}
GONE = {"type": "websocket.disconnect", "code": 1006}


@pytest.fixture
def wrap(metrics, clock):
    return lambda app, **options: MetricsMiddleware(app, metrics, clock=clock, **options)


def serve(app, *messages, send=None, **more):
    """Serve one connection; what the application sent."""
    pending, sent = [{"type": "websocket.connect"}, *messages], []

    async def receive():
        if not pending:
            await asyncio.Event().wait()
        return pending.pop(0)

    async def remember(message):
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": [], **more}, receive, send or remember))
    return sent


def figures(metrics):
    found = CustomMetrics(metrics).get_all_metrics()
    durations = {
        (each["labels"]["http_route"], each["labels"]["outcome"]): (each["count"], each["sum"])
        for each in found["websocket_connection_duration_seconds"]["series"]
        if each["count"]
    }
    return durations, found["websocket_active_connections"]["value"]


async def echo(scope, receive, send):
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def test_a_connection_is_counted_and_timed_and_is_no_request(wrap, metrics, clock):
    during = []

    async def app(scope, receive, send):
        during.append(figures(metrics)[1])
        assert metrics.current_request is None
        await echo(scope, receive, send)
        clock.sleep(3600.0)

    sent = serve(wrap(app), {"type": "websocket.receive", "text": "hello"}, GONE)
    assert sent == [ACCEPT, {"type": "websocket.send", "text": "hello"}]
    assert during == [1.0]
    assert figures(metrics) == ({("", "closed"): (1, 3600.0)}, 0.0)
    assert metrics.get_statistics()["total_requests"] == 0
    assert not any(worker.in_flight for worker in metrics.snapshot().workers)


def test_a_message_may_be_a_request(wrap, metrics):
    @metrics.measure(batch_size=len)
    async def answer(text):
        return text

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": await answer(message["text"])})

    serve(wrap(app), *({"type": "websocket.receive", "text": "x" * n} for n in (1, 5)), GONE)
    statistics = metrics.get_statistics()
    assert (statistics["total_requests"], statistics["max_batch_size"]) == (2, 5.0)


async def rejecting(scope, receive, send):
    await receive()
    await send(CLOSE)


async def closing(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await send(CLOSE)


async def failing(scope, receive, send):
    await send(ACCEPT)
    raise ValueError("x")


async def failing_at_once(scope, receive, send):
    raise ValueError("x")


async def raising_when_gone(scope, receive, send):
    await send(ACCEPT)
    await receive()
    await receive()
    raise ValueError("x")


@pytest.mark.parametrize(
    ("app", "outcome", "raises"),
    [
        (rejecting, "rejected", False),
        (closing, "closed", False),
        (failing, "error", True),
        (failing_at_once, "error", True),
        (raising_when_gone, "closed", True),
    ],
)
def test_how_it_ended_is_a_label(wrap, metrics, app, outcome, raises):
    with pytest.raises(ValueError, match="x") if raises else nullcontext():
        serve(wrap(app), GONE)
    assert figures(metrics) == ({("", outcome): (1, 0.0)}, 0.0)
    assert metrics.get_statistics()["total_errors"] == 0


def test_an_oserror_of_the_server_means_that_the_client_went_away(wrap, metrics):
    async def send(message):
        if message is not ACCEPT:
            raise BrokenPipeError("gone")

    with pytest.raises(BrokenPipeError, match="gone"):
        serve(wrap(echo), {"type": "websocket.receive", "text": "hello"}, send=send)
    assert figures(metrics) == ({("", "closed"): (1, 0.0)}, 0.0)


def test_a_cancellation_is_told_apart(wrap, metrics):
    async def main():
        async def send(message):
            pass

        async def app(scope, receive, send):
            await send(ACCEPT)
            await asyncio.Event().wait()

        task = asyncio.create_task(wrap(app)({"type": "websocket", "path": "/"}, None, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert figures(metrics) == ({("", "cancelled"): (1, 0.0)}, 0.0)


def test_a_connection_in_two_middlewares_is_counted_once(wrap, metrics):
    serve(wrap(wrap(closing)))
    assert figures(metrics) == ({("", "closed"): (1, 0.0)}, 0.0)


def test_without_http_metrics_a_connection_passes_straight_through(wrap, metrics):
    assert serve(wrap(closing, http_metrics=False)) == [ACCEPT, CLOSE]
    assert CustomMetrics(metrics).get_all_metrics() == {}


def test_its_route_is_the_frameworks(wrap, metrics):
    class Route:
        path_format = "/ws/{room}"

    async def app(scope, receive, send):
        scope["route"] = Route()
        await closing(scope, receive, send)

    serve(wrap(app))
    assert figures(metrics)[0] == {("/ws/{room}", "closed"): (1, 0.0)}
