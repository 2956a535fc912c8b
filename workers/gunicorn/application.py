"""The application of a gunicorn worker, and the middleware that is put around it.

Which middleware, the kind of worker says: what it calls is ``worker.wsgi`` or, in gunicorn's own ASGI worker,
``worker.asgi``. What a worker of another kind calls may be neither (aiohttp, Tornado), and is left alone.
"""

import os
from typing import Any, Final

from shmetrics import metrics, segment
from shmetrics.errors import HubNotFoundError
from shmetrics.metrics import PerformanceMetrics

_WSGI: Final = ("gunicorn.workers.sync", "gunicorn.workers.gthread", "gunicorn.workers.base_async")
"""Where the worker classes are defined that call ``worker.wsgi`` as PEP 3333 has it; those of gevent and eventlet are
of the last one."""
_ASGI: Final = ("gunicorn.workers.gasgi", "uvicorn.workers", "uvicorn_worker")


def measure(worker: Any) -> None:
    """Have every request of this worker measured, unless the application sees to that itself.

    An application that has metrics of the hub when it is loaded may record its requests, which would count twice then.
    The middlewares see to that among themselves; of one that calls `update_inference` nobody would know. One whose only
    metrics stand in for prometheus_client's does not.

    Raises what making metrics of the hub raises.
    """
    kind = _kind(worker)
    if kind is None:
        worker.log.warning(
            "shmetrics: no way to measure requests of worker class %s; have the application record them",
            type(worker).__qualname__,
        )
        return
    place = "asgi" if hasattr(worker, "asgi") else "wsgi"
    app = getattr(worker, place)
    middleware = _middleware(kind)
    if isinstance(app, middleware):
        return
    if metrics.default_hub() in metrics.recorded_hubs():
        worker.log.info(
            "shmetrics: the application has metrics of its own, and is left to record its requests "
            "(shmetrics.workers.%s.MetricsMiddleware around it does so)",
            kind,
        )
        return
    setattr(worker, place, middleware(app, _metrics_of_default_hub()))


def _kind(worker: Any) -> str | None:
    """``wsgi`` or ``asgi``; None for what we do not know."""
    for cls in type(worker).__mro__:
        if cls.__module__.startswith(_WSGI):
            return "wsgi"
        if cls.__module__.startswith(_ASGI):
            # uvicorn's workers can be told to serve WSGI (CONFIG_KWARGS of a subclass).
            interface = getattr(getattr(worker, "config", None), "interface", "auto")
            return {"wsgi": "wsgi", "auto": "asgi", "asgi3": "asgi"}.get(interface)
    return None


def _middleware(kind: str) -> Any:
    """The middleware class. Imported here: a worker pays for its own kind alone, and asyncio must not be loaded in an
    arbiter whose workers gevent is going to patch.
    """
    if kind == "asgi":
        from shmetrics.workers.asgi import MetricsMiddleware as Asgi  # noqa: PLC0415

        return Asgi
    from shmetrics.workers.wsgi import MetricsMiddleware as Wsgi  # noqa: PLC0415

    return Wsgi


def _metrics_of_default_hub() -> PerformanceMetrics:
    """Metrics of the default hub, whatever its dimensions."""
    name = os.environ[metrics.HUB_VARIABLE]
    try:
        found = segment.attach(name)
    except HubNotFoundError:
        return PerformanceMetrics()
    dims = found.layout
    found.close()
    return PerformanceMetrics(window_size=dims.window_size, max_workers=dims.max_workers, max_series=dims.max_series)
