"""The least that is a WSGI application."""

from collections.abc import Callable, Iterable
from typing import Any

import measured


def hello(_environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


app = measured.wsgi(hello)
