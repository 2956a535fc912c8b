"""A WSGI application that is served in C: whatever it does is understood as in Python, and passed on."""

import gc
import random
import subprocess
import sys
import weakref
from collections import OrderedDict
from contextvars import Context
from types import SimpleNamespace

import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.workers.wsgi import MetricsMiddleware
from tests.conftest import FakeClock

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")


class Odd(str):
    """Text of its own class."""

    __slots__ = ()


class OddList(list):
    """A body that is no plain list."""


class Raising:
    """What Flask leaves, and fails when it is looked at."""

    @property
    def url_rule(self):
        raise RuntimeError("no")


class Stop(BaseException):
    """As GreenletExit is one."""


FLASK = [
    SimpleNamespace(url_rule=SimpleNamespace(rule="/items/<id>")),
    SimpleNamespace(url_rule=SimpleNamespace(rule=Odd("/odd"))),
    SimpleNamespace(url_rule=SimpleNamespace(rule=3)),
    SimpleNamespace(url_rule=None),
    SimpleNamespace(),
    Raising(),
    None,
]
METHODS = ["GET", "GET", "GET", "POST", Odd("GET"), "\xe9", None, 3]
PATHS = ["/", "/", "/a", "", "/caf\xc3\xa9", "/\xff", Odd("/a"), None]
STATUSES = ["200 OK", "200 OK", "404 NOT FOUND", "503 X", "2", "", Odd("200 OK"), "20\xe9", None, 200]
BODIES = [
    lambda: [b"x"],
    lambda: (b"x",),
    lambda: [],
    lambda: OddList([b"x"]),
    lambda: iter([b"a", b"b"]),
    lambda: b"x",
    lambda: None,
]
ERRORS = [ValueError("no"), Stop(), KeyboardInterrupt()]


def environ_of(draw):
    """One of the environs that servers make, or that nobody would."""
    environ = {"REQUEST_METHOD": draw.choice(METHODS), "SCRIPT_NAME": draw.choice(PATHS[3:] + [""] * 9)}
    environ["PATH_INFO"] = draw.choice(PATHS)
    if draw.random() < 0.1:
        del environ[draw.choice(list(environ))]
    return environ


def called(function, *args, **keywords):
    """What it gives, or what it raises."""
    try:
        return function(*args, **keywords)
    except BaseException as error:  # noqa: BLE001  whatever it is, the other way raises the same
        return type(error), str(error)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_an_application_does_is_understood_the_same_and_passed_on(monkeypatch, seed):
    said = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        clock, draw = FakeClock(), random.Random(seed)

        def application(environ, start_response, draw=draw, clock=clock, way=way):
            clock.now += 0.1
            if draw.random() < 0.3:
                environ["werkzeug.request"] = draw.choice(FLASK)
            if draw.random() < 0.1:
                environ["shmetrics.request"].route = "/mine"
            if draw.random() < 0.1:
                environ["shmetrics.request"].batch_size = 4
            for _ in range(draw.choice([1] * 9 + [0, 2])):
                status, more = draw.choice(STATUSES), draw.choice([((),)] * 3 + [((), None), ((), 3), (), ((), 1, 2)])
                told = called(start_response, status, *more)
                said.append((way, told, environ["shmetrics.request"].code, environ["shmetrics.request"].route))
            if draw.random() < 0.1:
                said.append((way, called(start_response, status="200 OK", headers=[])))
            if draw.random() < 0.1:
                raise draw.choice(ERRORS)
            return draw.choice(BODIES)()

        with PerformanceMetrics() as metrics:
            middleware = MetricsMiddleware(application, metrics, clock=clock)
            for _ in range(150):
                environ, told = environ_of(draw), []
                environ = draw.choice([environ] * 30 + [OrderedDict(environ)])
                body = called(middleware, environ, lambda *args, told=told: told.append(args) or "write")
                if hasattr(body, "__next__"):
                    said.append((way, called(list, body), called(body.close)))
                request = environ.get("shmetrics.request")
                kind = body if isinstance(body, (list, tuple)) else type(body).__name__
                said.append((way, kind, told, request and (request.code, request.route, request.done, request.elapsed)))
            statistics = metrics.get_statistics()
            said.append((way, *(statistics[key] for key in ("total_requests", "total_errors", "avg_inference_time"))))
            families = metrics.snapshot().families
            said.append((way, [[(each.labels, each.count) for each in family.series] for family in families[:2]]))
            assert metrics.snapshot().workers[0].in_flight_count == 0
    half = len(said) // 2
    assert [each[1:] for each in said[:half]] == [each[1:] for each in said[half:]]


