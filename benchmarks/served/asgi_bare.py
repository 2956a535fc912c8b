"""The least that is an ASGI application."""

from collections.abc import Awaitable, Callable
from typing import Any

import measured


async def hello(scope: dict[str, Any], _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    """Answer."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


app = measured.asgi(hello)
