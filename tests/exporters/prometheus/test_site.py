"""The fleet's pages through each way to serve them: WSGI, ASGI and the aggregator's server answer alike."""

import asyncio
import gzip
import http.client
import io
import os
import threading
import wsgiref.util
import wsgiref.validate
from contextlib import closing
from typing import NamedTuple

import pytest

from shmetrics import Hub, HubClosedError, PerformanceMetrics
from shmetrics.exporters.prometheus import Server, make_asgi_app, make_wsgi_app
from tests.exporters.prometheus import Still, families_of, samples_of, value


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes


def by_wsgi(source, method, target, headers, **options):
    """Ask the WSGI application, with the standard library looking over its shoulder."""
    app = wsgiref.validate.validator(make_wsgi_app(source, **options))
    return ask_wsgi(app, method, target, headers)


def ask_wsgi(app, method, target, headers, mount=""):
    path, _, query = target.partition("?")
    environ = {"REQUEST_METHOD": method, "SCRIPT_NAME": mount, "PATH_INFO": path, "QUERY_STRING": query}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()}
    wsgiref.util.setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    started = []
    body = app(environ, lambda status, headers, _error=None: started.append((status, headers)) or (lambda _: None))
    try:
        content = b"".join(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    ((status, sent),) = started
    return Answer(int(status.split()[0]), {name.lower(): text for name, text in sent}, content)


def by_asgi(source, method, target, headers, **options):
    """Ask the ASGI application in an event loop of its own."""
    return ask_asgi(make_asgi_app(source, **options), method, target, headers)


def ask_asgi(app, method, target, headers, root=""):
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }
    return asyncio.run(answer(app, scope))


async def answer(app, scope):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    return Answer(
        start["status"], {name.decode(): text.decode() for name, text in start["headers"]}, body.get("body", b"")
    )


def by_http(source, method, target, headers):
    """Ask the server, over a connection."""
    with Server(source, 0) as server:
        return ask_http(server, method, target, headers)


def ask_http(server, method, target, headers):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): text for name, text in response.getheaders()}, response.read())


@pytest.fixture(params=[by_wsgi, by_asgi, by_http], ids=["WSGI", "ASGI", "HTTP"])
def ask(request):
    """A function that asks for a path of a source's pages."""

    def ask(source, target="/metrics", method="GET", **headers):
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        return request.param(source, method, target, headers)

    return ask


def samples(answer):
    return samples_of(families_of(answer.body).values())


def test_metrics_are_the_whole_fleets(ask, hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics, Hub.attach(hub_name) as hub:
        metrics.update_inference(0.25)
        answers = [ask(source) for source in (metrics, hub)]
    for each in answers:
        assert each.status == 200
        assert each.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert value(samples(each), "requests_total") == 1.0


def test_what_was_recorded_before_a_request_is_on_its_page(ask):
    with PerformanceMetrics(max_workers=2) as metrics:
        for count in range(1, 4):
            metrics.update_inference(0.25)
            assert value(samples(ask(metrics)), "requests_total") == count


def test_openmetrics_is_negotiated(ask):
    got = ask(Still(), Accept="application/openmetrics-text; version=1.0.0")
    assert got.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert families_of(got.body, openmetrics=True)


def test_gzip_is_negotiated_and_the_length_is_that_of_what_is_sent(ask):
    got = ask(Still(), Accept_Encoding="gzip, deflate")
    assert got.headers["content-encoding"] == "gzip"
    assert got.headers["vary"] == "Accept, Accept-Encoding"
    assert int(got.headers["content-length"]) == len(got.body)
    assert families_of(gzip.decompress(got.body))


def test_names_narrow_the_page(ask):
    got = ask(Still(), "/metrics?name[]=requests_total&name%5B%5D=shmetrics_slots&other=x")
    assert {name for name, _ in samples(got)} == {"requests_total", "shmetrics_slots"}


@pytest.mark.parametrize(
    "query", ["", "name[]=", "name[]", "%ff=%00", "name%5B%5D=%ff", "&&&==", "name=requests_total"]
)
def test_no_query_breaks_a_page(ask, query):
    got = ask(Still(), f"/metrics?{query}")
    assert got.status == 200
    families_of(got.body)


def test_healthz_says_that_the_process_answers_whatever_the_hub_does(ask):
    class Broken:
        def snapshot(self):
            raise HubClosedError("closed")

    got = ask(Broken(), "/healthz")
    assert (got.status, got.body) == (200, b"ok\n")


def test_readyz_says_that_the_hub_can_be_read(ask):
    got = ask(Still(), "/readyz")
    assert (got.status, got.body) == (200, b"ready\n")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_a_hub_that_cannot_be_read_is_503_with_the_reason(ask, path):
    metrics = PerformanceMetrics(max_workers=2)
    metrics.close()
    got = ask(metrics, path)
    assert got.status == 503
    assert b"these metrics were closed" in got.body


def test_a_hub_that_was_removed_is_not_ready_but_is_still_shown(ask, hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics:
        metrics.unlink()
        got, page = ask(metrics, "/readyz"), ask(metrics)
    assert got.status == 503
    assert b"was removed" in got.body
    assert value(samples(page), "shmetrics_unlinked") == 1.0


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "/METRICS", "/favicon.ico", "/a%20b"])
def test_any_other_path_is_404_and_says_what_there_is(ask, path):
    got = ask(Still(), path)
    assert got.status == 404
    assert b"/metrics, /healthz, /readyz" in got.body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(ask, path):
    got, whole = ask(Still(), path, "HEAD"), ask(Still(), path)
    assert (got.status, got.body) == (whole.status, b"")
    compared = ("content-type", "content-length", "cache-control")
    assert {name: got.headers[name] for name in compared} == {name: whole.headers[name] for name in compared}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_other_methods_are_405_and_say_which_there_are(ask, path, method):
    got = ask(Still(), path, method)
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


