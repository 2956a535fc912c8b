"""ddsketch and hdrhistogram: sketches of one process, which have percentiles and nothing else.

A request is a value for each of four, and a count.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import HISTOGRAM, MEASUREMENT, REQUEST, VALUE, Peer, needs

_NAMES = ("inference", "batch", "preprocessing", "quantization")
_HDR_RANGE = (1, 3_600_000_000, 2)
"""Microseconds up to an hour, two digits, which is about what our sketches promise."""


@contextmanager
def _open(_directory: str) -> Iterator[None]:
    yield


def _ddsketch(_: None) -> Mapping[str, Work]:
    from ddsketch import DDSketch  # noqa: PLC0415  others do without

    four: dict[str, Any] = {name: DDSketch(0.01) for name in _NAMES}
    adds = "\n".join(f"{name}.add({value})" for name, value in zip(_NAMES, MEASUREMENT, strict=True))
    return {
        REQUEST: Call(f"next(requests)\n{adds}", requests=count(), **four),
        HISTOGRAM: Call(f"sketch.add({VALUE})", sketch=DDSketch(0.01)),
    }


def _hdrhistogram(_: None) -> Mapping[str, Work]:
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415  others do without

    four: dict[str, Any] = {name: HdrHistogram(*_HDR_RANGE) for name in _NAMES}
    adds = "\n".join(
        f"{name}.record_value(int({value} * 1e6))" for name, value in zip(_NAMES, MEASUREMENT, strict=True)
    )
    return {
        REQUEST: Call(f"next(requests)\n{adds}", requests=count(), **four),
        HISTOGRAM: Call(f"histogram.record_value(int({VALUE} * 1e6))", histogram=HdrHistogram(*_HDR_RANGE)),
    }


PEERS = (
    Peer("ddsketch", _open, _ddsketch, needs("ddsketch")),
    Peer("hdrhistogram", _open, _hdrhistogram, needs("hdrh")),
)
