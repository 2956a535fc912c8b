import io
import logging
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import numpy as np
import pytest

from shmetrics import PerformanceMetrics
from shmetrics.workers.wsgi import ENVIRON_KEY, MetricsMiddleware
from tests.workers.bare_asgi import last_seen

pytestmark = pytest.mark.usefixtures("written_in")

PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def wrap(metrics, clock):
    """A function that puts the middleware around an application, on the test's clock."""
    return lambda app: MetricsMiddleware(app, metrics, clock=clock)


def call(app, answer=None, **environ):
    """Call an application as a server does; returns the body, not yet taken."""
    setup_testing_defaults(environ)
    return app(environ, answer or Answer())


def serve(app, answer=None, **environ):
    """Serve one request to its end as PEP 3333 asks of a server."""
    body = call(app, answer, **environ)
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


class Answer:
    """A server's start_response, which remembers."""

    def __init__(self):
        self.written = []

    def __call__(self, status, headers, exc_info=None):
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self.written.append


class Body:
    """A body of two parts whose steps the test gives as functions."""

    def __init__(self, between=lambda: None, close=lambda: None):
        self._between, self._close = between, close

    def __iter__(self):
        yield b"one "
        self._between()
        yield b"two"

    def close(self):
        self._close()


def replying(body, status="200 OK"):
    """An application that answers with a body, or with what a function returns."""

    def app(environ, start_response):
        start_response(status, PLAIN)
        return body() if callable(body) else body

    return app


def failing(error):
    def fail(*_):
        raise error

    return fail


def in_flight(metrics):
    return sum(len(worker.in_flight) for worker in metrics.snapshot().workers)


# What the server and the application see ------------------------------------------------------------------------------


def test_both_sides_of_it_obey_pep_3333(wrap):
    """The validator outside plays the application's part, the one inside the server's."""
    answer = Answer()
    app = validator(wrap(validator(replying(Body))))
    assert serve(app, answer, QUERY_STRING="") == b"one two"
    assert (answer.status, answer.headers) == ("200 OK", PLAIN)


def test_a_list_keeps_its_length_so_that_a_server_can_send_it(wrap):
    sent = io.BytesIO()
    environ = {}
    setup_testing_defaults(environ)
    SimpleHandler(io.BytesIO(), sent, io.StringIO(), environ).run(wrap(replying([b"hello"])))
    assert b"Content-Length: 5\r\n" in sent.getvalue()
    assert sent.getvalue().endswith(b"\r\n\r\nhello")


def test_a_generator_has_no_length(wrap):
    assert not hasattr(call(wrap(replying(Body))), "__len__")


def test_the_write_callable_is_the_servers(wrap):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)(b"written")
        return []

    answer = Answer()
    assert serve(wrap(app), answer) == b""
    assert answer.written == [b"written"]


def test_exc_info_reaches_the_server(wrap, metrics):
    given = (ValueError, ValueError("x"), None)

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        start_response("500 Oops", PLAIN, given)
        return []

    answer = Answer()
    serve(wrap(app), answer)
    assert (answer.status, answer.exc_info) == ("500 Oops", given)
    assert metrics.get_statistics()["total_errors"] == 1


def test_the_applications_close_is_called_once(wrap):
    closed = []
    serve(wrap(replying(Body(close=lambda: closed.append(1)))))
    assert closed == [1]


# Time -----------------------------------------------------------------------------------------------------------------


def recorded(metrics):
    """The one request there is."""
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["window_count"]) == (1, 1)
    return figures


def test_time_runs_while_the_application_computes(wrap, metrics, clock):
    def app(environ, start_response):
        clock.sleep(0.25)
        start_response("200 OK", PLAIN)
        return [b"done"]

    serve(wrap(app))
    assert recorded(metrics)["max_inference_time"] == 0.25


def test_time_runs_until_the_last_byte_of_a_stream(wrap, metrics, clock):
    serve(wrap(replying(Body(between=lambda: clock.sleep(0.5)))))
    assert recorded(metrics)["max_inference_time"] == 0.5


