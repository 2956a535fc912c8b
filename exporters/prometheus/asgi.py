"""The fleet's pages as an ASGI application: mounted in any worker's application, or by itself."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client.registry import Collector

from shmetrics import forks
from shmetrics.exporters.prometheus.buckets import Buckets
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.shared import Source
from shmetrics.exporters.prometheus.site import Request, Response, Site

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def make_asgi_app(
    metrics: Source, *, buckets: Buckets = None, prefix: str = "", include: Iterable[Collector] = ()
) -> _Application:
    """An application that serves ``/metrics``, ``/healthz`` and ``/readyz`` of the whole fleet, whoever runs it.

    Mounted below a path (``root_path``), its own root is the metrics too. Arguments as `PrometheusExporter` takes
    them. Under asyncio a page is made in a thread of its own, one page at a time, so that the loop goes on serving.
    """
    site = Site(PrometheusExporter(metrics, registry=None, buckets=buckets, prefix=prefix, include=include))
    thread = _Thread()

    async def fleet_app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "http":
            await _answer(send, await thread.call(lambda: site.respond(_request(scope))))
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})

    return fleet_app


class _Thread:
    """One thread, started when it is first needed: not the loop's pool, which inference may keep busy."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        forks.register(self)

    async def call(self, function: Callable[[], Response]) -> Response:
        """What `function()` returns; called at once where the loop is not asyncio's."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return function()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="shmetrics-scrape")
        return await loop.run_in_executor(self._pool, function)

    def after_fork_in_child(self) -> None:
        """Forget a thread that only the parent has. Called by `forks`."""
        self._pool = None


def _request(scope: _Scope) -> Request:
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):  # newer frameworks leave the mount's path in front
        path = path[len(root) :]
    return Request(
        method=scope["method"],
        path=path,
        mounted=bool(root),
        query=scope.get("query_string", b"").decode("latin-1"),
        accept=_header(scope, b"accept"),
        accept_encoding=_header(scope, b"accept-encoding"),
    )


def _header(scope: _Scope, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name)


async def _answer(send: _Send, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _lifespan(receive: _Receive, send: _Send) -> None:
    """Have nothing to start or stop, for servers that run this application by itself."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
