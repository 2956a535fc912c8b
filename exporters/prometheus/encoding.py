"""Writing families down as prometheus_client would, to the byte, many times faster.

Its encoders look anew at every name on every line, which for a large fleet takes longer than all of the rest of a
scrape. Here numbers are put into the family's form, which is remembered from the page before (`forms`). What has none
(odd names, timestamps) is left to its encoder, family by family; tests hold the two against each other.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from prometheus_client.core import Exemplar, Metric, Sample
from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus.forms import Form, has_form, shown
from shmetrics.exporters.prometheus.numbers import written
from shmetrics.exporters.prometheus.ready import Ready
from shmetrics.exporters.prometheus.templates import filler

Encoder = Callable[[Collector], bytes]

_VALUE: Final = Sample._fields.index("value")
"""Before it are the name and the labels."""
_TIMESTAMP: Final = Sample._fields.index("timestamp")
_EXEMPLAR: Final = Sample._fields.index("exemplar")
_NOTHING: Final = (None,) * (len(Sample._fields) - _TIMESTAMP)
"""A sample's timestamp, exemplar, and what younger versions of prometheus_client add, where it has none."""
_WITH_EXEMPLARS: Final = {"counter": "_total", "histogram": "_bucket", "gaugehistogram": "_bucket"}
"""How the samples end that may have exemplars, by type of family."""
_MOST_FORMS: Final = 4096
_END: Final = "# EOF\n"


@runtime_checkable
class HasText(Protocol):
    """A collector that has some of its families in the text format."""

    def text_parts(self) -> Iterator[Metric | bytes]:
        """What `collect` gives; as text where that is there already, of several families at once it may be."""


def text(collector: Collector, theirs: Encoder) -> bytes:
    """The page in the text format, which has no exemplars. ``theirs``: prometheus_client's encoder."""
    parts, fill = list[bytes](), filler()
    for family in collector.text_parts() if isinstance(collector, HasText) else collector.collect():
        if isinstance(family, bytes):
            parts.append(family)
            continue
        if isinstance(family, Ready):
            parts.append(family.form.text(family.numbers, fill))
            continue
        form = _form_of(family)
        if form is None or _exemplars(family) is None:
            parts.append(theirs(_One(family)))
        else:
            parts.append(form.text([sample.value for sample in family.samples], fill))
    return b"".join(parts)


def openmetrics(collector: Collector, theirs: Encoder) -> bytes:
    """The page as OpenMetrics; likewise."""
    parts = []
    for family in collector.collect():
        if isinstance(family, Ready) and not family.has_exemplars:
            parts.append(family.form.openmetrics(written(family.numbers)))
            continue
        form, exemplars, end = _form_of(family), _exemplars(family), _WITH_EXEMPLARS.get(family.type)
        if (
            form is None
            or exemplars is None
            or not all(end and family.samples[at].name == family.name + end for at in exemplars)
        ):
            parts.append(theirs(_One(family)).decode().removesuffix(_END))
            continue
        numbers = written([sample.value for sample in family.samples])
        for at, exemplar in exemplars.items():
            numbers[at] += shown(exemplar)
        parts.append(form.openmetrics(numbers))
    return "".join([*parts, _END]).encode()


class _One:
    """A collector of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """It."""
        yield self._family


def _exemplars(family: Metric) -> dict[int, Exemplar] | None:
    """By a sample's index, those there are; None where a sample has something else behind its number."""
    if [sample[_TIMESTAMP:] for sample in family.samples] == [_NOTHING] * len(family.samples):
        return {}
    found = {}
    for at, sample in enumerate(family.samples):
        if sample.timestamp is not None or any(more is not None for more in sample[_EXEMPLAR + 1 :]):
            return None
        if sample.exemplar is not None:
            found[at] = sample.exemplar
    return found


class _Known(NamedTuple):
    """A form, or None where there can be none, and what it was made for."""

    shape: tuple[Any, ...]
    form: Form | None


_known: Final[dict[str, _Known]] = {}
"""The last family of each name."""


def _form_of(family: Metric) -> Form | None:
    shape = (family.type, family.documentation, family.unit, [sample[:_VALUE] for sample in family.samples])
    known = _known.get(family.name)
    if known is None or known.shape != shape:
        if len(_known) >= _MOST_FORMS:
            _known.clear()
        # With copies of the labels: a collector may change its own.
        mine = (*shape[:-1], [(sample.name, dict(sample.labels)) for sample in family.samples])
        known = _known[family.name] = _Known(mine, Form(family) if has_form(family) else None)
    return known.form