def test_a_worker_that_sends_part_after_part_is_seen_to_go_on(wrap, metrics):
    body = call(wrap(replying(iter([b"one", b"two", b"", b"three"]))))
    begun, *seen = last_seen(metrics), *(last_seen(metrics) for _ in body)
    first, second, empty, third = seen
    assert begun == first < second == empty < third


def test_time_runs_while_the_server_sends(wrap, metrics, clock):
    for _ in call(wrap(replying(Body))):
        clock.sleep(0.5)
    assert recorded(metrics)["max_inference_time"] == 1.0


def test_a_stream_that_the_client_abandons_is_measured_at_close(wrap, metrics, clock):
    body = call(wrap(replying(Body)))
    next(iter(body))
    clock.sleep(0.5)
    assert metrics.get_statistics()["total_requests"] == 0
    body.close()
    assert recorded(metrics)["max_inference_time"] == 0.5
    assert recorded(metrics)["total_errors"] == 0


def test_a_request_is_recorded_once_however_often_it_ends(wrap, metrics):
    body = call(wrap(replying(Body)))
    assert list(body) == [b"one ", b"two"]
    assert list(body) == []
    body.close()
    body.close()
    assert recorded(metrics)


def test_a_request_is_in_flight_until_it_ends(wrap, metrics):
    body = call(wrap(replying(Body)))
    next(iter(body))
    during = in_flight(metrics)
    body.close()
    assert (during, in_flight(metrics)) == (1, 0)


