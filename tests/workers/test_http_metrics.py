"""What both middlewares refuse when they are made."""

import pytest

from shmetrics.workers import asgi, wsgi

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
