"""Forms: all lines of a family but for the numbers, as prometheus_client would write them, to the byte.

Names, labels and help texts stay the same from one scrape to the next. They are nearly all of a page, and putting them
together, with their quotes and in their order, is nearly all of the work; so it is done once.
"""

import re
from collections.abc import Sequence
from typing import Final

from prometheus_client.core import Exemplar, Metric, Sample

from shmetrics.exporters.prometheus.names import go_float
from shmetrics.exporters.prometheus.templates import Fill, Template, indices, joined

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TEXT_TYPES: Final = {
    "counter": ("_total", "counter"),
    "info": ("_info", "gauge"),
    "stateset": ("", "gauge"),
    "gaugehistogram": ("", "histogram"),
    "unknown": ("", "untyped"),
}
"""What the text format makes of the types that it does not have: suffix and type."""
_LATE: Final = ("_created", "_gcount", "_gsum")
"""Samples that only OpenMetrics knows: the text format has them as gauges at the end of a family."""


class Form:
    """The lines of a family with these samples, whatever their numbers are. See `has_form`."""

    def __init__(self, family: Metric) -> None:
        lines = [Template([f"{_series(sample)} "]) for sample in family.samples]
        suffix, kind = _TEXT_TYPES.get(family.type, ("", family.type))
        late: dict[str, list[int]] = {family.name + suffix: [] for suffix in _LATE}
        self._order: list[int] = []
        """The samples in the order of the text format."""
        for at, sample in enumerate(family.samples):
            late.get(sample.name, self._order).append(at)
        text = [Template([], _text_head(family, family.name + suffix, kind)), *(lines[at] for at in self._order)]
        for name, more in late.items():
            if more:
                text += [Template([], _text_head(family, name, "gauge")), *(lines[at] for at in more)]
                self._order += more
        self._which = None if self._order == sorted(self._order) else indices(self._order)
        self._text = joined(text)
        self._openmetrics = joined([Template([], _openmetrics_head(family)), *lines])

    @property
    def text_template(self) -> tuple[Template, Sequence[int]]:
        """The lines of the text format, and which of the samples' numbers each of their numbers is."""
        return self._text, self._order

    def text(self, numbers: Sequence[float], fill: Fill) -> bytes:
        """In the text format, with the samples' numbers. ``fill``: see `templates.filler`."""
        return self._text.filled(numbers, self._which, fill)

    def openmetrics(self, numbers: Sequence[str]) -> str:
        """In OpenMetrics, with the samples' numbers, `written`; one may have an exemplar `shown` behind it."""
        return self._openmetrics.formatted(numbers)


def has_form(family: Metric) -> bool:
    """Whether every name in a family is one that every Prometheus can read; of others prometheus_client makes more."""
    names = {family.name, *(sample.name for sample in family.samples)}
    labels = {label for sample in family.samples for label in sample.labels}
    return all(map(_NAME.fullmatch, names)) and all(map(_LABEL.fullmatch, labels))


def shown(exemplar: Exemplar) -> str:
    """What OpenMetrics has of an exemplar, behind its sample's number."""
    text = f" # {_braced(exemplar.labels)} {go_float(exemplar.value)}"
    return text if exemplar.timestamp is None else f"{text} {exemplar.timestamp}"


def _series(sample: Sample) -> str:
    return f"{sample.name}{_braced(sample.labels)}" if sample.labels else sample.name


def _braced(labels: dict[str, str]) -> str:
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items())]) + "}"


def _text_head(family: Metric, name: str, kind: str) -> str:
    documentation = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"


def _openmetrics_head(family: Metric) -> str:
    head = f"# HELP {family.name} {_escaped(family.documentation)}\n# TYPE {family.name} {family.type}\n"
    if family.unit:
        head += f"# UNIT {family.name} {family.unit}\n"
    return head


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
