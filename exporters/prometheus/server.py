"""A small HTTP server for the fleet's pages, in a thread beside whatever the process does: the aggregator's."""

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.registry import Collector

from shmetrics.errors import ShmetricsError
from shmetrics.exporters.prometheus.shared import Source
from shmetrics.exporters.prometheus.wsgi import make_wsgi_app

_PATIENCE: Final = 10.0
"""Seconds a client may keep a connection waiting."""
_CONNECTIONS: Final = 32
"""Connections at once, so that idle clients cannot fill the process."""
_FAIR_SHARE: Final = 1.0
"""Seconds after which a connection gives way to one that comes on top; before, that one is turned away."""
_POLL: Final = 0.1
"""Seconds that `close` may take."""


class Server:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` from a daemon thread until `close`.

    ``port`` 0 takes a free one; ``include``: other collectors for the page. Raises ShmetricsError where it cannot
    listen. Usable as a context manager.
    """

    def __init__(
        self, metrics: Source, port: int, host: str = "127.0.0.1", *, include: Iterable[Collector] = ()
    ) -> None:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._server = _server_class(family)(address[:2], _Handler)
        except OSError as error:
            raise ShmetricsError(
                f"cannot listen on port {port} of {host}: {error.strerror}; choose another port (0 takes a free one), "
                f"or end what has it"
            ) from None
        self._server.set_app(make_wsgi_app(metrics, include=include))
        self.port: int = self._server.server_address[1]
        """The port it listens on."""
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/metrics"
        """Where the metrics are."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="shmetrics-serve", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Answers under way are completed or not; nobody waits for them."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Handler(WSGIRequestHandler):
    """Logs nothing, and waits for nobody for ever."""

    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request: there is one every few seconds for ever."""


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection.

    When there are too many, the oldest gives way: clients that ask or read a byte at a time keep no scrape out.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self.since: dict[Any, float] = {}
        """The connections, each with when it began, the oldest first."""
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Bind, and do not ask a name server, which may be slow, for the machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or turn away."""
        if not self._has_room():
            self.shutdown_request(request)
            return
        self.since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self.since.pop(request, None)
            self.shutdown_request(request)

    def _has_room(self) -> bool:
        known = list(self.since.items())
        if len(known) < _CONNECTIONS:
            return True
        oldest, since = known[0]
        if time.monotonic() - since < _FAIR_SHARE:
            return False
        self.since.pop(oldest, None)
        with suppress(OSError):  # it has ended meanwhile
            oldest.shutdown(socket.SHUT_RDWR)  # its thread, which waits for the client, then ends
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.since.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what is wrong here; a client that went away or fell silent is not."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _server_class(family: int) -> type[_ThreadingServer]:
    """The server for this family of addresses, which the standard library wants in the class."""
    return type("_Server", (_ThreadingServer,), {"address_family": family})
