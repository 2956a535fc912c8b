"""What is awaited while the ASGI middleware serves, in C: to servers and applications it is a coroutine of Python's."""

import asyncio
import collections.abc
import contextlib
import copy
import gc
import inspect
import itertools
import random
import sys
import warnings
import weakref

import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.workers.asgi import MetricsMiddleware
from tests.conftest import FakeClock
from tests.processes import in_forked_child
from tests.workers.bare_asgi import in_flight

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")

START, BODY = {"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body"}
ENDS = [BODY | {"more_body": True}, {"type": "http.response.start", "status": 503}]


class Suspending:
    """Waits once, for what it is sent."""

    def __await__(self):
        return (yield "waiting")


class Stop(BaseException):
    """As GreenletExit is one."""


async def send(_message):
    """A server's."""


async def suspending(scope, receive, send):
    """Waits twice, and says what it got."""
    scope["got"].append(await Suspending())
    await send(START)
    scope["got"].append(await Suspending())
    await send(BODY)


async def stubborn(scope, receive, send):
    """Goes on, whatever is thrown."""
    for _ in range(3):
        try:
            scope["got"].append(await Suspending())
        except BaseException as error:  # noqa: BLE001  stubborn
            scope["got"].append(type(error))


async def turning(scope, receive, send):
    """Raises another error than the one that it gets."""
    try:
        await Suspending()
    except BaseException as error:
        raise LookupError("turned") from error


async def tidy(scope, receive, send):
    """Ends well when it is thrown at."""
    try:
        await Suspending()
    except Stop:
        await send(START)
        await send(BODY)


async def cleaning(scope, receive, send):
    """Has something to do at its end."""
    try:
        await Suspending()
    finally:
        scope["got"].append("cleaned")


async def failing(scope, receive, send):
    """Raises at once."""
    await send(START)
    raise ZeroDivisionError("application")


async def hanging_up(scope, receive, send):
    """Begins a response, and that is all."""
    await send(START)


async def straight(scope, receive, send):
    """Answers without waiting."""
    await send(START)
    await send(BODY)
    return "something"


async def stopping(scope, receive, send):
    """Raises what would end an iterator."""
    raise StopIteration(3)


def raising(scope, receive, send):
    """Raises before there is anything to await."""
    raise ZeroDivisionError("no coroutine")


def ending(scope, receive, send):
    """Raises what would end an iterator, before there is anything to await."""
    raise StopIteration(42)


def nothing(scope, receive, send):
    """Gives nothing that can be awaited."""


class Awaitable:
    """What can be awaited, and is no coroutine."""

    def __init__(self, scope, receive, send):
        self.scope = scope

    def __await__(self):
        self.scope["got"].append((yield "its own"))
        return 5


APPS = [
    suspending,
    stubborn,
    turning,
    tidy,
    cleaning,
    failing,
    hanging_up,
    straight,
    stopping,
    ending,
    raising,
    nothing,
    Awaitable,
]
STEPS = {
    "await": lambda served: served.send(None),
    "send": lambda served: served.send(7),
    "raise": lambda served: served.throw(ValueError("thrown")),
    "raise a type": lambda served: served.throw(KeyError),
    "stop": lambda served: served.throw(Stop("stop")),
    "cancel": lambda served: served.throw(asyncio.CancelledError()),
    "exit": lambda served: served.throw(GeneratorExit()),
    "the client has gone": lambda served: served.throw(ConnectionResetError()),
    "throw nothing": lambda served: served.throw(3),
    "throw nothing at all": lambda served: served.throw(),
    "throw too much": lambda served: served.throw(ValueError, ValueError("a"), None, 3),
    "throw without a traceback": lambda served: served.throw(KeyError, KeyError(1), 5),
    "throw three": lambda served: served.throw(KeyError, KeyError(1), None),
    "close": lambda served: served.close(),
}


def outcome(step, served):
    """What a step gives or raises."""
    try:
        return "given", step(served)
    except BaseException as error:  # noqa: BLE001  whatever it is, the other way raises the same
        return type(error), str(error), getattr(error, "value", None), type(error.__cause__), type(error.__context__)


