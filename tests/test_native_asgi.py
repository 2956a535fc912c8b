"""What an ASGI application sends, looked at in C: it is understood as in Python, and passed on."""

import contextlib
import copy
import gc
import itertools
import random
import weakref
from types import MappingProxyType

import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.workers.asgi import MetricsMiddleware
from shmetrics.workers.http_metrics import source_class
from tests.conftest import FakeClock

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")


class Odd(str):
    """Text of its own class."""

    __slots__ = ()


class Route:
    """What a router leaves of a request."""

    def __init__(self, path_format):
        self.path_format = path_format


class Raising:
    """A route that fails when it is looked at."""

    @property
    def path_format(self):
        raise RuntimeError("no")


ROUTES = [None, Route("/items/{id}"), Route("/"), Route(None), Route(Odd("/{odd}")), object()]
SCOPES = [
    {},
    {"path_template": "/{id}"},
    {"path_template": None},
    *({"route": route} for route in ROUTES),
    *({"route": ROUTES[1], "fastapi": more} for more in ({}, 3, {"effective_route_context": ROUTES[2]})),
    *(
        {"route": ROUTES[1], "app_root_path": outside, "root_path": inside, "path_params": params}
        for outside in ("", "/out", None, 3)
        for inside in ("", "/out", "/out/mount", Odd(""))
        for params in ({}, {"id": "1"})
    ),
    {"route": ROUTES[1], "app_root_path": ""},
]
STATUSES = [200, 404, 503, "200", None, 10**30]
BODIES = [{}, {"body": b""}, {"body": b"x"}]
MORE = [{}, {"more_body": False}, {"more_body": True}, {"more_body": 0}, {"more_body": "yes"}]
TYPES = ["http.response.start", "http.response.body", Odd("http.response.start"), "http.response.pathsend", "other", 3]


def messages(draw):
    """Endless messages; most are what applications send."""
    while True:
        kind = draw.choice(TYPES[:2] * 8 + TYPES)
        message = {"type": kind, **draw.choice(BODIES), **draw.choice(MORE[:2] * 3 + MORE)}
        if kind in TYPES[:1] and draw.random() < 0.95:
            message["status"] = draw.choice(STATUSES[:1] * 5 + STATUSES)
        yield draw.choice([message] * 30 + [MappingProxyType(message), {}, None])


def begun(middleware, scope, send, receive=None):
    """A request of such a scope has begun: what measures it, and what its application sends by."""
    for name, said in (("type", "http"), ("method", "GET"), ("path", "/a")):
        scope.setdefault(name, said)
    request, _, measured_send = middleware._ahead(middleware, scope, receive, send)
    return request, measured_send


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("raises", [False, True, 0])
def test_whatever_an_application_sends_is_understood_the_same_and_passed_on(monkeypatch, raises, seed):
    said = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        clock, draw = FakeClock(), random.Random(seed)
        with PerformanceMetrics() as metrics:
            middleware = MetricsMiddleware(None, metrics, clock=clock)
            middleware._raises = raises
            for _ in range(200):
                scope, passed = dict(draw.choice(SCOPES)), []
                request, send = begun(middleware, scope, passed.append)
                for message in itertools.islice(messages(draw), draw.randrange(1, 5)):
                    try:
                        sent = send(message)
                    except Exception as error:  # noqa: BLE001  whatever it is, the other way raises the same
                        said.append((way, type(error), str(error)))
                    else:
                        with contextlib.suppress(StopIteration, AttributeError, TypeError):
                            sent.send(None)
                    clock.now += 0.1
                    said.append((way, request.code, request.route, request.first_byte, request.done, len(passed)))
                request.finish()
                said.append((way, passed))
            statistics = metrics.get_statistics()
            said.append((way, *(statistics[key] for key in ("total_requests", "total_errors", "avg_inference_time"))))
    half = len(said) // 2
    assert [each[1:] for each in said[:half]] == [each[1:] for each in said[half:]]


def called(function, *args, **keywords):
    """What it gives, or what it raises."""
    try:
        return function(*args, **keywords)
    except Exception as error:  # noqa: BLE001  whatever it is, the other way raises the same
        return type(error)


WRONG = [
    ({"type": "http"}, None, None),
    ({"type": "http", "path": "/"}, None, None),
    ({"type": "http", "method": "GET"}, None, None),
    ({}, None, None),
    (None, None, None),
    ({"type": "http"}, None),
    (),
]


@pytest.mark.parametrize("way", ["0", "1"])
def test_what_no_request_can_be_begun_of_is_an_error_each_way(monkeypatch, way):
    monkeypatch.setenv(native.VARIABLE, way)
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics)
        for _ in range(2):  # the first request is served by Python, each way
            assert [called(middleware._ahead, middleware, *wrong) for wrong in WRONG] == 4 * [KeyError] + 3 * [
                TypeError
            ]
            assert called(middleware._ahead, middleware, {"type": "http"}, receive=None) is TypeError
            begun(middleware, {}, None)[0].finish()
        assert metrics.snapshot().workers[0].in_flight_count == 0


