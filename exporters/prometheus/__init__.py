"""Prometheus: the whole fleet on one page, whichever process is scraped. The only code that knows prometheus_client.

    from shmetrics import PrometheusExporter
    PrometheusExporter(metrics)                                # in prometheus_client's registry
    app = make_wsgi_app(metrics)                               # or a route of one's own; make_asgi_app likewise

`docs/prometheus.md` lists the names.
"""

from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.exposition import render

__all__ = ["PrometheusExporter", "render"]
