"""The machinery of the tests against real services."""

import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli import until
from tests.exporters import services

PAGE = b"""\
# HELP answers_total Answers.
# TYPE answers_total counter
answers_total{kind="good"} 42
answers_total{kind="bad"} 1
"""


PROGRAMS = ["prometheus", "promtool", "prometheus-alertmanager", "amtool", "chromium"]


@contextmanager
def page_server(page):
    """A server on loopback that always answers with this page; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_real_prometheus_scrapes_and_answers(tmp_path):
    services.program("prometheus")
    with page_server(PAGE) as address, services.prometheus(tmp_path, address) as prometheus:
        until(lambda: prometheus.value('answers_total{kind="good"}') == 42)
        assert prometheus.value("sum(answers_total)") == 43
        assert math.isnan(prometheus.value("nothing_of_the_sort"))
        until(lambda: len(prometheus.history('answers_total{kind="bad"}')) >= 2)
        assert set(prometheus.history('answers_total{kind="bad"}')) == {1.0}
        assert [target["health"] for target in prometheus.targets()] == ["up"]


def test_a_page_that_promtool_likes_has_no_findings():
    assert services.check_metrics(PAGE) == []


def test_what_promtool_finds_is_told():
    assert services.check_metrics(b"# TYPE answers counter\nanswers 1\n") == [
        'answers counter metrics should have "_total" suffix',
        "answers no help text",
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_service_that_is_missing_skips_and_says_how_to_get_it(program, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(services.VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{program} is not installed; on Debian: apt-get install"):
        services.program(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_service_that_is_missing_fails_where_services_are_required(program, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(services.VARIABLE, "require")
    with pytest.raises(pytest.fail.Exception, match=f"{program} is not installed"):
        services.program(program)
