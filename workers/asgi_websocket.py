"""WebSockets under ASGI: how many there are, how long they last and how they end.

A connection is not a request: it may live for days, and its length says nothing of how fast anything is. So it makes no
record, is not on the in-flight board and is no error in the hub's statistics; what it does for each message may be a
request of its own (``@metrics.measure``).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from shmetrics.families import Definition
from shmetrics.instruments import Histogram
from shmetrics.measurement import is_failure
from shmetrics.metrics import PerformanceMetrics
from shmetrics.workers.http_metrics import Series
from shmetrics.workers.routes import route_of_scope

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ACTIVE: Final = "websocket_active_connections"
DURATION: Final = "websocket_connection_duration_seconds"
BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)

CLOSED: Final = "closed"
"""How it ended: by either side, in order or because the client went away."""
REJECTED: Final = "rejected"
"""How it ended: never accepted."""
ERROR: Final = "error"
"""How it ended: the application raised, while the client was there."""
CANCELLED: Final = "cancelled"
"""How it ended: something stopped the application, the server most likely."""


class WebSocketMetrics:
    """The metrics of a hub's WebSockets, as this process changes them."""

    def __init__(self, metrics: PerformanceMetrics, clock: Callable[[], float]) -> None:
        active = metrics.book.agree(Definition(ACTIVE, "gauge", "WebSockets that are open", merge="live_sum"))
        self.active = None if active is None else active.labels()
        duration = Definition(
            DURATION, "histogram", "How long a WebSocket lasted", "seconds", ("http_route", "outcome"), BUCKETS
        )
        self.duration = Series[Histogram](metrics.book.agree(duration))
        self.clock = clock


async def serve_websocket(app: Application, scope: Scope, receive: Receive, send: Send, ours: WebSocketMetrics) -> None:
    """Serve one WebSocket, and count it when it ends. Exceptions pass unchanged."""
    accepted = left = False

    async def measured_receive() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "websocket.disconnect":
            left = True
        return message

    async def measured_send(message: Message) -> None:
        nonlocal accepted, left
        if message["type"] == "websocket.accept":
            accepted = True
        try:
            await send(message)
        except OSError:  # by which servers say that the client has gone
            left = True
            raise

    start = ours.clock()
    if ours.active is not None:
        ours.active.inc()
    outcome = CANCELLED
    try:
        await app(scope, measured_receive, measured_send)
        outcome = CLOSED if accepted or left else REJECTED
    except BaseException as error:
        if left:  # frameworks raise that too
            outcome = CLOSED
        elif is_failure(error):
            outcome = ERROR
        raise
    finally:
        if ours.active is not None:
            ours.active.dec()
        durations = ours.duration[route_of_scope(scope), outcome]
        if durations is not None:
            durations.observe(ours.clock() - start)
