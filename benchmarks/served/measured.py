"""What measures an application's requests: as the variable MEASURED_BY says, each as its documentation advises.

All count the same: requests and their durations, by method, status and route, and how many are in flight.
"""

import os
import time
from collections.abc import Callable
from typing import Any

App = Callable[..., Any]


def wsgi(app: App) -> App:
    """The same application, measured."""
    return {"": _as_it_is, "shmetrics": _shmetrics_wsgi, "prometheus": _prometheus_wsgi, "otel": _otel_wsgi}[_by()](app)


def asgi(app: App) -> App:
    """The same application, measured."""
    return {"": _as_it_is, "shmetrics": _shmetrics_asgi, "prometheus": _prometheus_asgi, "otel": _otel_asgi}[_by()](app)


def _by() -> str:
    return os.environ.get("MEASURED_BY", "")


def _as_it_is(app: App) -> App:
    return app


# shmetrics ------------------------------------------------------------------------------------------------------------


def _shmetrics_wsgi(app: App) -> App:
    from shmetrics import PerformanceMetrics  # noqa: PLC0415  the others are to run without
    from shmetrics.workers.wsgi import MetricsMiddleware  # noqa: PLC0415

    return MetricsMiddleware(app, PerformanceMetrics(window_size=1000))


def _shmetrics_asgi(app: App) -> App:
    from shmetrics import PerformanceMetrics  # noqa: PLC0415
    from shmetrics.workers.asgi import MetricsMiddleware  # noqa: PLC0415

    return MetricsMiddleware(app, PerformanceMetrics(window_size=1000))


# prometheus_client, in multiprocess mode where PROMETHEUS_MULTIPROC_DIR says so ---------------------------------------


def _prometheus() -> tuple[Any, Any]:
    from prometheus_client import Gauge, Histogram  # noqa: PLC0415

    durations = Histogram("http_request_duration_seconds", "Durations.", ["method", "status", "route"])
    return durations, Gauge("http_requests_in_flight", "Requests in flight.", multiprocess_mode="livesum")


def _prometheus_wsgi(app: App) -> App:
    durations, in_flight = _prometheus()

    def measured(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        status = ""

        def noting(line: str, *rest: Any) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, *rest)

        start = time.perf_counter()
        in_flight.inc()
        try:
            return app(environ, noting)
        finally:
            in_flight.dec()
            durations.labels(environ["REQUEST_METHOD"], status, "").observe(time.perf_counter() - start)

    return measured


def _prometheus_asgi(app: App) -> App:
    durations, in_flight = _prometheus()

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        status = ""

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        start = time.perf_counter()
        in_flight.inc()
        try:
            await app(scope, receive, noting)
        finally:
            in_flight.dec()
            durations.labels(scope["method"], status, "").observe(time.perf_counter() - start)

    return measured


# OpenTelemetry's own middlewares --------------------------------------------------------------------------------------


def _otel() -> Any:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    return MeterProvider([InMemoryMetricReader()])


def _otel_wsgi(app: App) -> App:
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware  # noqa: PLC0415

    return OpenTelemetryMiddleware(app, meter_provider=_otel())


def _otel_asgi(app: App) -> App:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415

    return OpenTelemetryMiddleware(app, meter_provider=_otel())
