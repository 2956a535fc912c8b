"""shmetrics itself."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shmetrics import CustomMetrics, PerformanceMetrics
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
    OURS,
    REQUEST,
    STAGE,
    VALUE,
    Peer,
)


@contextmanager
def _open(_directory: str) -> Iterator[PerformanceMetrics]:
    logger = logging.getLogger("shmetrics")
    level = logger.level
    logger.setLevel(logging.ERROR)  # a stage outside of a request is what is wanted here, and no slip
    try:
        with PerformanceMetrics(window_size=1000) as metrics:
            yield metrics
    finally:
        logger.setLevel(level)


def _calls(metrics: PerformanceMetrics) -> Mapping[str, Work]:
    custom = CustomMetrics(metrics)
    board = metrics.recorder
    latency = custom.histogram("latency").labels()
    labelled = custom.counter("labelled_total", labels=["model", "route"])
    return {
        REQUEST: Call(f"update{MEASUREMENT}", update=metrics.update_inference),
        ERROR: Call("error()", error=metrics.record_error),
        COUNTER: Call("counter.inc()", counter=custom.counter("things_total").labels()),
        LABELLED: Call("counter.labels('a', 'b').inc()", counter=labelled),
        GAUGE: Call(f"gauge.set({VALUE})", gauge=custom.gauge("queue", merge="live_sum").labels()),
        HISTOGRAM: Call(f"histogram.observe({VALUE})", histogram=latency),
        STAGE: Call("with histogram.time():\n    pass", histogram=latency),
        IN_FLIGHT: Call("leave(enter('GET /predict'))", enter=board.enter, leave=board.leave),
        DISABLED: Call("with stage('preprocessing'):\n    pass", stage=metrics.stage),
    }


PEERS = (Peer(OURS, _open, _calls, lacking=lambda: "", shared=True),)
