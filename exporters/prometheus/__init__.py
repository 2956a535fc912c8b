"""Prometheus: the whole fleet on one page, whichever process is scraped. The only code that knows prometheus_client.

    from shmetrics import PrometheusExporter
    PrometheusExporter(metrics)                 # in prometheus_client's registry
    app = make_wsgi_app(metrics)                # or on a route of one's own; make_asgi_app likewise

`docs/prometheus.md` lists the names.
"""

from shmetrics.exporters.prometheus.asgi import make_asgi_app
from shmetrics.exporters.prometheus.buckets import BATCH_BUCKETS, DURATION_BUCKETS
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.exposition import render
from shmetrics.exporters.prometheus.server import Server
from shmetrics.exporters.prometheus.wsgi import make_wsgi_app

__all__ = [
    "BATCH_BUCKETS",
    "DURATION_BUCKETS",
    "PrometheusExporter",
    "Server",
    "make_asgi_app",
    "make_wsgi_app",
    "render",
]
