"""statsd: a datagram for each change, on loopback, to a socket that nobody reads; the kernel drops what does not fit.

A request is one datagram, which is what its pipelines are for.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    ERROR,
    GAUGE,
    HISTOGRAM,
    IN_FLIGHT,
    MEASUREMENT,
    REQUEST,
    STAGE,
    VALUE,
    Peer,
    needs,
)


class _Listener:
    """Where datagrams go, and the clients that this process has made."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Any] = []


@contextmanager
def _open(_directory: str) -> Iterator[_Listener]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listener = _Listener(listening.getsockname()[1])
        try:
            yield listener
        finally:
            for client in listener.clients:
                client.close()


def _calls(listener: _Listener) -> Mapping[str, Work]:
    from statsd import StatsClient  # noqa: PLC0415  others do without

    client = StatsClient("127.0.0.1", listener.port)
    listener.clients.append(client)
    names = ("inference", "batch", "preprocessing", "quantization")
    timings = "\n".join(f"    pipe.timing('{name}', {value})" for name, value in zip(names, MEASUREMENT, strict=True))
    return {
        REQUEST: Call(f"with client.pipeline() as pipe:\n    pipe.incr('requests')\n{timings}", client=client),
        ERROR: Call("client.incr('errors')", client=client),
        COUNTER: Call("client.incr('things')", client=client),
        GAUGE: Call(f"client.gauge('queue', {VALUE})", client=client),
        HISTOGRAM: Call(f"client.timing('latency', {VALUE})", client=client),
        STAGE: Call("with client.timer('tokenization'):\n    pass", client=client),
        IN_FLIGHT: Call(
            "client.gauge('in_flight', 1, delta=True)\nclient.gauge('in_flight', -1, delta=True)", client=client
        ),
    }


PEERS = (Peer("statsd", _open, _calls, needs("statsd")),)
