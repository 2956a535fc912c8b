"""The ASGI middleware around bare ASGI applications: what passes through it, time, and what the application says."""

import asyncio
import gc
import inspect
import weakref

import pytest

from shmetrics.workers.asgi import MetricsMiddleware
from shmetrics.workers.http_metrics import REQUEST_KEY
from tests.workers.bare_asgi import (
    OK,
    STREAM,
    Client,
    counts,
    in_flight,
    last_seen,
    part,
    recorded,
    replying,
    scope_of,
    series,
    serve,
    start,
    totals,
)

pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def wrap(metrics, clock):
    """A function that puts the middleware around an application, on the test's clock."""
    return lambda app, **options: MetricsMiddleware(app, metrics, clock=clock, **options)


# What the server and the application see ------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [OK, STREAM], ids=["one part", "several"])
def test_messages_pass_unchanged_both_ways(wrap, messages):
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        for message in messages:
            await send(message)

    request = {"type": "http.request", "body": b"x"}
    sent = serve(wrap(app), request)
    assert received[0] is request
    assert all(one is other for one, other in zip(sent, messages, strict=True))


def test_no_await_is_added(wrap):
    """A request whose server never suspends is served in one step, and one whose server does in just as many more."""

    class Suspending:
        def __await__(self):
            yield

    suspensions = 0

    async def send(message):
        for _ in range(suspensions):
            await Suspending()

    for suspensions in (0, 1, 3):
        coroutine = wrap(replying(*STREAM))(scope_of(), None, send)
        steps = 1
        try:
            while True:
                coroutine.send(None)
                steps += 1
        except StopIteration:
            assert steps == 1 + suspensions * len(STREAM)


def test_what_the_application_awaits_for_the_last_part_is_the_servers_own(wrap):
    awaited = object()
    seen = []

    async def app(scope, receive, send):
        seen.append(send(part(b"x")))

    asyncio.run(wrap(app)(scope_of(), None, lambda message: awaited))
    assert seen == [awaited]


def test_an_unknown_scope_passes_straight_through(wrap, metrics):
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    arguments = ({"type": "something.else"}, object(), object())
    asyncio.run(wrap(app)(*arguments))
    assert seen == [arguments]
    assert seen[0][0] == {"type": "something.else"}
    assert totals(metrics) == (0, 0)


def test_it_is_an_asgi_3_application_to_servers_that_look(wrap):
    assert inspect.iscoroutinefunction(wrap(replying(*OK)).__call__)


# Time -----------------------------------------------------------------------------------------------------------------


def test_time_runs_while_the_application_computes(wrap, metrics, clock):
    serve(wrap(replying(*OK, before=lambda: clock.sleep(0.25))))
    assert recorded(metrics)["max_inference_time"] == 0.25


def test_time_runs_until_the_last_part_of_a_stream_and_to_the_first_apart(wrap, metrics, clock):
    serve(wrap(replying(*STREAM, between=lambda: clock.sleep(0.5))))
    assert recorded(metrics)["max_inference_time"] == 1.5
    first = series(metrics, "http_server_time_to_first_byte_seconds")["GET", "200", ""]
    assert (first["count"], first["sum"]) == (1, 0.5)
    whole = series(metrics, "http_server_request_duration_seconds")["GET", "200", ""]
    assert (whole["count"], whole["sum"]) == (1, 1.5)


@pytest.mark.parametrize(
    ("messages", "streams"),
    [
        (OK, False),
        ((start(), part(b"ok", False)), False),
        ((start(), part(b"", True), part(b"ok", True), part()), False),
        ((start(), part(b"", True), part(b"a", True), part(b"b")), True),
        (STREAM, True),
        ((start(), part()), False),
    ],
)
def test_a_response_of_several_parts_with_bytes_is_a_stream(wrap, metrics, messages, streams):
    serve(wrap(replying(*messages)))
    assert counts(metrics, "http_server_time_to_first_byte_seconds") == ({("GET", "200", ""): 1} if streams else {})


def test_a_worker_that_sends_part_after_part_is_seen_to_go_on(wrap, metrics):
    """One that streams to a single client records nothing for as long, and hangs no more than others."""
    seen = []
    messages = (start(), part(b"one", True), part(b"two", True), part(b"three", True), part(b"", True), part())
    serve(wrap(replying(*messages, between=lambda: seen.append(last_seen(metrics)))))
    begun, first, second, third, empty, _ = seen
    assert begun == first < second < third == empty


def test_time_runs_while_the_server_is_slow_to_take_a_part(wrap, metrics, clock):
    async def slow(message):
        clock.sleep(1.0)

    asyncio.run(wrap(replying(*STREAM))(scope_of(), None, slow))
    assert recorded(metrics)["max_inference_time"] == 3.0


