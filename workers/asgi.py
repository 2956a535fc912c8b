"""ASGI middleware: measures every request of any ASGI application.

    app = MetricsMiddleware(app, metrics)

The time of a request runs from the call of the application until it hands the last part of the response to the server,
streaming included. A status of 5xx, an exception and a response that stays incomplete are errors; a client that went
away and a cancellation are not, and are counted apart. An application that knows more says so in stages, or itself:

    scope["shmetrics.request"].batch_size = 16

What it does not say is inference time. WebSockets are counted and timed apart from requests (`asgi_websocket`). Metrics
never raise into a request, and no await is added to it. This needs no framework and no event loop, only ASGI 3
(https://asgi.readthedocs.io/en/latest/specs/main.html).

A worker takes its slot at the startup of its application's lifespan. After the shutdown its end is no news, though
uvicorn has it end by the signal that stopped it.
"""

from __future__ import annotations  # those of a function within another are made again at each call

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final

from shmetrics import native
from shmetrics.metrics import PerformanceMetrics, expect_end_all
from shmetrics.workers.asgi_websocket import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketMetrics,
    serve_websocket,
)
from shmetrics.workers.http_metrics import (
    DISCONNECT,
    HTTP_BUCKETS,
    REQUEST_KEY,
    HttpMiddleware,
    HttpRequest,
)
from shmetrics.workers.routes import route_of_scope

_BODY: Final = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")
"""Messages with a part of a response, those of extensions too; the last has no "more_body"."""
_WEBSOCKET_KEY: Final = "shmetrics.websocket"


class MetricsMiddleware(HttpMiddleware):
    """Wraps an ASGI 3 application. One object serves all tasks and threads of a process, and children of fork.

    Arguments as `HttpMiddleware` takes them.
    """

    def __init__(
        self,
        app: Application,
        metrics: PerformanceMetrics,
        *,
        skip_paths: Collection[str] = (),
        http_metrics: bool = True,
        buckets: Sequence[float] = HTTP_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(metrics, skip_paths=skip_paths, http_metrics=http_metrics, buckets=buckets, clock=clock)
        self._app = app
        self._raises: bool | None = None
        self._ahead = native.ahead("begin_asgi", MetricsMiddleware.begin, self, self._source, self._skips)
        self._websockets = WebSocketMetrics(metrics, clock) if http_metrics else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the application's life from its startup to its shutdown."""
        begun = self._ahead(self, scope, receive, send)
        if begun is None:
            await self._serve_other(scope, receive, send)
            return
        request, receive, send = begun
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            _end(request, scope, error)
            raise
        if not request.done:
            _end(request, scope, None)

    def begin(self, scope: Scope, receive: Receive, send: Send) -> tuple[HttpRequest, Receive, Send] | None:
        """A request begins: what measures it, and what its application receives and sends by.

        None for what is no request, and for one that is not to be measured.
        """
        if scope["type"] != "http":
            return None
        if (self._skips or REQUEST_KEY in scope) and self._passes(scope.get(REQUEST_KEY), scope["path"]):
            return None
        if self._raises is None:
            self._raises = _raises(scope)
        request = scope[REQUEST_KEY] = self._source.request(scope["method"], scope["path"])
        measured_receive = partial(receive_measured, request, receive)
        measured_send = partial(send_measured, request, send, scope, self._raises)
        request.begin()
        return request, measured_receive, measured_send

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is not measured as a request."""
        kind = scope["type"]
        if kind == "websocket" and self._websockets is not None and _WEBSOCKET_KEY not in scope:
            scope[_WEBSOCKET_KEY] = True
            await serve_websocket(self._app, scope, receive, send, self._websockets)
            return
        if kind == "lifespan":
            self.metrics.claim()  # now, so that no request waits for the slot
            await _serve_lifespan(self._app, scope, receive, send)
            return
        await self._app(scope, receive, send)


_lifespans: Final[set[int]] = set()
"""Those of this process that go on."""


async def _serve_lifespan(app: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve an application's life. When the last of a process has come to its shutdown, the process is about to end."""
    life = id(scope)

    async def watched(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            _lifespans.discard(life)
            if not _lifespans:
                expect_end_all(True)
        await send(message)

    _lifespans.add(life)
    expect_end_all(False)  # there may have been others, as with the test clients of frameworks
    try:
        await app(scope, receive, watched)
    finally:
        _lifespans.discard(life)


async def receive_measured(request: HttpRequest, receive: Receive) -> Message:
    """Hand the application what the client sent."""
    message = await receive()
    if message["type"] == "http.disconnect" and not request.done:
        request.aborted = DISCONNECT
    return message


def send_measured(request: HttpRequest, send: Send, scope: Scope, raises: bool, message: Message, /) -> Awaitable[None]:
    """Hand the server what the application sends. A response is recorded before its last part is on its way.

    So what a client has got is counted, even when this process is killed at that very moment.
    """
    kind = message["type"]
    if kind == "http.response.start":
        if not request.code:
            request.code = message["status"]
        if not request.route:
            request.route = route_of_scope(scope)
    elif kind in _BODY:
        if not message.get("more_body", False):
            if request.first_byte is not None and message.get("body"):
                request.sent()
            request.finish()
            return send(message)
        if message.get("body"):
            request.sent()
    return _watched(send, message, request) if raises else send(message)


native.tell("use_asgi", receive=receive_measured, send=send_measured, key=REQUEST_KEY)


async def _awaited(awaitable: Awaitable[None]) -> None:
    """Await what is no coroutine."""
    await awaitable


async def _watched(send: Send, message: Message, request: HttpRequest) -> None:
    """Hand a message to a server that may raise."""
    try:
        await send(message)
    except OSError:  # by which servers say that the client has gone
        request.aborted = DISCONNECT
        raise


def _end(request: HttpRequest, scope: Scope, error: BaseException | None) -> None:
    """The application has raised, or returned without having completed its response."""
    if request.done and isinstance(error, OSError):
        return  # the server's, about the last part most likely
    if not request.route:
        request.route = route_of_scope(scope)
    if request.aborted:
        request.finish()  # whatever is raised: frameworks raise that the client has gone, too
    elif error is None:
        request.fail_unanswered()
        request.finish()
    else:
        request.end(error)


def _raises(scope: Scope) -> bool:
    """Whether the server raises an OSError where the client has gone: from version 2.4 of the specification on it must.

    Before, what is sent to nobody is ignored. A server that does not say its version may do either.
    """
    version = scope.get("asgi", {}).get("spec_version", "")
    try:
        return tuple(map(int, version.split("."))) >= (2, 4)
    except ValueError:
        return True


native.tell("use_served", call=MetricsMiddleware.__call__, awaited=_awaited, end=_end)
native.tell("call_directly", MetricsMiddleware)
