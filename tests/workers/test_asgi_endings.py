"""How requests end under the ASGI middleware: errors, clients that go away, cancellations."""

import asyncio
import http
from contextlib import nullcontext

import pytest

from shmetrics.workers.asgi import MetricsMiddleware
from tests.workers.bare_asgi import (
    GONE,
    OK,
    STREAM,
    Client,
    aborted,
    counts,
    in_flight,
    part,
    recorded,
    replying,
    scope_of,
    serve,
    start,
    totals,
)

pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def wrap(metrics, clock):
    """A function that puts the middleware around an application, on the test's clock."""
    return lambda app, **options: MetricsMiddleware(app, metrics, clock=clock, **options)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (304, 0), (404, 0), (500, 1), (503, 1), (599, 1)])
def test_a_status_of_5xx_is_an_error(wrap, metrics, status, errors):
    serve(wrap(replying(start(status), part(b"x"))))
    assert recorded(metrics)["total_errors"] == errors
    assert counts(metrics) == {("GET", str(status), ""): 1}


@pytest.mark.parametrize(
    ("status", "label"), [(http.HTTPStatus.NOT_FOUND, "404"), (999, ""), (0, ""), ("200", "200"), (None, "")]
)
def test_a_status_is_three_digits_or_nothing(wrap, metrics, status, label):
    serve(wrap(replying(start(status), part(b"x"))))
    assert counts(metrics) == {("GET", label, ""): 1}


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("before", "status"), [((), "500"), ((start(),), "200"), (STREAM[:2], "200"), (OK, "200")], ids=range(4)
)
def test_an_exception_is_an_error_and_reaches_the_server_unchanged(wrap, metrics, before, status, error):
    """Before the response has begun, servers answer 500; after its end it is an error still."""

    async def app(scope, receive, send):
        for message in before:
            await send(message)
        raise error

    async def main():
        with pytest.raises(type(error)) as caught:
            await Client().serve(wrap(app))
        assert caught.value is error

    asyncio.run(main())
    assert recorded(metrics)["total_errors"] == 1
    assert counts(metrics) == {("GET", status, ""): 1}
    assert (aborted(metrics), in_flight(metrics)) == ({}, 0)


@pytest.mark.parametrize(("messages", "status"), [((), "500"), ((start(),), "200"), (STREAM[:3], "200")])
def test_a_response_that_stays_incomplete_is_an_error(wrap, metrics, messages, status):
    serve(wrap(replying(*messages)))
    assert recorded(metrics)["total_errors"] == 1
    assert (counts(metrics), aborted(metrics)) == ({("GET", status, ""): 1}, {})


def test_a_second_start_does_not_count(wrap, metrics):
    """It is an error that the server raises; the client has the first."""

    class Strict(Client):
        async def send(self, message):
            if message["type"] == "http.response.start" and self.sent:
                raise RuntimeError("started already")
            await super().send(message)

    async def app(scope, receive, send):
        await send(start(201))
        with pytest.raises(RuntimeError, match="started already"):
            await send(start(500))
        await send(part(b"x"))

    asyncio.run(Strict().serve(wrap(app)))
    assert (counts(metrics), totals(metrics)) == ({("GET", "201", ""): 1}, (1, 0))


def test_parts_after_the_end_do_not_count(wrap, metrics, clock):
    def later():
        clock.sleep(1.0)

    serve(wrap(replying(*OK, part(b"more", True), part(b"again"), between=later)))
    assert recorded(metrics)["max_inference_time"] == 1.0
    assert counts(metrics) == {("GET", "200", ""): 1}


# Clients that go away, and cancellations ------------------------------------------------------------------------------


async def streaming_until_gone(scope, receive, send):
    await send(start())
    await send(part(b"one", True))
    assert await receive() == GONE


async def raising_when_gone(scope, receive, send):
    await receive()
    raise RuntimeError("as frameworks do")


async def completing_when_gone(scope, receive, send):
    await receive()
    for message in OK:
        await send(message)


@pytest.mark.parametrize("app", [streaming_until_gone, raising_when_gone, completing_when_gone])
def test_a_client_that_goes_away_is_no_error_and_counted_apart(wrap, metrics, app):
    expected = pytest.raises(RuntimeError, match="as frameworks do") if app is raising_when_gone else nullcontext()
    with expected:
        serve(wrap(app), GONE)
    assert totals(metrics) == (1, 0)
    assert aborted(metrics) == {("GET", "", "disconnect"): 1}
    assert in_flight(metrics) == 0


@pytest.mark.parametrize("dying_at", [0, 1, 2])
def test_a_server_that_says_so_by_an_oserror_is_understood(wrap, metrics, dying_at):
    class Broken(Client):
        async def send(self, message):
            if len(self.sent) == dying_at:
                raise BrokenPipeError("gone")
            await super().send(message)

    with pytest.raises(BrokenPipeError, match="gone"):
        asyncio.run(Broken().serve(wrap(replying(*STREAM)), scope_of(asgi={"spec_version": "2.4"})))
    assert totals(metrics) == (1, 0)
    assert aborted(metrics) == {("GET", "", "disconnect"): 1}


def test_a_server_that_fails_at_the_last_part_has_a_complete_response(wrap, metrics):
    class Broken(Client):
        async def send(self, message):
            if self.sent:
                raise BrokenPipeError("gone")
            await super().send(message)

    with pytest.raises(BrokenPipeError, match="gone"):
        asyncio.run(Broken().serve(wrap(replying(*OK))))
    assert (totals(metrics), aborted(metrics)) == ((1, 0), {})


def test_a_disconnect_after_the_response_is_how_every_request_ends(wrap, metrics):
    async def app(scope, receive, send):
        for message in OK:
            await send(message)
        assert await receive() == GONE
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        serve(wrap(app), GONE)
    assert (totals(metrics), aborted(metrics)) == ((1, 1), {})


@pytest.mark.parametrize("before", [(), STREAM[:2]], ids=["before the response", "in a stream"])
def test_a_cancellation_is_no_error_and_counted_apart(wrap, metrics, before):
    async def app(scope, receive, send):
        for message in before:
            await send(message)
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(Client().serve(wrap(app)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert in_flight(metrics) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert totals(metrics) == (1, 0)
    assert aborted(metrics) == {("GET", "", "cancelled"): 1}
    assert counts(metrics) == {("GET", "200" if before else "", ""): 1}
    assert in_flight(metrics) == 0


def test_a_coroutine_that_is_dropped_is_recorded(wrap, metrics):
    async def app(scope, receive, send):
        await asyncio.sleep(0)

    coroutine = wrap(app)(scope_of(), None, None)
    coroutine.send(None)
    coroutine.close()
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)
    assert aborted(metrics) == {("GET", "", "cancelled"): 1}
