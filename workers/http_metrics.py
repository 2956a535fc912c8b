"""What the WSGI and the ASGI middleware have in common: which requests they measure, and the HTTP metrics of each.

Names, labels and buckets are OpenTelemetry's semantic conventions for HTTP servers, as Prometheus spells them
(https://opentelemetry.io/docs/specs/semconv/http/http-metrics/, and its rules for label values: a known method or
``_OTHER``, a route's template and never a path). They are custom metrics of the hub: see docs/http.md.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from shmetrics.book import Metric
from shmetrics.custom import DEFAULT_BUCKETS
from shmetrics.families import Definition, bounds
from shmetrics.instruments import Counter, Histogram, Instrument
from shmetrics.measurement import RequestMeasurement, Said, Source, is_failure
from shmetrics.metrics import PerformanceMetrics

REQUEST_KEY: Final = "shmetrics.request"
"""Where an application finds its request: in a WSGI environ, or an ASGI scope."""

DURATION: Final = "http_server_request_duration_seconds"
FIRST_BYTE: Final = "http_server_time_to_first_byte_seconds"
ABORTED: Final = "http_server_aborted_requests_total"

DISCONNECT: Final = "disconnect"
"""Why a response was not completed: the client went away."""
CANCELLED: Final = "cancelled"
"""Why a response was not completed: something stopped the application, the server most likely."""

HTTP_BUCKETS: Final = DEFAULT_BUCKETS
"""Seconds. The conventions advise those of the Prometheus clients."""

_METHODS: Final = {
    method: method
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
}
_OTHER: Final = "_OTHER"
STATUSES: Final = {code: str(code) for code in range(100, 600)}
_METHOD, _STATUS, _ROUTE = "http_request_method", "http_response_status_code", "http_route"
_MOST_KEPT: Final = 1000
"""Series that are found without asking the metric for them."""
_Instrument = TypeVar("_Instrument", bound=Instrument)


class HttpMiddleware:
    """The options of a middleware, and what it does before a request.

    Args:
        metrics: where its requests are recorded.
        skip_paths: what is not measured: exact paths, as ``"/healthz"``, and beginnings with a star, ``"/static/*"``.
        http_metrics: whether to have the HTTP metrics beside the hub's own.
        buckets: of the histograms of durations, upper bounds in seconds in ascending order.
        clock: monotonic seconds; for tests.

    TypeError or ValueError for what `metrics`, `skip_paths` or `buckets` cannot be.

    """

    def __init__(
        self,
        metrics: PerformanceMetrics,
        *,
        skip_paths: Collection[str],
        http_metrics: bool,
        buckets: Sequence[float],
        clock: Callable[[], float],
    ) -> None:
        if not isinstance(metrics, PerformanceMetrics):
            raise TypeError(f"a middleware records in PerformanceMetrics, not in {metrics!r}; wanted "
                            f"MetricsMiddleware(app, PerformanceMetrics())")  # fmt: skip
        self.metrics = metrics
        self._source = HttpSource(metrics, clock, HttpMetrics(metrics, buckets) if http_metrics else None)
        self._skipped = PathFilter(skip_paths)
        self._skips = bool(skip_paths)

    def _passes(self, outer: object, path: str) -> bool:
        """Whether a request is not to be measured here.

        Nor where a middleware around this one measures it already, for the same hub; ``outer`` is what it left then.
        """
        skips = path in self._skipped
        if isinstance(outer, RequestMeasurement) and outer.recorder is self._source.recorder and not outer.done:
            if skips:
                outer.discard()
            return True
        return skips


class PathFilter:
    """The paths that are not measured."""

    def __init__(self, skip_paths: Collection[str]) -> None:
        if isinstance(skip_paths, str):
            raise TypeError(f"skip_paths must be a list of paths, not the text {skip_paths!r}")
        for path in skip_paths:
            if not isinstance(path, str) or not path.startswith("/") or "*" in path[:-1]:
                raise ValueError(
                    f"skip_paths cannot have {path!r}; wanted a path such as '/healthz', or the beginning of some with "
                    f"a star at its end, such as '/static/*'"
                )
        self._exact = frozenset(path for path in skip_paths if not path.endswith("*"))
        self._beginnings = tuple(path[:-1] for path in skip_paths if path.endswith("*"))

    def __contains__(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._beginnings)


class HttpSource(Source):
    """Where HTTP requests are recorded."""

    def __init__(self, metrics: PerformanceMetrics, clock: Callable[[], float], http: "HttpMetrics | None") -> None:
        super().__init__(metrics.recorder, clock)
        self.http = http


class HttpRequest(RequestMeasurement):
    """A request that came by HTTP. The application may set its `route`, where no framework does."""

    method: str
    """As the conventions have it: one of those that are known, or ``_OTHER``."""
    status: str = ""
    """Of the response: three digits, once there is one."""
    route: str = ""
    """The template of its route, ``/users/{id}``; never the path itself, of which there is no end."""
    aborted = Said("")
    """DISCONNECT or CANCELLED, when its response was not completed for no fault of the application."""
    first_byte: float | None = None
    """Seconds until the first byte of its response was sent, where that may have been a part only."""
    streams: bool = False
    """Whether its response came in several parts so far."""

    _source: HttpSource

    def __init__(self, source: HttpSource, method: str, path: str) -> None:
        self.method = _METHODS.get(method, _OTHER)
        self.status = self.route = ""
        self.first_byte = None
        # While it is served its route is not known, and where a worker hangs the path says more than a route anyhow.
        RequestMeasurement.__init__(self, source, f"{method} {path}")

    def sent(self) -> None:
        """A part of the response, with bytes in it, was handed to the server. Of the last one it may remain unsaid.

        The second part tells that the response is streamed, so that the time of its first byte means something.
        """
        if self.first_byte is None:
            self.first_byte = self._source.clock() - self._start
        elif not self.streams:
            self.streams = True
            http = self._source.http
            if http is not None:
                route = self.route if type(self.route) is str else ""
                first_byte = http.first_byte[self.method, self.status, route]
                if first_byte is not None:
                    first_byte.observe(self.first_byte)

    def fail_unanswered(self) -> None:
        """The application failed; where it has not answered yet, servers do."""
        self.status = self.status or "500"
        self.fail()

    def end(self, error: BaseException) -> None:
        """The application raised. That is an error, unless somebody stopped it."""
        if is_failure(error):
            self.fail_unanswered()
        else:
            self.aborted = CANCELLED
        self.finish()

    def finish(self, durations: Histogram | None = None) -> None:
        """Record the request, once."""
        if self.done:
            return
        http = self._source.http
        if http is None:
            RequestMeasurement.finish(self, durations)
            return
        route = self.route
        if type(route) is not str:  # the application's own idea of one
            route = ""
        RequestMeasurement.finish(self, http.duration[self.method, self.status, route])
        if not self.is_plain and self.aborted and not self.is_discarded:
            aborted = http.aborted[self.method, route, self.aborted]
            if aborted is not None:
                aborted.inc()


class HttpMetrics:
    """The HTTP metrics of a hub, as this process changes them: each by the values of its labels.

    Any thread may call; nothing here raises into a request, or makes it wait.
    """

    def __init__(self, metrics: PerformanceMetrics, buckets: Sequence[float]) -> None:
        labels = (_METHOD, _STATUS, _ROUTE)
        duration = Definition(
            DURATION, "histogram", "Time until a response's last byte", "seconds", labels, bounds(buckets)
        )
        self.duration = Series[Histogram](metrics.book.agree(duration))
        first_byte = replace(duration, name=FIRST_BYTE, help="Time until a streamed response's first byte")
        self.first_byte = Series[Histogram](metrics.book.agree(first_byte))
        aborted = Definition(
            ABORTED,
            "counter",
            "Responses not completed, for no fault of the application",
            labels=(_METHOD, _ROUTE, "reason"),
        )
        self.aborted = Series[Counter](metrics.book.agree(aborted))


class Series(dict[tuple[str, ...], _Instrument | None]):
    """A metric's series by the values of its labels: ``series["GET", "200", ""]``. None where it is not to be had."""

    def __init__(self, metric: Metric[_Instrument] | None) -> None:
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> _Instrument | None:
        if self._metric is None:
            return None
        instrument = self._metric.labels(*labels)
        if not instrument.overflows:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[labels] = instrument
        return instrument
