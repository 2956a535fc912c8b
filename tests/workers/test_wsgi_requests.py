"""Which requests the WSGI middleware measures, with which labels, and how they end."""

import asyncio
import logging
from wsgiref.util import setup_testing_defaults

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.workers.http_metrics import REQUEST_KEY
from shmetrics.workers.wsgi import MetricsMiddleware
from tests.processes import in_forked_child, run_in_threads
from tests.workers.bare_asgi import aborted, counts, in_flight, recorded, series, totals

pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def wrap(metrics, clock):
    """A function that puts the middleware around an application, on the test's clock."""
    return lambda app, **options: MetricsMiddleware(app, metrics, clock=clock, **options)


def call(app, path="/", method="GET", **more):
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, **more}
    setup_testing_defaults(environ)
    return app(environ, lambda *_: None)


def serve(app, path="/", method="GET", **more):
    body = call(app, path, method, **more)
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def replying(body, status="200 OK"):
    """An application that answers with a body, or with what a function returns."""

    def app(environ, start_response):
        start_response(status, [])
        return body() if callable(body) else body

    return app


# Bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [[b"one ", b"two"], (b"one",), []], ids=repr)
def test_a_list_is_handed_to_the_server_as_it_is_and_counted_before(wrap, metrics, body):
    """Servers have shorter ways for lists; and what a client has got is counted, whatever happens then."""
    assert call(wrap(replying(body))) is body
    assert (recorded(metrics)["total_errors"], in_flight(metrics)) == (0, 0)


def test_time_to_first_byte_is_that_of_streams(wrap, metrics, clock):
    def stream():
        clock.sleep(1.0)
        yield b""
        yield b"one"
        clock.sleep(2.0)
        yield b"two"

    assert serve(wrap(replying(stream))) == b"onetwo"
    first = series(metrics, "http_server_time_to_first_byte_seconds")["GET", "200", ""]
    assert (first["count"], first["sum"]) == (1, 1.0)
    assert recorded(metrics)["max_inference_time"] == 3.0


@pytest.mark.parametrize("parts", [[], [b"one"], [b"", b"one", b""]], ids=repr)
def test_a_response_of_one_part_is_no_stream(wrap, metrics, parts):
    serve(wrap(replying(lambda: iter(parts))))
    assert counts(metrics, "http_server_time_to_first_byte_seconds") == {}


def test_a_body_that_the_server_leaves_means_that_the_client_went_away(wrap, metrics):
    body = call(wrap(replying(lambda: iter([b"one", b"two"]))))
    next(body)
    body.close()
    assert totals(metrics) == (1, 0)
    assert aborted(metrics) == {("GET", "", "disconnect"): 1}


def test_a_body_that_a_head_request_leaves_means_nothing(wrap, metrics):
    call(wrap(replying(lambda: iter([b"one", b"two"]))), method="HEAD").close()
    assert (counts(metrics), aborted(metrics)) == ({("HEAD", "200", ""): 1}, {})


@pytest.mark.parametrize("where", ["application", "body", "close"])
def test_what_stops_an_application_from_outside_is_no_error(wrap, metrics, where):
    """As GreenletExit, or a time-out of the server's own."""

    class Stopped(BaseException):
        pass

    class Body:
        def __iter__(self):
            yield b"one"
            if where == "body":
                raise Stopped

        def close(self):
            raise Stopped

    def app(environ, start_response):
        if where == "application":
            raise Stopped
        start_response("200 OK", [])
        return Body()

    with pytest.raises(Stopped):
        serve(wrap(app))
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)
    assert aborted(metrics) == ({} if where == "close" else {("GET", "", "cancelled"): 1})


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "label"),
    [("GET", "GET"), ("PATCH", "PATCH"), ("QUERY", "QUERY"), ("get", "_OTHER"), ("BREW", "_OTHER"), ("", "_OTHER")],
)
def test_a_method_is_a_known_one_or_other(wrap, metrics, method, label):
    serve(wrap(replying([])), method=method)
    assert counts(metrics) == {(label, "200", ""): 1}


@pytest.mark.parametrize(
    ("status", "label"), [("200 OK", "200"), ("404", "404"), ("099 X", ""), ("600 X", ""), ("OK", ""), ("", "")]
)
def test_a_status_is_three_digits_or_nothing(wrap, metrics, status, label):
    serve(wrap(replying([], status)))
    assert counts(metrics) == {("GET", label, ""): 1}


