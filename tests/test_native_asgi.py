"""What an ASGI application sends, looked at in C: it is understood as in Python, and passed on."""

import contextlib
import gc
import itertools
import random
import weakref
from functools import partial
from types import MappingProxyType

import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.workers.asgi import send_measured
from shmetrics.workers.http_metrics import HttpMetrics, source_class
from tests.conftest import FakeClock

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")


class Odd(str):
    """Text of its own class."""

    __slots__ = ()


SCOPES = [
    {},
    {"route": None},
    {"path_template": "/{id}"},
    {"route": type("Route", (), {"path_format": "/items/{id}"})()},
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


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("raises", [False, True, 0])
def test_whatever_an_application_sends_is_understood_the_same_and_passed_on(monkeypatch, raises, seed):
    said = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        clock, draw = FakeClock(), random.Random(seed)
        with PerformanceMetrics() as metrics:
            source = source_class()(metrics, clock, HttpMetrics(metrics, (0.5, 1.0)))
            for _ in range(200):
                request = source.request("GET", "/a")
                scope, passed = dict(draw.choice(SCOPES)), []
                send = native.instead("Sender", partial)(send_measured, request, scope, passed.append, raises)
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


def test_a_sender_says_what_it_wants(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")
    bind = native.instead("Sender", partial)
    for wrong in ((), (print,), (print,) * 6):
        with pytest.raises(TypeError, match="wanted a function and 4 arguments"):
            bind(*wrong)
    with pytest.raises(TypeError, match="wanted a function"):
        bind(print, 1, 2, 3, 4, sep="")
    send = bind(lambda *args: args, 1, 2, 3, 4)
    for wrong in ({"args": (1, 2)}, {"args": ()}, {"args": (1,), "more": 1}):
        with pytest.raises(TypeError, match="takes one argument, a message"):
            send(*wrong.pop("args"), **wrong)
    assert send("x") == (1, 2, 3, 4, "x")


def test_a_sender_is_collected_with_the_circle_that_it_is_in(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")

    class Thing:
        pass

    thing = Thing()
    thing.send = native.instead("Sender", partial)(print, thing, {"of": thing}, thing, thing)
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
def request_and_sender(request, monkeypatch):
    """A request, and a function that makes what an application sends by."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    with PerformanceMetrics() as metrics:
        made = source_class()(metrics, FakeClock(), None).request("GET", "/")
        yield made, lambda scope, send: native.instead("Sender", partial)(send_measured, made, scope, send, False)


class Interrupt(BaseException):
    """As KeyboardInterrupt is one."""


def test_an_interrupt_while_a_message_is_looked_at_is_not_lost(request_and_sender):
    def interrupt():
        raise Interrupt

    _, sender = request_and_sender
    sent, key = [], Key("type")
    message = {key: 1, "type": "http.response.start", "status": 200}
    key.action = interrupt
    with pytest.raises(Interrupt):
        sender({}, sent.append)(message)
    assert sent == []


def test_what_a_scope_says_of_its_request_meanwhile_stands(request_and_sender):
    made, sender = request_and_sender
    key = Key("route")
    key.action = lambda: setattr(made, "code", "odd")
    sender({key: 1}, print)({"type": "http.response.start", "status": 200})
    assert made.code == "odd"


def test_senders_within_senders_without_end_are_an_error(request_and_sender):
    _, sender = request_and_sender
    send = list
    for _ in range(20_000):
        send = sender({}, send)
    with pytest.raises(RecursionError):
        send({"type": "http.response.start", "status": 200})
