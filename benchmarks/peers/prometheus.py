"""prometheus_client, the incumbent: in multiprocess mode, and in the mode for one process.

It chooses between the two when it is imported, by an environment variable, and keeps the choice in
``prometheus_client.values.ValueClass``, which its metrics ask when they are made. So both can be had in one process.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    ERROR,
    GAUGE,
    HISTOGRAM,
    IN_FLIGHT,
    LABELLED,
    MEASUREMENT,
    REQUEST,
    STAGE,
    VALUE,
    Peer,
    needs,
)

MULTIPROCESS: Final = "prometheus_client multiprocess"
SINGLE: Final = "prometheus_client, one process"
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Its variable; it looks there again whenever it finds itself in a new process."""


@contextmanager
def multiprocess(directory: str) -> Iterator[str]:
    """Its files lie in `directory`, for this process and those that it starts in the block."""
    before = os.environ.get(DIRECTORY)
    os.environ[DIRECTORY] = directory
    try:
        yield directory
    finally:
        if before is None:
            del os.environ[DIRECTORY]
        else:
            os.environ[DIRECTORY] = before


@contextmanager
def kept_as(kind: str) -> Iterator[None]:
    """Metrics that are made in the block keep their figures so."""
    from prometheus_client import values  # noqa: PLC0415  others do without

    before = values.ValueClass
    values.ValueClass = values.MutexValue if kind == SINGLE else values.MultiProcessValue()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        values.ValueClass = before


def _works() -> Mapping[str, Work]:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # noqa: PLC0415

    registry = CollectorRegistry()
    counter = Counter("things", "Things.", registry=registry)
    errors = Counter("errors", "Errors.", registry=registry)
    labelled = Counter("labelled", "Things.", ["model", "route"], registry=registry)
    labelled.labels("a", "b")  # what is made later would not be of this kind
    gauge = Gauge("queue", "Queue.", registry=registry, multiprocess_mode="livesum")
    histogram = Histogram("latency", "Latency.", registry=registry)
    names = ("inference", "batch", "preprocessing", "quantization")
    four: dict[str, Any] = {name: Histogram(name, f"{name}.", registry=registry) for name in names}
    request = "\n".join(f"{name}.observe({value})" for name, value in zip(names, MEASUREMENT, strict=True))
    return {
        REQUEST: Call(f"counter.inc()\n{request}", counter=counter, **four),
        ERROR: Call("errors.inc()", errors=errors),
        COUNTER: Call("counter.inc()", counter=counter),
        LABELLED: Call("counter.labels('a', 'b').inc()", counter=labelled),
        GAUGE: Call(f"gauge.set({VALUE})", gauge=gauge),
        HISTOGRAM: Call(f"histogram.observe({VALUE})", histogram=histogram),
        STAGE: Call("with histogram.time():\n    pass", histogram=histogram),
        IN_FLIGHT: Call("gauge.inc()\ngauge.dec()", gauge=gauge),
    }


def _calls_multiprocess(_directory: str) -> Mapping[str, Work]:
    with kept_as(MULTIPROCESS):
        return _works()


@contextmanager
def _alone(_directory: str) -> Iterator[None]:
    yield


def _calls_single(_: None) -> Mapping[str, Work]:
    with kept_as(SINGLE):
        return _works()


PEERS = (
    Peer(MULTIPROCESS, multiprocess, _calls_multiprocess, needs("prometheus_client"), shared=True),
    Peer(SINGLE, _alone, _calls_single, needs("prometheus_client")),
)