def served_by(middleware, steps, kind):
    """All that comes of these steps, and what is recorded."""
    scope, metrics = {"type": kind, "method": "GET", "path": "/", "got": []}, middleware.metrics
    served, said = middleware(scope, None, send), []
    for step in steps:
        middleware.clock.now += 0.1
        said.append(outcome(STEPS[step], served))
    said.append((served.cr_running, served.cr_await is None))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del served
    said += [each.category for each in warned]
    statistics, request = metrics.get_statistics(), scope.get("shmetrics.request")
    said.append([statistics[key] for key in ("total_requests", "total_errors", "avg_inference_time")])
    said.append(in_flight(metrics))
    said.append(request and (request.done, request.code, request.aborted))
    return said, scope["got"]


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
@pytest.mark.parametrize("kind", ["http", "lifespan"])
def test_whatever_is_done_to_it_comes_to_the_same_as_with_a_coroutine(monkeypatch, app, kind):
    """Every two steps, and some longer ways."""
    draw, unraisable, made = random.Random(app.__name__), [], []
    ways = [*itertools.product(STEPS, repeat=2), (), *((step,) for step in STEPS)]
    ways += [("await", *draw.choices([*STEPS], k=3)) for _ in range(60)]
    monkeypatch.setattr("sys.unraisablehook", lambda what: unraisable.append(repr(what.exc_value)))
    with PerformanceMetrics() as one, PerformanceMetrics() as other:
        for way, metrics in (("0", one), ("1", other)):
            monkeypatch.setenv(native.VARIABLE, way)
            clock = FakeClock()
            made.append(MetricsMiddleware(app, metrics, clock=clock))
            made[-1].clock = clock
        for steps in ways:
            found = []
            for middleware in made:
                found.append((served_by(middleware, steps, kind), unraisable.copy()))
                unraisable.clear()
            assert found[0] == found[1], steps


@pytest.fixture
def wrap(monkeypatch):
    """A function that puts the middleware around an application, in C."""
    monkeypatch.setenv(native.VARIABLE, "1")
    with PerformanceMetrics() as metrics:
        yield lambda app=suspending, made_by=MetricsMiddleware: made_by(app, metrics)


def scope_of():
    return {"type": "http", "method": "GET", "path": "/", "got": []}


def test_it_is_a_coroutine_to_those_who_ask(wrap):
    served = wrap()(scope_of(), None, send)
    assert type(served).__name__ == "Served"
    assert isinstance(served, collections.abc.Coroutine)
    assert asyncio.iscoroutine(served)
    assert inspect.isawaitable(served)
    served.close()


def test_a_task_of_its_own_serves_it(wrap):
    scope = scope_of()

    async def server():
        task = asyncio.create_task(wrap(straight)(scope, None, send))
        assert repr(task)
        assert task.get_stack() == []
        return await task

    assert asyncio.run(server()) is None
    assert scope["shmetrics.request"].done


def test_it_begins_in_the_context_of_whoever_awaits_it(wrap):
    """So a stage of the application finds its request, and one of the server's does not."""
    scope = scope_of()
    served = wrap()(scope, None, send)
    assert "shmetrics.request" not in scope
    served.send(None)
    assert not scope["shmetrics.request"].done
    served.close()


def test_while_it_waits_its_frame_is_the_applications(wrap):
    served = wrap()(scope_of(), None, send)
    assert served.cr_frame is None
    served.send(None)
    assert served.cr_frame.f_code is suspending.__code__
    assert served.cr_code is suspending.__code__
    assert served.cr_await is not None
    served.close()
    assert served.cr_frame is None


def test_it_cannot_be_awaited_within_itself(wrap):
    async def within(scope, receive, send):
        for name in STEPS.keys() - {each for each in STEPS if each.startswith("throw")}:
            with pytest.raises(ValueError, match="coroutine already executing"):
                STEPS[name](served)
        assert served.cr_running

    scope = scope_of()
    served = wrap(within)(scope, None, send)
    with pytest.raises(StopIteration):
        served.send(None)
    assert scope["shmetrics.request"].done
    assert not served.cr_running


