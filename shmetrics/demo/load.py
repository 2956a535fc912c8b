"""The client: some threads that ask, at a bounded rate and for a bounded time, and count what they get back."""

import http.client
import random
import threading
import time
from dataclasses import dataclass
from typing import Final

THREADS: Final = 8
RATE: Final = 50.0
"""Requests per second of each thread, at most."""
_TIMEOUT: Final = 10.0
_ERROR_SHARE: Final = 0.01
_INT8_SHARE: Final = 0.3


@dataclass
class Tally:
    """What one thread, or all of them, saw."""

    responses: int = 0
    server_errors: int = 0
    interrupted: int = 0
    """Requests whose connection broke before the response was complete; the server did not complete them either."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.responses + other.responses,
            self.server_errors + other.server_errors,
            self.interrupted + other.interrupted,
        )


class Load:
    """Asks ``127.0.0.1:port`` until stopped. Start once, stop once."""

    def __init__(self, port: int, seed: int = 1) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._tallies = [Tally() for _ in range(THREADS)]
        self._threads = [
            threading.Thread(target=self._ask, args=(tally, random.Random(seed + at)), name=f"client-{at}")
            for at, tally in enumerate(self._tallies)
        ]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """Let every request under way finish; returns what all of them saw."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return self.tally

    @property
    def tally(self) -> Tally:
        """What was seen so far."""
        return sum(self._tallies, Tally())

    def _ask(self, tally: Tally, draw: random.Random) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                status = self._request(draw)
            except (OSError, http.client.HTTPException):
                tally.interrupted += 1
            else:
                tally.responses += 1
                tally.server_errors += status >= 500
            due = max(due + 1.0 / RATE, time.monotonic())
            self._stopping.wait(due - time.monotonic())

    def _request(self, draw: random.Random) -> int:
        """One request on a connection of its own, read to its last byte; returns the status."""
        path = "/predict"
        if draw.random() >= _ERROR_SHARE:
            precision = "int8" if draw.random() < _INT8_SHARE else "float32"
            image, batch = int(draw.paretovariate(1.0)) % 1000, draw.choice((1, 2, 4, 8))
            path += f"?image={image}&batch={batch}&precision={precision}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
