"""The three pages that a fleet is watched by, whatever server stands in front."""

from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from shmetrics.errors import ShmetricsError
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.exposition import negotiated

PATHS: Final = ("/metrics", "/healthz", "/readyz")
"""Where they are."""
_METHODS: Final = ("GET", "HEAD")
_TEXT: Final = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """What of a request matters here."""

    method: str
    path: str
    """Below where the application is mounted."""
    mounted: bool
    """Whether it is mounted somewhere, so that its own root is the page."""
    query: str
    accept: str
    accept_encoding: str


class Response(NamedTuple):
    """A whole answer."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes
    """Empty for HEAD, whose headers are those of GET."""


class Site:
    """Answers requests for one fleet. Any thread may call, several at once: those that overlap share a snapshot.

    A page is whole before its first byte is sent, so a client that reads slowly holds nothing but its own copy.
    """

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter

    def respond(self, request: Request) -> Response:
        """The answer; 503 where the hub cannot be read. What an included collector raises is passed on."""
        path = "/metrics" if request.mounted and request.path in ("", "/") else request.path
        if path not in PATHS:
            response = _text(HTTPStatus.NOT_FOUND, f"there is nothing at {path!r}; there are {', '.join(PATHS)}")
        elif request.method not in _METHODS:
            response = _text(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not possible; GET and HEAD are")
            response.headers.append(("Allow", ", ".join(_METHODS)))
        elif path == "/healthz":
            response = _text(HTTPStatus.OK, "ok")
        else:
            try:
                response = self._ready() if path == "/readyz" else self._metrics(request)
            except (ShmetricsError, OSError) as error:
                response = _text(HTTPStatus.SERVICE_UNAVAILABLE, f"the hub cannot be read: {error}")
        return response._replace(body=b"") if request.method == "HEAD" else response

    def _metrics(self, request: Request) -> Response:
        names = parse_qs(request.query).get("name[]", [])
        page = negotiated(self._exporter, names, request.accept, request.accept_encoding)
        headers = [("Content-Type", page.content_type), ("Content-Length", str(len(page.body)))]
        headers += [("Vary", "Accept, Accept-Encoding"), ("Cache-Control", "no-store")]
        if page.encoding is not None:
            headers.append(("Content-Encoding", page.encoding))
        return Response(HTTPStatus.OK, headers, page.body)

    def _ready(self) -> Response:
        snapshot = self._exporter.snapshot()
        if snapshot.health.unlinked:
            return _text(
                HTTPStatus.SERVICE_UNAVAILABLE, f"hub {snapshot.name!r} was removed; restart to attach to its successor"
            )
        return _text(HTTPStatus.OK, "ready")


def _text(status: HTTPStatus, text: str) -> Response:
    body = f"{text}\n".encode()
    headers = [("Content-Type", _TEXT), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return Response(status, headers, body)