def test_it_is_iterated_as_what_await_iterates_over(wrap):
    assert list(wrap()(scope_of(), None, send).__await__()) == ["waiting", "waiting"]


@pytest.mark.parametrize("call", [
    lambda middleware, scope: middleware(scope=scope, receive=None, send=send),
    lambda middleware, scope: middleware(scope, None, send=send),
    lambda middleware, scope: middleware.__call__(scope, None, send),
    lambda middleware, scope: MetricsMiddleware.__call__(middleware, scope, None, send),
])  # fmt: skip
def test_other_ways_to_call_it_are_python_s(wrap, call):
    scope = scope_of()
    asyncio.run(call(wrap(straight), scope))
    assert scope["shmetrics.request"].done


def test_arguments_that_are_missing_are_told_as_always(wrap):
    with pytest.raises(TypeError, match=r"__call__\(\) missing 1 required positional argument: 'send'"):
        wrap()({}, None)


def test_what_a_subclass_does_instead_is_done(wrap):
    called = []

    class Mine(MetricsMiddleware):
        async def __call__(self, scope, receive, send):
            called.append(scope)
            await super().__call__(scope, receive, send)

    class Plain(MetricsMiddleware):
        pass

    for made_by in (Mine, Plain):
        scope = scope_of()
        asyncio.run(wrap(straight, made_by)(scope, None, send))
        assert scope["shmetrics.request"].done
    assert len(called) == 1


def test_another_call_of_the_class_is_heeded(wrap):
    """And that it had before, if it is put back: by Python then, so this is for a process of its own."""
    middleware, called = wrap(straight), []

    def change():
        call, MetricsMiddleware.__call__ = MetricsMiddleware.__call__, lambda self, *args: called.append(args)
        middleware(1, 2, 3)
        assert called == [(1, 2, 3)]
        MetricsMiddleware.__call__ = call
        scope = scope_of()
        asyncio.run(middleware(scope, None, send))
        assert scope["shmetrics.request"].done

    in_forked_child(change)


def test_nothing_is_held_when_it_is_over(wrap):
    """Nor before, when somebody drops it: what it awaits for may hold it."""

    class Server:
        async def send(self, message):
            pass

    for ends in (True, False) * 20:
        server, scope = Server(), scope_of()
        served, got = wrap(cleaning)(scope, server.send, server.send), scope["got"]
        served.send(None)
        scope["served"] = served  # a cycle
        if ends:
            served.close()
        gone = weakref.ref(server), weakref.ref(served)
        del server, scope, served
        gc.collect()
        assert [reference() for reference in gone] == [None, None]
        assert got == ["cleaned"]


def test_thousands_at_a_time_are_each_their_own(wrap):
    """More than are ever kept to be used again, and in any order."""
    middleware, draw = wrap(), random.Random(1)
    for _ in range(3):
        scopes = [scope_of() for _ in range(2000)]
        served = [middleware(scope, None, send) for scope in scopes]
        for number, each in enumerate(served):
            assert each.send(None) == "waiting", number
        order = draw.sample(range(2000), 2000)
        for number in order:
            assert served[number].send(number) == "waiting"
        for number in order[:1000]:
            with pytest.raises(StopIteration):
                served[number].send(-number)
        del served, each
        assert all(scope["shmetrics.request"].done for scope in scopes)
        assert all(scopes[number]["got"] == [number, -number] for number in order[:1000])
        assert all(scopes[number]["got"] == [number] for number in order[1000:])


def test_what_begins_with_something_else_raises(wrap, monkeypatch):
    monkeypatch.setattr(MetricsMiddleware, "begin", lambda *_: 3)
    with pytest.raises(TypeError, match="wanted what a request has begun with"):
        wrap()({"type": "odd"}, None, send).send(None)