class TestMounted:
    """Below a path of somebody else's application."""

    @pytest.mark.parametrize("target", ["", "/", "/metrics"])
    def test_wsgi_serves_the_metrics_at_its_root(self, target):
        got = ask_wsgi(make_wsgi_app(Still()), "GET", target, {}, mount="/internal")
        assert value(samples(got), "requests_total") == 0.0

    @pytest.mark.parametrize("target", ["/", "/metrics", "/internal", "/internal/", "/internal/metrics"], ids=str)
    def test_asgi_serves_the_metrics_at_its_root_whether_or_not_the_mount_is_in_the_path(self, target):
        got = ask_asgi(make_asgi_app(Still()), "GET", target, {}, root="/internal")
        assert value(samples(got), "requests_total") == 0.0

    def test_the_other_pages_are_below_it(self):
        assert ask_wsgi(make_wsgi_app(Still()), "GET", "/readyz", {}, mount="/internal").body == b"ready\n"
        assert ask_asgi(make_asgi_app(Still()), "GET", "/internal/readyz", {}, root="/internal").body == b"ready\n"
        assert ask_asgi(make_asgi_app(Still()), "GET", "/internals", {}, root="/internal").status == 404


@pytest.mark.parametrize("by", [by_wsgi, by_asgi], ids=["WSGI", "ASGI"])
def test_the_options_are_those_of_the_exporter(by):
    got = by(Still(), "GET", "/metrics", {}, prefix="x_", buckets=[1.0])
    names = [name for name, _ in samples(got)]
    assert all(name.startswith("x_") for name in names)
    assert names.count("x_inference_duration_seconds_bucket") == 2


class TestAsgi:
    """What only ASGI has."""

    def test_it_answers_the_lifespan_of_a_server_that_runs_it_by_itself(self):
        events, sent = iter(["lifespan.startup", "lifespan.shutdown"]), []

        async def receive():
            return {"type": next(events)}

        async def send(message):
            sent.append(message["type"])

        asyncio.run(make_asgi_app(Still())({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def test_it_turns_websockets_away(self):
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        asyncio.run(make_asgi_app(Still())({"type": "websocket"}, receive, send))
        assert sent == [{"type": "websocket.close"}]

    def test_several_accept_headers_are_one(self):
        headers = [(b"accept", b"text/html"), (b"Accept", b"application/openmetrics-text")]
        scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": headers}
        got = asyncio.run(answer(make_asgi_app(Still()), scope))
        assert "openmetrics" in got.headers["content-type"]

    def test_the_loop_goes_on_while_a_page_is_made(self):
        """The page waits for something that only the loop, running meanwhile, can do."""
        let_go = threading.Event()

        class Waiting(Still):
            def snapshot(self):
                assert let_go.wait(30.0)
                return super().snapshot()

        async def both():
            scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
            page = asyncio.create_task(answer(make_asgi_app(Waiting()), scope))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(let_go.set)
            return await page

        assert asyncio.run(both()).status == 200

    def test_an_application_that_has_served_serves_in_forked_children_too(self):
        app = make_asgi_app(Still())
        assert ask_asgi(app, "GET", "/healthz", {}).status == 200
        child = os.fork()
        if child == 0:
            os._exit(0 if ask_asgi(app, "GET", "/metrics", {}).status == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
