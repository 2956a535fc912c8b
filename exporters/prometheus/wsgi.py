"""The fleet's pages as a WSGI application: on a route of any worker, or by itself."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus.buckets import Buckets
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.shared import Source
from shmetrics.exporters.prometheus.site import Request, Site

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def make_wsgi_app(
    metrics: Source, *, buckets: Buckets = None, prefix: str = "", include: Iterable[Collector] = ()
) -> _Application:
    """An application that serves ``/metrics``, ``/healthz`` and ``/readyz`` of the whole fleet, whoever runs it.

    Mounted below a path (``SCRIPT_NAME``), its own root is the metrics too. Arguments as `PrometheusExporter` takes
    them. Any thread, greenlet or forked child may call it.
    """
    site = Site(PrometheusExporter(metrics, registry=None, buckets=buckets, prefix=prefix, include=include))

    def fleet_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        response = site.respond(
            Request(
                method=environ["REQUEST_METHOD"],
                path=environ.get("PATH_INFO", ""),
                mounted=bool(environ.get("SCRIPT_NAME")),
                query=environ.get("QUERY_STRING", ""),
                accept=environ.get("HTTP_ACCEPT", ""),
                accept_encoding=environ.get("HTTP_ACCEPT_ENCODING", ""),
            )
        )
        start_response(f"{response.status.value} {response.status.phrase}", response.headers)
        return [response.body] if response.body else []

    return fleet_app
