"""shmetrics itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    ERROR,
    GAUGE,
    HISTOGRAM,
    LABELLED,
    MEASUREMENT,
    OURS,
    REQUEST,
    VALUE,
    Peer,
)


@contextmanager
def _open(_directory: str) -> Iterator[PerformanceMetrics]:
    with PerformanceMetrics(window_size=1000) as metrics:
        yield metrics


def _calls(metrics: PerformanceMetrics) -> Mapping[str, Work]:
    custom = CustomMetrics(metrics)
    labelled = custom.counter("labelled_total", labels=["model", "route"])
    return {
        REQUEST: Call(f"update{MEASUREMENT}", update=metrics.update_inference),
        ERROR: Call("error()", error=metrics.record_error),
        COUNTER: Call("counter.inc()", counter=custom.counter("things_total").labels()),
        LABELLED: Call("counter.labels('a', 'b').inc()", counter=labelled),
        GAUGE: Call(f"gauge.set({VALUE})", gauge=custom.gauge("queue", merge="live_sum").labels()),
        HISTOGRAM: Call(f"histogram.observe({VALUE})", histogram=custom.histogram("latency").labels()),
    }


PEERS = (Peer(OURS, _open, _calls, lacking=lambda: "", shared=True),)
