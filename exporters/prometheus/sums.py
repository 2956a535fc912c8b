"""Sums that OpenMetrics does not have: of values less than 0, and of infinities that cancel out.

Its sums are counters, which are numbers and not negative, and a histogram without a sum has no count either. The text
format, and Prometheus itself, take any; of OpenMetrics they are left out, where strict parsers refuse a page for one.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric, Sample
from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus.ready import Ready

_TYPES: Final = ("histogram", "summary")


class LawfulSums:
    """A collector's families as OpenMetrics may have them."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Every family; one that has such sums without them."""
        for family in self._collector.collect():
            if family.type not in _TYPES or (isinstance(family, Ready) and _is_lawful(family)):
                yield family
            else:
                yield _lawful(family)


def _is_lawful(family: Ready) -> bool:
    return family.has_sums and all(number >= 0.0 for number in family.numbers)


def _lawful(family: Metric) -> Metric:
    total, count = f"{family.name}_sum", f"{family.name}_count"
    sums = {_series(sample) for sample in family.samples if sample.name == total and sample.value >= 0.0}

    def stays(sample: Sample) -> bool:
        ends = (total, count) if family.type == "histogram" else (total,)
        return sample.name not in ends or _series(sample) in sums

    if all(map(stays, family.samples)):
        return family
    lawful = Metric(family.name, family.documentation, family.type, family.unit)
    lawful.samples = list(filter(stays, family.samples))
    return lawful


def _series(sample: Sample) -> frozenset[tuple[str, str]]:
    return frozenset(sample.labels.items())