@pytest.mark.parametrize("way", ["0", "1"])
def test_a_clock_that_ends_ends_no_iterator(monkeypatch, way):
    """A task that is given a StopIteration would wait for ever."""
    monkeypatch.setenv(native.VARIABLE, way)
    for times in range(1, 4):
        with PerformanceMetrics() as metrics:
            middleware = MetricsMiddleware(hanging_up, metrics, clock=iter([1.0] * times).__next__)
            told = []
            for _ in range(3):
                served = middleware(scope_of(), None, send)
                with pytest.raises((RuntimeError, StopIteration)) as raised:
                    served.send(None)
                told.append((raised.type, str(raised.value), type(raised.value.__cause__)))
            assert told[-1] == (RuntimeError, "coroutine raised StopIteration", StopIteration)


@pytest.mark.parametrize("way", ["0", "1"])
@pytest.mark.parametrize("error", [None, ZeroDivisionError("application")])
def test_an_error_of_metrics_own_has_that_of_the_application_as_its_context(monkeypatch, way, error):
    monkeypatch.setenv(native.VARIABLE, way)
    seen, outside = [], sys.exc_info()[1]  # the test runner may be handling one itself

    class Route:
        @property
        def path_format(self):
            seen.append(sys.exc_info()[1])
            raise LookupError("route")

    async def app(scope, receive, send):
        scope["route"] = Route()
        if error:
            raise error

    with PerformanceMetrics() as metrics, pytest.raises(LookupError, match="route") as raised:
        MetricsMiddleware(app, metrics)(scope_of(), None, send).send(None)
    assert seen == [error or outside]
    assert raised.value.__context__ is (error or outside)


@pytest.mark.parametrize("way", ["0", "1"])
def test_the_application_is_whatever_the_middleware_has_now(monkeypatch, way):
    monkeypatch.setenv(native.VARIABLE, way)
    with PerformanceMetrics() as metrics:
        middleware = MetricsMiddleware(failing, metrics)
        copied = copy.copy(middleware)
        middleware._app = copied._app = straight
        for each in (middleware, copied):
            for kind in ("http", "lifespan"):
                assert asyncio.run(each(scope_of() | {"type": kind}, None, send)) is None
        del middleware._app
        with pytest.raises(AttributeError, match="_app"):
            middleware(scope_of(), None, send).send(None)


@pytest.mark.parametrize("way", ["0", "1"])
def test_what_somebody_awaits_is_awaited_by_nobody_else(monkeypatch, way):
    monkeypatch.setenv(native.VARIABLE, way)

    async def awaiting(what):
        return await what

    with PerformanceMetrics() as metrics:
        served = MetricsMiddleware(suspending, metrics)(scope_of(), None, send)
        first = awaiting(served)
        first.send(None)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            awaiting(served).send(None)
        first.close()

        held = suspending(scope_of(), None, send)
        first = awaiting(held)
        first.send(None)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            MetricsMiddleware(lambda *_: held, metrics)(scope_of(), None, send).send(None)
        first.close()


def test_it_says_what_every_coroutine_says(wrap):
    served = wrap()(scope_of(), None, send)
    python = MetricsMiddleware.__call__(wrap(), scope_of(), None, send)
    for name in ("__name__", "__qualname__", "cr_suspended", "cr_origin", "cr_code", "cr_running", "cr_await"):
        assert getattr(served, name) == getattr(python, name), name
    assert inspect.getcoroutinestate(python) == inspect.CORO_CREATED
    for each in (served, python):
        each.send(None)
        assert inspect.getcoroutinestate(each) == inspect.CORO_SUSPENDED
        each.close()
        assert inspect.getcoroutinestate(each) == inspect.CORO_CLOSED


def test_a_middleware_that_is_taken_apart_by_a_collection_is_called_as_it_was(wrap):
    """A collection runs others' code while what is awaited is made."""
    middleware = wrap(straight)
    begin, held = middleware._ahead, []

    def take_apart(phase, _info):
        if phase == "start" and hasattr(middleware, "_ahead"):
            del middleware._ahead

    gc.callbacks.append(take_apart)
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(100):
            middleware._ahead = begin
            with contextlib.suppress(AttributeError):
                held.append(middleware(scope_of(), None, send))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(take_apart)
    for each in held:
        with pytest.raises((StopIteration, AttributeError)):
            each.send(None)
