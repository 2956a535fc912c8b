"""Prometheus: the whole fleet on one page, whichever process is scraped. The only code that knows prometheus_client.

    from shmetrics import PrometheusExporter
    PrometheusExporter(metrics)                 # in prometheus_client's registry
    app = make_wsgi_app(metrics)                # or on a route of one's own; make_asgi_app likewise

    from shmetrics.exporters.prometheus import Counter, Histogram, start_http_server     # in place of prometheus_client

`docs/prometheus.md` lists the names, `docs/migration.md` says how to move from prometheus_client. What else that has is
handed on, so that an import line changes as a whole.
"""

from typing import Any

import prometheus_client
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    start_http_server,
    start_wsgi_server,
)

from shmetrics.exporters.prometheus.apps import make_asgi_app, make_wsgi_app
from shmetrics.exporters.prometheus.buckets import BATCH_BUCKETS, DURATION_BUCKETS
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.exposition import generate_latest, render
from shmetrics.exporters.prometheus.face import Counter, Enum, Gauge, Histogram, Info, Summary
from shmetrics.exporters.prometheus.home import use
from shmetrics.exporters.prometheus.server import Server

__all__ = [
    "BATCH_BUCKETS",
    "CONTENT_TYPE_LATEST",
    "DURATION_BUCKETS",
    "REGISTRY",
    "CollectorRegistry",
    "Counter",
    "Enum",
    "Gauge",
    "Histogram",
    "Info",
    "PrometheusExporter",
    "Server",
    "Summary",
    "generate_latest",
    "make_asgi_app",
    "make_wsgi_app",
    "render",
    "start_http_server",
    "start_wsgi_server",
    "use",
]


def __getattr__(name: str) -> Any:
    """Whatever else prometheus_client offers."""
    if name in prometheus_client.__all__:
        return getattr(prometheus_client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