def test_a_request_that_began_before_the_slot_was_taken_takes_no_other_out_of_flight(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        with metrics.request():
            late = call(MetricsMiddleware(replying(Body), metrics))
        assert in_flight(metrics) == 1
        late.close()


def test_the_first_request_of_a_worker_is_seen_while_it_is_served(hub_name):
    """Should it hang, no record will ever take the worker's slot."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        app = replying(lambda: [str(in_flight(metrics)).encode()])
        assert call(MetricsMiddleware(app, metrics)) == [b"1"]


# A file ---------------------------------------------------------------------------------------------------------------


def test_a_file_is_left_to_the_server_and_measured_at_close(wrap, metrics, clock):
    file = FileWrapper(io.BytesIO(b"contents"))
    body = call(wrap(replying(file)), **{"wsgi.file_wrapper": FileWrapper})
    assert body is file
    clock.sleep(0.5)
    assert metrics.get_statistics()["total_requests"] == 0
    body.close()
    assert file.filelike.closed
    assert recorded(metrics)["max_inference_time"] == 0.5


def test_a_file_wrapper_that_takes_no_attribute_is_measured_as_a_stream(wrap, metrics):
    class Sealed:
        __slots__ = ()

        def __iter__(self):
            return iter([b"contents"])

    assert serve(wrap(replying(Sealed())), **{"wsgi.file_wrapper": Sealed}) == b"contents"
    assert recorded(metrics)


def test_a_file_whose_close_raises_is_an_error(wrap, metrics):
    error = OSError("gone")
    file = FileWrapper(io.BytesIO(b"contents"))
    file.close = failing(error)
    with pytest.raises(OSError, match="gone") as caught:
        serve(wrap(replying(file)), **{"wsgi.file_wrapper": FileWrapper})
    assert caught.value is error
    assert recorded(metrics)["total_errors"] == 1


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "errors"),
    [("200 OK", 0), ("304 Not Modified", 0), ("404 Not Found", 0), ("500 Oops", 1), ("503 Busy", 1), ("599 Odd", 1)],
)
def test_a_status_of_5xx_is_an_error(wrap, metrics, status, errors):
    serve(wrap(replying([b"x"], status)))
    assert recorded(metrics)["total_errors"] == errors


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    "app",
    [
        failing,
        lambda error: replying(Body(between=failing(error))),
        lambda error: replying(Body(close=failing(error))),
    ],
    ids=["in the application", "in the iterator", "in close"],
)
def test_an_exception_is_an_error_and_reaches_the_server_unchanged(wrap, metrics, app, error):
    with pytest.raises(type(error)) as caught:
        serve(wrap(app(error)))
    assert caught.value is error
    assert recorded(metrics)["total_errors"] == 1
    assert in_flight(metrics) == 0


def test_an_exception_in_the_close_of_an_abandoned_stream_is_an_error(wrap, metrics):
    body = call(wrap(replying(Body(close=failing(ValueError("x"))))))
    next(iter(body))
    with pytest.raises(ValueError, match="x"):
        body.close()
    assert recorded(metrics)["total_errors"] == 1


@pytest.mark.parametrize("answer", [None, 5], ids=repr)
def test_an_answer_that_is_no_body_is_an_error(wrap, metrics, answer):
    with pytest.raises(TypeError, match="not iterable"):
        serve(wrap(replying(answer)))
    assert recorded(metrics)["total_errors"] == 1
    assert in_flight(metrics) == 0


# What the application says --------------------------------------------------------------------------------------------


def saying(clock, **fields):
    """An application that takes a second and sets fields of its request."""

    def app(environ, start_response):
        clock.sleep(1.0)
        for name, value in fields.items():
            setattr(environ[ENVIRON_KEY], name, value)
        start_response("200 OK", PLAIN)
        return [b"x"]

    return app


def test_what_the_application_does_not_say_is_inference(wrap, metrics, clock):
    serve(wrap(saying(clock, preprocessing_time=0.25, quantization_time=0.125, batch_size=16)))
    figures = recorded(metrics)
    assert figures["max_inference_time"] == 0.625
    assert figures["max_preprocessing_time"] == 0.25
    assert figures["max_quantization_time"] == 0.125
    assert figures["max_batch_size"] == 16.0
    assert figures["max_total_time"] == 1.0


def test_the_application_may_say_the_inference_time_itself(wrap, metrics, clock):
    serve(wrap(saying(clock, inference_time=0.5)))
    assert recorded(metrics)["max_inference_time"] == 0.5


def test_parts_longer_than_the_whole_leave_no_inference(wrap, metrics, clock):
    serve(wrap(saying(clock, preprocessing_time=3.0)))
    assert recorded(metrics)["max_inference_time"] == 0.0


class Reluctant:
    """A number that cannot be had now, as a tensor of a device that failed."""

    def __rsub__(self, other):
        raise RuntimeError("device lost")

    def __float__(self):
        raise RuntimeError("device lost")


@pytest.mark.parametrize("field", ["batch_size", "preprocessing_time", "quantization_time", "inference_time"])
@pytest.mark.parametrize("garbage", ["x", [1], object(), 1j, 10**400, np.ones(2), Reluctant()], ids=type)
def test_garbage_never_reaches_the_request(wrap, metrics, clock, field, garbage):
    """The request is recorded with its duration alone, and no longer in flight."""
    assert serve(wrap(saying(clock, **{field: garbage}))) == b"x"
    assert recorded(metrics)["max_inference_time"] == 1.0
    assert in_flight(metrics) == 0


def test_garbage_is_told_in_the_log(wrap, clock, caplog):
    with caplog.at_level(logging.WARNING, "shmetrics"):
        serve(wrap(saying(clock, batch_size="x")))
    assert "cannot be recorded" in caplog.text


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1.0])
def test_impossible_measurements_are_counted_as_invalid(wrap, metrics, clock, garbage):
    serve(wrap(saying(clock, inference_time=garbage)))
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["invalid_records"], figures["window_count"]) == (1, 1, 0)


@pytest.mark.parametrize("multiprocess", [True, False])
def test_workers_that_do_not_share_a_hub_are_told_so_once(multiprocess, caplog):
    with PerformanceMetrics(max_workers=2) as metrics:
        app = MetricsMiddleware(lambda environ, start_response: [], metrics)
        for _ in range(3):
            app({"wsgi.multiprocess": multiprocess}, lambda *_: None)
    assert caplog.text.count("a hub of this worker alone") == multiprocess
