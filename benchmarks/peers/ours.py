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
from shmetrics.folding import Folding
from shmetrics.slots import FOLD
from shmetrics.writer import Writer


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


class _NeverFolding(Folding):
    """Says of all records that they are folded, and folds none."""

    def fold(self, head: int, fold: int) -> bool:
        self._words[FOLD] = (head << 1) | (fold & 1)
        return True


@contextmanager
def never_folding() -> Iterator[Mapping[str, Work]]:
    """A request as it is written, but for its part of a fold."""
    with PerformanceMetrics(window_size=1000) as metrics:
        writer = metrics.recorder
        assert isinstance(writer, Writer)
        writer.folding_class = _NeverFolding  # before it takes a slot
        yield {REQUEST: _request(metrics)}


def _request(metrics: PerformanceMetrics) -> Work:
    return Call(f"update{MEASUREMENT}", update=metrics.update_inference)


def _calls(metrics: PerformanceMetrics) -> Mapping[str, Work]:
    custom = CustomMetrics(metrics)
    board = metrics.recorder
    latency = custom.histogram("latency").labels()
    labelled = custom.counter("labelled_total", labels=["model", "route"])
    return {
        REQUEST: _request(metrics),
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
