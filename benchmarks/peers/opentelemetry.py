"""OpenTelemetry's SDK: the metrics of one process, aggregated in it for a reader that nobody asks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    DISABLED,
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


@contextmanager
def _open(_directory: str) -> Iterator[None]:
    yield


def _calls(_: None) -> Mapping[str, Work]:
    from opentelemetry.metrics import NoOpMeterProvider  # noqa: PLC0415  others do without
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("shmetrics.benchmarks")
    counter, histogram = meter.create_counter("things"), meter.create_histogram("latency")
    names = ("inference", "batch", "preprocessing", "quantization")
    four: dict[str, Any] = {name: meter.create_histogram(name) for name in names}
    request = "\n".join(f"{name}.record({value})" for name, value in zip(names, MEASUREMENT, strict=True))
    nobody = NoOpMeterProvider().get_meter("shmetrics.benchmarks").create_counter("things")
    return {
        REQUEST: Call(f"counter.add(1)\n{request}", counter=counter, **four),
        ERROR: Call("errors.add(1)", errors=meter.create_counter("errors")),
        COUNTER: Call("counter.add(1)", counter=counter),
        LABELLED: Call("counter.add(1, {'model': 'a', 'route': 'b'})", counter=meter.create_counter("labelled")),
        GAUGE: Call(f"gauge.set({VALUE})", gauge=meter.create_gauge("queue")),
        HISTOGRAM: Call(f"histogram.record({VALUE})", histogram=histogram),
        STAGE: Call("begun = clock()\nhistogram.record(clock() - begun)", histogram=histogram, clock=perf_counter),
        IN_FLIGHT: Call("flying.add(1)\nflying.add(-1)", flying=meter.create_up_down_counter("in_flight")),
        DISABLED: Call("nobody.add(1)", nobody=nobody),
    }


PEERS = (Peer("OpenTelemetry", _open, _calls, needs("opentelemetry.sdk")),)
