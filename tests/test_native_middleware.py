"""Both middlewares are called by C as their class says: other arguments, classes and states are left to Python."""

import asyncio
import copy
import gc

import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.workers import asgi, wsgi
from shmetrics.workers.http_metrics import HttpMiddleware
from tests.processes import in_forked_child

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")


async def send(message):
    """Of a server."""


def start_response(status, headers, exc_info=None):
    """Of a server."""


async def asgi_app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi_app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


def call_asgi(middleware, **keywords):
    scope = {"type": "http", "method": "GET", "path": "/", "asgi": {"spec_version": "2.3"}}
    names, values = ("scope", "receive", "send"), (scope, None, send)
    asyncio.run(call(middleware, names, values, **keywords))
    return scope["shmetrics.request"].done


def call_wsgi(middleware, **keywords):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    assert call(middleware, ("environ", "start_response"), (environ, start_response), **keywords) == [b"ok"]
    return environ["shmetrics.request"].done


def call(middleware, names, values, *, named=0):
    """With so many of the last arguments by their names."""
    count = len(names) - named
    return middleware(*values[:count], **dict(zip(names[count:], values[count:], strict=True)))


KINDS = {"ASGI": (asgi.MetricsMiddleware, asgi_app, call_asgi), "WSGI": (wsgi.MetricsMiddleware, wsgi_app, call_wsgi)}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def metrics():
    with PerformanceMetrics() as made:
        yield made


@pytest.mark.parametrize("named", [0, 1, 2])
def test_arguments_may_have_names(kind, metrics, named):
    made_by, app, serve = kind
    middleware = made_by(app, metrics)
    assert [serve(middleware, named=named) for _ in range(3)] == [True] * 3
    assert metrics.total_requests == 3


def test_too_few_and_too_many_arguments_are_the_errors_of_python(kind, metrics):
    made_by, app, _ = kind
    middleware = made_by(app, metrics)
    with pytest.raises(TypeError, match=r"__call__\(\) missing \d required positional argument"):
        middleware({})
    with pytest.raises(TypeError, match=r"__call__\(\) takes \d positional arguments but 8 were given"):
        middleware(*range(7))
    with pytest.raises(TypeError, match=r"__call__\(\) got an unexpected keyword argument 'odd'"):
        middleware({}, odd=1)


def test_a_subclass_is_called_as_it_says(kind, metrics):
    made_by, app, serve = kind
    called = []

    class Mine(made_by):
        def __call__(self, *args):
            called.append(args)
            return super().__call__(*args)

    class Plain(made_by):
        pass

    assert serve(Mine(app, metrics))
    assert serve(Plain(app, metrics))
    assert len(called) == 1
    assert metrics.total_requests == 2


def test_a_class_whose_call_was_changed_is_called_by_that(kind, metrics):
    """And by Python when it was put back, so this is for a process of its own."""
    made_by, app, serve = kind
    middleware = made_by(app, metrics)

    def change():
        call, made_by.__call__ = made_by.__call__, lambda self, *args: args
        assert middleware(1, 2, 3) == (1, 2, 3)
        made_by.__call__ = call
        assert serve(middleware)

    in_forked_child(change)


def test_a_class_without_a_call_is_not_callable(kind, metrics):
    made_by, app, _ = kind
    middleware = made_by(app, metrics)

    def take_away():
        del made_by.__call__
        with pytest.raises(TypeError, match="object is not callable"):
            middleware({}, None)

    in_forked_child(take_away)


def test_what_is_ahead_of_one_that_is_gone_serves_no_other_thing(kind, metrics):
    """At whose address there may be an object of any class."""

    class Other:
        __slots__ = ("__dict__", "__weakref__", "a", "b", "c")

    made_by, app, serve = kind
    for _ in range(50):
        middleware = made_by(app, metrics)
        assert [serve(middleware) for _ in range(3)] == [True] * 3
        ahead, address = middleware._ahead, id(middleware)
        del middleware
        gc.collect()
        others = [Other() for _ in range(100)]
        for other in others:
            if id(other) == address:
                other.a = other.b = other.c = 12345
                args = ({"type": "http", "method": "GET", "path": "/"}, None)
                with pytest.raises((AttributeError, TypeError)):
                    ahead(other, *args, *([None] if made_by is asgi.MetricsMiddleware else []))
                return


def test_a_copy_serves_and_counts_in_the_same_hub(kind, metrics):
    made_by, app, serve = kind
    middleware = made_by(app, metrics)
    assert serve(middleware)
    assert serve(copy.copy(middleware))
    assert metrics.total_requests == 2


@pytest.mark.parametrize("name", ["_app", "_ahead"])
def test_what_was_taken_away_is_missed_by_its_name(kind, metrics, name):
    made_by, app, serve = kind
    middleware = made_by(app, metrics)
    assert serve(middleware)
    delattr(middleware, name)
    for _ in range(2):
        with pytest.raises(AttributeError, match=name):
            serve(middleware)
    with pytest.raises(AttributeError, match=name):
        delattr(middleware, name)


@pytest.mark.parametrize("ahead", [None, 3, "text", lambda *_: None])
def test_what_is_ahead_may_be_anything_and_is_called_by_python(kind, metrics, ahead):
    made_by, app, serve = kind
    middleware = made_by(app, metrics)
    middleware._ahead = ahead
    with pytest.raises((TypeError, KeyError, AssertionError)):
        serve(middleware)


def test_one_that_nobody_initialized_is_an_error(kind):
    made_by, _, serve = kind
    with pytest.raises(AttributeError):
        serve(made_by.__new__(made_by))


def test_what_one_holds_goes_with_it(kind, metrics):
    made_by, app, serve = kind

    class Application:
        def __call__(self, *args):
            return app(*args)

    application = Application()
    application.middleware = made_by(application, metrics)  # a cycle
    assert serve(application.middleware)
    known = {id(application)}
    del application
    gc.collect()
    assert not any(id(each) in known and type(each) is Application for each in gc.get_objects())


@pytest.mark.parametrize("wrong", [None, 3, int, object, native.Middleware, type("Other", (), {}), HttpMiddleware])
def test_only_a_class_of_middlewares_is_called_by_c(wrong):
    with pytest.raises(ImportError, match="wanted a class of middlewares"):
        native.tell("call_directly", wrong)