@pytest.fixture(params=["0", "1"])
def served(request, monkeypatch):
    """A function that makes a middleware, whose first request is over, of an application."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    with PerformanceMetrics() as metrics:

        def make(application):
            first = [lambda *_: [b""]]
            middleware = MetricsMiddleware(lambda *args: first.pop()(*args) if first else application(*args), metrics)
            middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, None)
            return middleware

        make.metrics = metrics
        yield make


ENVIRON = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/"}


def test_an_application_that_calls_itself_without_end_is_an_error(served):
    middleware = served(lambda environ, start: middleware(dict(ENVIRON), start))
    with pytest.raises(RecursionError):
        Context().run(middleware, dict(ENVIRON), None)  # some of the requests are never over


def test_a_middleware_around_another_counts_a_request_once(served):
    inner = served(lambda environ, start: [b"x"])
    outer = served(inner)
    before = served.metrics.get_statistics()["total_requests"]
    assert outer(dict(ENVIRON), None) == [b"x"]
    assert served.metrics.get_statistics()["total_requests"] == before + 1


def test_what_is_said_of_a_request_is_recorded_when_it_ends(served):
    def application(environ, start):
        request = environ["shmetrics.request"]
        request.batch_size = 16
        request.finish = lambda: (ended.append(request), type(request).finish(request))
        return [b"x"]

    ended = []
    assert served(application)(dict(ENVIRON), None) == [b"x"]
    assert [request.done for request in ended] == [True]
    assert served.metrics.get_statistics()["avg_batch_size"] == 8.5


def test_an_error_keeps_its_trace_and_its_cause(served):
    def application(environ, start):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("then") from error

    with pytest.raises(ValueError, match="then") as raised:
        served(application)(dict(ENVIRON), None)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.traceback[-1].name == "application"
    assert served.metrics.get_statistics()["total_errors"] == 1


def test_what_a_server_never_gives_is_an_error(served):
    middleware = served(lambda *_: [b""])
    for wrong in ((), (ENVIRON,), (None, None), (3, None), ({}, None, None)):
        assert called(middleware, *wrong)[0] in (TypeError, AttributeError)
    for wrong in ((middleware,), (middleware, None, None), ()):
        assert called(middleware._ahead, *wrong)[0] in (TypeError, AttributeError)


def test_a_middleware_is_collected_with_the_circle_that_it_is_in(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")

    class Application:
        def __call__(self, environ, start):
            self.environ, self.start = environ, start
            return [b""]

    with PerformanceMetrics() as metrics:
        application = Application()
        application.middleware = MetricsMiddleware(application, metrics)
        for _ in range(2):
            application.middleware(dict(ENVIRON), print)
        gone = weakref.ref(application)
        del application
        gc.collect()
        assert gone() is None


def test_what_ends_a_request_that_raised_sees_the_error_as_in_an_except_clause(served):
    def application(environ, start):
        request = environ["shmetrics.request"]
        request.end = lambda error: seen.append((error, sys.exc_info()[1], error.__traceback__ is not None))
        raise ValueError("no")

    seen, before = [], sys.exc_info()[1]
    with pytest.raises(ValueError, match="no") as raised:
        served(application)(dict(ENVIRON), None)
    assert seen == [(raised.value, raised.value, True)]
    assert sys.exc_info()[1] is before


def test_an_error_of_what_ends_a_request_has_that_of_the_application_as_its_context(served):
    def application(environ, start):
        environ["shmetrics.request"].end = lambda error: {}["end"]
        raise ValueError("no")

    with pytest.raises(KeyError, match="end") as raised:
        served(application)(dict(ENVIRON), None)
    assert isinstance(raised.value.__context__, ValueError)


def test_what_a_route_has_instead_of_a_text_is_asked_for_once(served):
    class Rule:
        @property
        def rule(self):
            asked.append(self)

    def application(environ, start):
        environ["werkzeug.request"] = SimpleNamespace(url_rule=Rule())
        start("200 OK", [])
        return [b""]

    asked = []
    served(application)(dict(ENVIRON), lambda *_: None)
    assert len(asked) == 1


def test_a_clock_that_a_test_has_put_in_the_place_of_the_monotonic_one_is_asked():
    code = (
        "import time; time.monotonic = lambda: 100.0\n"
        "from shmetrics import PerformanceMetrics; from shmetrics.workers.http_metrics import source_class\n"
        "with PerformanceMetrics() as metrics:\n"
        "    request = source_class()(metrics, time.monotonic, None).request('GET', '/')\n"
        "    print(request._start); request.finish()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "100.0\n"