@pytest.mark.parametrize("way", ["0", "1"])
def test_what_is_no_request_or_is_measured_or_skipped_is_not_begun(monkeypatch, way):
    monkeypatch.setenv(native.VARIABLE, way)
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics)
        skipping = MetricsMiddleware(None, metrics, skip_paths=["/a"])
        for each in (middleware, skipping):
            request, _ = begun(each, {"path": "/other"}, None)
            assert each._ahead(each, {"type": "lifespan"}, None, None) is None
            scope = {"type": "http", "method": "GET", "path": "/", "shmetrics.request": request}
            assert each._ahead(each, scope, None, None) is None
            request.finish()
            assert each._ahead(each, scope, None, None)[0] is not request
        assert skipping._ahead(skipping, {"type": "http", "method": "GET", "path": "/a"}, None, None) is None


@pytest.mark.parametrize("way", ["0", "1"])
def test_what_an_application_receives_by_takes_no_more_than_the_servers_does(monkeypatch, way):
    async def receive():
        return {"type": "http.disconnect"}

    monkeypatch.setenv(native.VARIABLE, way)
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics)
        for _ in range(2):
            request, measured, send = middleware._ahead(
                middleware, {"type": "http", "method": "GET", "path": "/"}, receive, None
            )
            with pytest.raises(StopIteration) as received:
                measured().send(None)
            assert (received.value.value, request.aborted) == ({"type": "http.disconnect"}, "disconnect")
            for wrong in ((1,), tuple(range(9))):
                assert called(measured, *wrong) is TypeError
            for wrong in ((), (1, 2), tuple(range(9))):
                assert called(send, *wrong) is TypeError
            assert called(send, message={}) is TypeError
            request.finish()


def test_what_an_application_sends_by_is_collected_with_the_circle_that_it_is_in(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")

    class Thing:
        def __call__(self, message): ...

    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics)
        for _ in range(2):
            thing = Thing()
            request, thing.send = begun(middleware, {}, thing)
            request.finish()
            gone = weakref.ref(thing)
            del thing
            gc.collect()
            assert gone() is None


# Odd messages ---------------------------------------------------------------------------------------------------------


class Key:
    """Of the hash of a text, with which it is compared; and then it does something."""

    def __init__(self, text):
        self.hashed = hash(text)
        self.action = lambda: None

    def __hash__(self):
        return self.hashed

    def __eq__(self, other):
        self.action()
        return False


@pytest.fixture(params=["0", "1"])
def begin(request, monkeypatch):
    """A function that begins a request, and gives it and what an application sends by."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics, http_metrics=False, clock=FakeClock())
        middleware._raises = False
        yield lambda scope, send: begun(middleware, scope, send)


class Interrupt(BaseException):
    """As KeyboardInterrupt is one."""


def test_an_interrupt_while_a_message_is_looked_at_is_not_lost(begin):
    def interrupt():
        raise Interrupt

    sent, key = [], Key("type")
    message = {key: 1, "type": "http.response.start", "status": 200}
    key.action = interrupt
    with pytest.raises(Interrupt):
        begin({}, sent.append)[1](message)
    assert sent == []


def test_what_a_scope_says_of_its_request_meanwhile_stands(begin):
    key = Key("route")
    made, send = begin({key: 1}, print)
    key.action = lambda: setattr(made, "code", "odd")
    send({"type": "http.response.start", "status": 200})
    assert made.code == "odd"


def test_senders_within_senders_without_end_are_an_error(begin):
    send = list
    for _ in range(20_000):
        _, send = begin({}, send)
    with pytest.raises(RecursionError):
        send({"type": "http.response.start", "status": 200})


@pytest.mark.parametrize(
    ("within", "key", "gone"),
    [
        (None, "fastapi", "route"),
        (None, "root_path", "app_root_path"),
        ("fastapi", "effective_route_context", "route"),
    ],
)
def test_what_a_scope_loses_while_its_route_is_looked_for_may_be_lost(begin, within, key, gone):
    odd, scope = Key(key), {"route": Route("/items/{id}"), "app_root_path": "".join(["/", "out"]), "fastapi": {}}
    odd.action = lambda: scope.pop(gone, None)
    of = scope if within is None else scope[within]
    of.pop(key, None)
    of[odd] = 1
    request, send = begin(scope, print)
    send({"type": "http.response.start", "status": 200})
    assert request.route in ("", "/items/{id}")
    assert gone not in scope


def test_a_chain_of_what_applications_send_by_is_let_go_of_link_by_link(begin):
    send = list
    for _ in range(200_000):
        _, send = begin({}, send)
    del send
    gc.collect()


def test_what_an_application_sends_by_can_be_referred_to_weakly(begin):
    _, send = begin({}, print)
    told = []
    reference = weakref.ref(send, told.append)
    assert reference() is send
    del send
    assert told == [reference]


def test_a_copy_of_a_middleware_is_one_of_its_own(begin):
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(None, metrics)
        begun(middleware, {}, None)[0].finish()
        other = copy.copy(middleware)
        with PerformanceMetrics() as others:
            other._source = source_class()(others, FakeClock(), None)
            begun(other, {}, None)[0].finish()
            assert others.get_statistics()["total_requests"] == 1