def test_an_exception_without_an_answer_is_a_500(wrap, metrics):
    def app(environ, start_response):
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        serve(wrap(app))
    assert (counts(metrics), totals(metrics)) == ({("GET", "500", ""): 1}, (1, 1))


@pytest.mark.parametrize(
    ("parts", "status"), [(None, "500"), ([], "500"), ([b""], "500"), ([b"", b"some"], "200")], ids=repr
)
def test_an_exception_before_the_first_byte_is_a_500_whatever_was_to_be_answered(wrap, metrics, parts, status):
    """Servers send no headers before there is a byte, and then an answer of their own. ``parts``: those before."""

    def body():
        yield from parts
        raise ValueError("x")

    def app(environ, start_response):
        start_response("200 OK", [])
        if parts is None:
            raise ValueError("x")
        return body()

    with pytest.raises(ValueError, match="x"):
        serve(wrap(app))
    assert (counts(metrics), totals(metrics)) == ({("GET", status, ""): 1}, (1, 1))


def test_the_path_is_never_a_label_and_what_the_application_says_is(wrap, metrics):
    def app(environ, start_response):
        if environ["PATH_INFO"].startswith("/users/"):
            environ[REQUEST_KEY].route = "/users/{id}"
        start_response("200 OK", [])
        return []

    for path in ("/users/1", "/users/2", "/a", "/b"):
        serve(wrap(app), path)
    assert counts(metrics) == {("GET", "200", "/users/{id}"): 2, ("GET", "200", ""): 2}


def test_the_board_shows_method_and_path_of_what_is_being_served(wrap, metrics):
    def app(environ, start_response):
        start_response("200 OK", [])
        (worker,) = metrics.snapshot().workers
        assert [request.label for request in worker.in_flight] == ["POST /mounted/predict"]
        return []

    serve(wrap(app), "/predict", "POST", SCRIPT_NAME="/mounted")
    assert recorded(metrics)


def test_series_without_end_go_to_one_and_end_no_request(metrics, clock, caplog):
    """Routes that the application makes up, against all advice."""

    def app(environ, start_response):
        environ[REQUEST_KEY].route = environ["PATH_INFO"]
        start_response("200 OK", [])
        return []

    measured = MetricsMiddleware(app, metrics, clock=clock)
    for number in range(200):
        serve(measured, f"/{number}")
    assert totals(metrics) == (200, 0)
    found = counts(metrics)
    assert sum(found.values()) == 200
    assert found["_overflow", "_overflow", "_overflow"] > 100
    assert "no room for all series" in caplog.text


# Which ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "path", "measured"),
    [("", "/healthz", 0), ("/mounted", "/healthz", 1), ("/healthz", "", 0), ("", "/static/x", 0), ("", "/", 1)],
)
def test_paths_are_skipped_as_the_client_sends_them(wrap, metrics, script, path, measured):
    seen = []

    def app(environ, start_response):
        seen.append(environ.get(REQUEST_KEY))
        start_response("200 OK", [])
        return [b"x"]

    app = wrap(app, skip_paths={"/healthz", "/static/*"})
    assert serve(app, path, SCRIPT_NAME=script) == b"x"
    assert totals(metrics) == (measured, 0)
    assert (seen[0] is not None) == measured


def test_a_path_is_read_as_the_text_that_it_is(wrap, metrics):
    """PEP 3333 has the bytes of URLs, which are UTF-8, as Latin-1."""

    def app(environ, start_response):
        (worker,) = metrics.snapshot().workers
        start_response("200 OK", [])
        return [request.label.encode() for request in worker.in_flight]

    app = wrap(app, skip_paths=["/gesperrt/ä*"])

    def on_the_wire(path):
        return path.encode().decode("latin-1")

    assert serve(app, on_the_wire("/café")) == "GET /café".encode()
    assert serve(app, on_the_wire("/gesperrt/ähnlich")) == b""
    assert totals(metrics) == (1, 0)


def test_a_request_in_two_middlewares_of_one_hub_is_counted_once(wrap, metrics):
    inner = wrap(replying(lambda: iter([b"x"])), skip_paths=["/healthz"])
    for path in ("/", "/healthz"):
        assert serve(wrap(inner), path) == b"x"
    assert (totals(metrics), counts(metrics), in_flight(metrics)) == ((1, 0), {("GET", "200", ""): 1}, 0)


