"""What both middlewares refuse when they are made, and what a request of either counts as."""

import time
from http import HTTPStatus

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.workers import asgi, wsgi
from shmetrics.workers.http_metrics import DURATION, HTTP_BUCKETS, HttpMetrics, HttpRequest, HttpSource, Kinds

pytestmark = pytest.mark.usefixtures("written_in")

MIDDLEWARES = pytest.mark.parametrize("middleware", [asgi.MetricsMiddleware, wsgi.MetricsMiddleware])


@MIDDLEWARES
@pytest.mark.parametrize("metrics", ["resnet", None])
def test_what_is_no_metrics_is_refused_at_once(middleware, metrics):
    with pytest.raises(TypeError, match=f"records in PerformanceMetrics, not in {metrics!r}"):
        middleware(lambda *_: None, metrics)


@MIDDLEWARES
@pytest.mark.parametrize("paths", ["/healthz", 5])
def test_paths_to_skip_that_are_no_list_are_a_type_error(middleware, metrics, paths):
    with pytest.raises(TypeError):
        middleware(lambda *_: None, metrics, skip_paths=paths)


@MIDDLEWARES
@pytest.mark.parametrize("path", ["healthz", "/a*/b", "", 5])
def test_a_path_to_skip_that_is_none_is_a_value_error_that_shows_it(middleware, metrics, path):
    with pytest.raises(ValueError, match="skip_paths cannot have"):
        middleware(lambda *_: None, metrics, skip_paths=[path])


def finished(metrics, http, *, method="GET", code=200, route=""):
    request = HttpRequest(HttpSource(metrics, time.monotonic, http), method, "/")
    request.code, request.route = code, route
    request.finish()


def labels(metrics):
    (family,) = (each for each in metrics.snapshot().families if each.definition.name == DURATION)
    return sorted(series.labels for series in family.series)


@pytest.mark.parametrize(
    ("code", "status"), [(200, "200"), ("404", "404"), (HTTPStatus.GONE, "410"), (99, ""), ([200], "")]
)
@pytest.mark.parametrize(("route", "shown"), [("/users/{id}", "/users/{id}"), (5, ""), ({}, "")])
@pytest.mark.parametrize("method", ["GET", "get"])
def test_a_request_of_any_kind_is_recorded_under_labels_of_which_there_is_an_end(code, status, route, shown, method):
    with PerformanceMetrics() as metrics:
        http = HttpMetrics(metrics, HTTP_BUCKETS)
        finished(metrics, http, method=method, code=code, route=route)
        finished(metrics, http, method=method, code=code, route=route)
        assert labels(metrics) == [("GET" if method == "GET" else "_OTHER", status, shown)]
        assert metrics.get_statistics()["total_requests"] == 2


@pytest.mark.parametrize(
    ("code", "errors"), [(500, 1), ("503", 1), (HTTPStatus.BAD_GATEWAY, 1), (499, 0), ("5", 0), (5000, 0)]
)
def test_a_status_of_5xx_is_an_error_with_http_metrics_and_without(code, errors):
    with PerformanceMetrics() as metrics:
        finished(metrics, HttpMetrics(metrics, HTTP_BUCKETS), code=code)
        finished(metrics, None, code=code)
        assert metrics.get_statistics()["total_errors"] == 2 * errors


def test_of_kinds_without_end_some_are_remembered():
    kinds = Kinds(None)
    for code in range(3000):
        assert kinds["GET", code, str(code)].fails == (500 <= code < 600)
    assert len(kinds) <= 1000
