"""How long requests took, real ones, to a real server: not a distribution that has a name."""

import os
import random
import sys
import threading
import time
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else headers and body are 40 ms apart

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *about: Any) -> None:
        """Who is interrupted goes away in the middle of an answer, which is no error of the server's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*about)


def requests(count: int, seed: int) -> list[float]:
    """The seconds of so many GETs over one connection, of files and listings of Python's library, which are drawn.

    The server is that of the standard library, on loopback; it is gone afterwards.
    """
    root = os.path.dirname(os.__file__)
    paths = sorted(
        entry.name + ("/" if entry.is_dir() else "")
        for entry in os.scandir(root)
        if not entry.name.startswith((".", "_"))
    )
    draw = random.Random(seed)
    with _Server(("127.0.0.1", 0), partial(_Handler, directory=root)) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        client = HTTPConnection("127.0.0.1", server.server_port, timeout=30.0)
        try:
            return [_get(client, "/" + draw.choice(paths)) for _ in range(count)]
        finally:
            client.close()
            server.shutdown()
            serving.join()


def _get(client: HTTPConnection, path: str) -> float:
    begun = time.perf_counter()
    client.request("GET", path)
    client.getresponse().read()
    return time.perf_counter() - begun