def test_two_middlewares_of_two_hubs_both_count(wrap, metrics):
    with PerformanceMetrics(max_workers=2, max_series=16) as other:
        serve(wrap(MetricsMiddleware(replying(lambda: iter([b"x"])), other)))
        assert totals(other) == totals(metrics) == (1, 0)


def test_without_http_metrics_only_the_hubs_own_are_recorded(wrap, metrics):
    serve(wrap(replying(lambda: iter([b"x", b"y"])), http_metrics=False))
    assert totals(metrics) == (1, 0)
    assert CustomMetrics(metrics).get_all_metrics() == {}


def test_a_metric_of_another_shape_under_a_name_of_ours_is_left_alone(metrics, caplog):
    custom = CustomMetrics(metrics)
    custom.counter("http_server_request_duration_seconds").inc(5)
    with caplog.at_level(logging.WARNING, "shmetrics"):
        serve(MetricsMiddleware(replying([]), metrics))
    assert totals(metrics) == (1, 0)
    assert custom.get_all_metrics()["http_server_request_duration_seconds"]["value"] == 5
    assert "so this one is not recorded" in caplog.text


# Stages ---------------------------------------------------------------------------------------------------------------


def test_stages_count_in_the_application_its_body_and_its_close(wrap, metrics, clock):
    class Body:
        def __iter__(self):
            for _ in range(2):
                with metrics.stage("inference", batch_size=2):
                    clock.sleep(2.0)
                yield b"x"
                assert metrics.current_request is not None

        def close(self):
            with metrics.stage("quantization"):
                clock.sleep(8.0)

    def app(environ, start_response):
        start_response("200 OK", [])
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
        return Body()

    body = call(wrap(app))
    for _ in range(2):
        assert metrics.current_request is None
        next(body)
        clock.sleep(32.0)  # the server's time, in no stage
    assert metrics.current_request is None
    body.close()
    figures = recorded(metrics)
    assert (figures["max_preprocessing_time"], figures["max_inference_time"]) == (1.0, 4.0)
    assert (figures["max_quantization_time"], figures["max_batch_size"]) == (8.0, 4.0)


def test_a_stage_that_lasts_over_a_yield_is_entered_once_and_nothing_else_is_in_it(wrap, metrics, clock):
    def stream():
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
            yield b"one"
            with metrics.stage("quantization"):
                clock.sleep(2.0)
            yield b"two"

    body = call(wrap(replying(stream)))
    next(body)
    assert metrics.current_request is None
    clock.sleep(4.0)
    assert list(body) == [b"two"]
    figures = recorded(metrics)
    assert figures["max_preprocessing_time"] == 5.0  # it said so: the server's time between its parts too
    assert figures["max_quantization_time"] == 2.0


def test_requests_that_threads_serve_at_once_keep_their_stages_apart(wrap, metrics):
    def stream(number):
        for _ in range(3):
            with metrics.stage("inference", batch_size=number):
                yield b"x"

    def app(environ, start_response):
        start_response("200 OK", [])
        return stream(int(environ["PATH_INFO"][1:]))

    measured = wrap(app)
    run_in_threads(8, lambda index: [serve(measured, f"/{index + 1}") for _ in range(50)])
    figures = metrics.get_statistics()
    assert figures["total_requests"] == 400
    assert {figures["min_batch_size"], figures["max_batch_size"]} <= {3.0 * (index + 1) for index in range(8)}
    assert in_flight(metrics) == 0


def test_requests_that_one_thread_serves_in_turns_keep_their_stages_apart(wrap, metrics):
    """As servers do that drive bodies from an event loop."""

    def stream(number):
        for _ in range(3):
            with metrics.stage("inference", batch_size=number):
                pass
            yield b"x"

    def app(environ, start_response):
        start_response("200 OK", [])
        return stream(int(environ["PATH_INFO"][1:]))

    async def take(body):
        for _ in body:
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(take(call(wrap(app), f"/{number}")) for number in (1, 100)))

    asyncio.run(main())
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["min_batch_size"], figures["max_batch_size"]) == (2, 3.0, 300.0)


def test_a_child_of_fork_counts_in_its_own_slot(wrap, metrics):
    app = wrap(replying(lambda: iter([b"x"])))
    serve(app)
    in_forked_child(lambda: serve(app))
    assert (totals(metrics), counts(metrics)) == ((2, 0), {("GET", "200", ""): 2})
