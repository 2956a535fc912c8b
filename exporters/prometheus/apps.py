"""make_wsgi_app and make_asgi_app for both: a registry, as in prometheus_client, or the metrics of a fleet."""

from collections.abc import Callable
from typing import Any, overload

import prometheus_client
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus import asgi, wsgi
from shmetrics.exporters.prometheus.shared import Source

_App = Callable[..., Any]


@overload
def make_wsgi_app(registry: Collector = REGISTRY, disable_compression: bool = False) -> _App: ...
@overload
def make_wsgi_app(registry: Source, **options: Any) -> _App: ...
def make_wsgi_app(registry: Any = REGISTRY, disable_compression: bool = False, **options: Any) -> _App:
    """A WSGI application with the page of a registry, the default one unless given.

    Or, for `PerformanceMetrics` or a `Hub`, of that fleet: `shmetrics.exporters.prometheus.wsgi.make_wsgi_app`, with
    its ``options``.
    """
    if hasattr(registry, "snapshot"):
        return wsgi.make_wsgi_app(registry, **options)
    return prometheus_client.make_wsgi_app(registry, disable_compression, **options)


@overload
def make_asgi_app(registry: Collector = REGISTRY, disable_compression: bool = False) -> _App: ...
@overload
def make_asgi_app(registry: Source, **options: Any) -> _App: ...
def make_asgi_app(registry: Any = REGISTRY, disable_compression: bool = False, **options: Any) -> _App:
    """An ASGI application; see `make_wsgi_app`."""
    if hasattr(registry, "snapshot"):
        return asgi.make_asgi_app(registry, **options)
    return prometheus_client.make_asgi_app(registry, disable_compression, **options)
