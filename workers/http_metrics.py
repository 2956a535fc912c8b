"""What the WSGI and the ASGI middleware have in common: which requests they measure, and the HTTP metrics of each.

Names, labels and buckets are OpenTelemetry's semantic conventions for HTTP servers, as Prometheus spells them
(https://opentelemetry.io/docs/specs/semconv/http/http-metrics/, and its rules for label values: a known method or
``_OTHER``, a route's template and never a path). They are custom metrics of the hub: see docs/http.md.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from shmetrics import native
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

_METHODS: Final[dict[object, str]] = {
    method: method
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
}
_OTHER: Final = "_OTHER"
_STATUSES: Final[dict[object, str]] = {spelled: str(code) for code in range(100, 600) for spelled in (code, str(code))}
_METHOD, _STATUS, _ROUTE = "http_request_method", "http_response_status_code", "http_route"
_MOST_KEPT: Final = 1000
"""Kinds of requests, and series, that are found at once."""
_Instrument = TypeVar("_Instrument", bound=Instrument)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class HttpMiddleware(native.Middleware):
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
        self._source = source_class()(metrics, clock, HttpMetrics(metrics, buckets) if http_metrics else None)
        self._skipped = PathFilter(skip_paths)
        self._skips = bool(skip_paths)

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For a copy: what is in the object's dictionary, and what is not."""
        return self.__dict__, {"_app": self._app, "_ahead": self._ahead}

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
        self.kinds = Kinds(http)
        self.request_class = native.in_front("HttpRequest", HttpRequest)

    def request(self, method: str, path: str) -> "HttpRequest":
        """A request has begun: what measures it."""
        return self.request_class(self, method, path)


def source_class() -> type[HttpSource]:
    """Where HTTP requests are recorded: in C, where that could be compiled and is used."""
    return native.in_front("HttpSource", HttpSource)


class HttpRequest(RequestMeasurement):
    """A request that came by HTTP. The application may set its `route`, where no framework does."""

    code: object = ""
    """The status of the response, once there is one, as a number or in digits: what the server was told."""
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
        self._method = method
        self.code = self.route = ""
        self.first_byte = None
        # While it is served its route is not known, and where a worker hangs the path says more than a route anyhow.
        RequestMeasurement.__init__(self, source, f"{method} {path}")

    @property
    def method(self) -> str:
        """As the conventions have it: one of those that are known, or ``_OTHER``."""
        return _method(self._method)

    @property
    def status(self) -> str:
        """Of the response: three digits, once there is one."""
        return _status(self.code)

    def sent(self) -> None:
        """A part of the response, with bytes in it, was handed to the server. Of the last one it may remain unsaid.

        The second part tells that the response is streamed, so that the time of its first byte means something. From
        then on each says that the worker goes on, so that nobody takes it for one that hangs.
        """
        if self.first_byte is None:
            self.first_byte = self._source.clock() - self._start
            return
        self._source.recorder.go_on()
        if not self.streams:
            self.streams = True
            http = self._source.http
            if http is not None:
                first_byte = http.first_byte[self.method, self.status, _route(self.route)]
                if first_byte is not None:
                    first_byte.observe(self.first_byte)

    def fail_unanswered(self) -> None:
        """The application failed; where it has not answered yet, servers do."""
        self.code = self.code or 500
        self.fail()

    def end(self, error: BaseException) -> None:
        """The application raised. That is an error, unless somebody stopped it."""
        if is_failure(error):
            self.fail_unanswered()
        else:
            self.aborted = CANCELLED
        self.finish()

    def finish(self) -> None:
        """Record the request, once."""
        if self.done:
            return
        kinds = self._source.kinds
        try:
            kind = kinds[self._method, self.code, self.route]
        except TypeError:  # the application's own idea of a status, or of a route
            kind = kinds[self._method, self.status, _route(self.route)]
        if kind.fails:
            self.fail()
        self._finish(kind.durations)
        if not self.is_plain and self.aborted and not self.is_discarded and self._source.http is not None:
            aborted = self._source.http.aborted[self.method, _route(self.route), self.aborted]
            if aborted is not None:
                aborted.inc()


class Kind(NamedTuple):
    """What requests of one kind have in common."""

    durations: Histogram | None
    """Where their durations count."""
    fails: bool
    """Whether they are errors: those of a status of 5xx."""


class Kinds(dict[tuple[object, object, object], Kind]):
    """The kinds of requests by method, status and route, all as the server and the application have them.

    So what these mean is found out once for each kind, and not for each request.
    """

    def __init__(self, http: "HttpMetrics | None") -> None:
        self._http = http

    def __missing__(self, key: tuple[object, object, object]) -> Kind:
        labels = _method(key[0]), _status(key[1]), _route(key[2])
        durations = None if self._http is None else self._http.duration[labels]
        kind = Kind(durations, labels[1].startswith("5"))
        if durations is None or not durations.overflows:
            _keep(self, key, kind)
        return kind


def _method(method: object) -> str:
    return _METHODS.get(method, _OTHER)


def _status(code: object) -> str:
    """A status as three digits; the empty text for what is none."""
    try:
        return _STATUSES.get(code, "")
    except TypeError:
        return ""


def _route(route: object) -> str:
    """A route; the empty text for what the application may have set instead of one."""
    return route if type(route) is str else ""


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
            _keep(self, labels, instrument)
        return instrument


def _keep(found: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Remember it, with as many others as there are kinds in any sane application."""
    if len(found) >= _MOST_KEPT:
        found.clear()
    found[key] = value