def test_what_runs_after_the_response_is_not_part_of_the_request(wrap, metrics, clock):
    """A background task, say."""

    async def app(scope, receive, send):
        for message in OK:
            await send(message)
        assert in_flight(metrics) == 0
        clock.sleep(5.0)

    serve(wrap(app))
    assert recorded(metrics)["max_inference_time"] == 0.0


def test_a_request_is_counted_before_its_client_has_the_response(wrap, metrics):
    seen = []

    async def send(message):
        seen.append(totals(metrics)[0])

    asyncio.run(wrap(replying(*STREAM))(scope_of(), None, send))
    assert seen == [0, 0, 0, 1]


def test_a_response_by_path_is_complete(wrap, metrics):
    """An extension of servers that send files themselves."""
    serve(wrap(replying(start(), {"type": "http.response.pathsend", "path": "/x"})))
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)


# What the application says --------------------------------------------------------------------------------------------


def saying(clock, **fields):
    """An application that takes a second and sets fields of its request."""

    async def app(scope, receive, send):
        clock.sleep(1.0)
        for name, value in fields.items():
            setattr(scope[REQUEST_KEY], name, value)
        for message in OK:
            await send(message)

    return app


def test_what_the_application_does_not_say_is_inference(wrap, metrics, clock):
    serve(wrap(saying(clock, preprocessing_time=0.25, quantization_time=0.125, batch_size=16)))
    figures = recorded(metrics)
    assert figures["max_inference_time"] == 0.625
    assert figures["max_batch_size"] == 16.0
    assert figures["max_total_time"] == 1.0


def test_stages_are_those_of_the_request_in_whatever_task_or_thread_it_is_served(wrap, metrics, clock):
    def in_thread():
        with metrics.stage("quantization"):
            clock.sleep(4.0)

    async def in_task():
        with metrics.stage("preprocessing"):
            clock.sleep(2.0)

    async def app(scope, receive, send):
        await asyncio.create_task(in_task())
        await asyncio.to_thread(in_thread)
        clock.sleep(1.0)
        assert metrics.current_request is scope[REQUEST_KEY]
        await replying(*OK)(scope, receive, send)
        assert metrics.current_request is None

    serve(wrap(app))
    figures = recorded(metrics)
    assert (figures["max_preprocessing_time"], figures["max_quantization_time"]) == (2.0, 4.0)
    assert figures["max_inference_time"] == 1.0


def test_a_measured_function_within_a_request_is_its_inference(wrap, metrics, clock):
    @metrics.measure(batch_size=len)
    async def predict(batch):
        clock.sleep(2.0)

    async def app(scope, receive, send):
        clock.sleep(1.0)
        await predict([1, 2, 3])
        await replying(*OK)(scope, receive, send)

    serve(wrap(app))
    figures = recorded(metrics)
    assert (figures["max_inference_time"], figures["max_batch_size"]) == (2.0, 3.0)


@pytest.mark.parametrize("field", ["batch_size", "preprocessing_time", "quantization_time", "inference_time", "route"])
@pytest.mark.parametrize("garbage", ["x", [1], object(), 1j, 10**400], ids=type)
def test_garbage_never_reaches_the_request(wrap, metrics, clock, field, garbage):
    assert serve(wrap(saying(clock, **{field: garbage}))) == list(OK)
    assert recorded(metrics)["max_inference_time"] == 1.0
    assert in_flight(metrics) == 0


def test_a_request_that_the_application_discards_is_not_counted(wrap, metrics):
    async def app(scope, receive, send):
        scope[REQUEST_KEY].discard()
        await replying(*STREAM)(scope, receive, send)

    serve(wrap(app))
    assert (totals(metrics), counts(metrics), in_flight(metrics)) == ((0, 0), {}, 0)


def test_no_circle_is_left_to_the_garbage_collector(wrap):
    class Scope(dict):
        """One that can be watched."""

    scope = Scope(scope_of())
    watched = weakref.ref(scope)
    gc.disable()
    try:
        client = Client()
        asyncio.run(wrap(replying(*STREAM))(scope, client.receive, client.send))
        del scope
        assert watched() is None
    finally:
        gc.enable()


def test_requests_that_one_task_serves_in_turn_do_not_hang_together(wrap):
    """As on a connection that is kept alive, where the last part of each response is sent by a task of its own."""
    requests = []

    async def app(scope, receive, send):
        requests.append(weakref.ref(scope["shmetrics.request"]))
        await asyncio.create_task(replying(*STREAM)(scope, receive, send))

    async def serve_in_turn():
        measured = wrap(app)
        for _ in range(10):
            await Client().serve(measured)
        gc.collect()
        return sum(request() is not None for request in requests)

    assert asyncio.run(serve_in_turn()) <= 1
