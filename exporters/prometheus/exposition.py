"""Pages: what a scrape gets to read, and how the two sides agree on its form.

The formats are prometheus_client's own (see `encoding`); here is what stands around them.
"""

import gzip
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client import generate_latest as generate_text
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus import encoding
from shmetrics.exporters.prometheus.buckets import Buckets
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.shared import Source
from shmetrics.exporters.prometheus.sums import LawfulSums

_VERSIONS = ("", "0.0.1", "0.0.4", "1.0.0")
"""Versions of the two formats that we can write, or that say nothing."""
_PLAIN = ("text/plain", "text/*", "*/*")
"""Names of the text format."""
_COMPRESSION = 4
"""Half a millisecond for a page that level 9 takes three for, and a tenth larger."""


def render(
    metrics_or_hub: Source, *, openmetrics: bool = False, names: Collection[str] = (), buckets: Buckets = None
) -> bytes:
    """One page of the fleet now: the text format of Prometheus, or OpenMetrics 1.0, in UTF-8.

    ``names``: only samples of these names, as ``name[]`` in a scrape asks for; all when empty. ``buckets``: as
    `PrometheusExporter` takes them. Raises what the source's ``snapshot()`` raises, and ValueError for bad buckets.
    """
    exporter = PrometheusExporter(metrics_or_hub, registry=None, buckets=buckets)
    if openmetrics:
        return encoding.openmetrics(narrowed(LawfulSums(exporter), names), generate_openmetrics)
    return encoding.text(narrowed(exporter, names), generate_text)


def generate_latest(registry: Collector = REGISTRY, *args: Any, **kwargs: Any) -> bytes:
    """What prometheus_client's function of this name gives, to the byte, in a part of the time.

    ``args``, ``kwargs``: what younger versions take besides (how names are escaped); then it is theirs that answers.
    """
    return generate_text(registry, *args, **kwargs) if args or kwargs else encoding.text(registry, generate_text)


def narrowed(collector: Collector, names: Collection[str]) -> Collector:
    """`collector`, or its samples of these names where there are any names."""
    return _Narrowed(collector, names) if names else collector


class _Narrowed:
    """A collector's samples of some names.

    What ``CollectorRegistry.restricted_registry`` does, for families too that nobody could describe in advance, and
    with their units.
    """

    def __init__(self, collector: Collector, names: Collection[str]) -> None:
        self._collector = collector
        self._names = frozenset(names)

    def collect(self) -> Iterator[Metric]:
        """Every family that has a sample left."""
        for family in self._collector.collect():
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                narrow = Metric(family.name, family.documentation, family.type, family.unit)
                narrow.samples = samples
                yield narrow


class Page(NamedTuple):
    """A page in the form that was asked for."""

    content_type: str
    encoding: str | None
    """``gzip``, or None."""
    body: bytes


def negotiated(collector: Collector, names: Collection[str], accept: str, accept_encoding: str) -> Page:
    """The page for a request with these headers, either "" when it had none.

    OpenMetrics for whoever asks for a version of it that we write, and does not like the text format better; else that,
    which everybody reads.
    """
    theirs, content_type = choose_encoder(_understood(accept))
    is_openmetrics = content_type.startswith("application/openmetrics-text")
    if is_openmetrics:
        body = encoding.openmetrics(narrowed(LawfulSums(collector), names), theirs)
    else:
        body = encoding.text(narrowed(collector, names), theirs)
    if any(choice.name == "gzip" for choice in _choices(accept_encoding)):
        return Page(content_type, "gzip", gzip.compress(body, _COMPRESSION, mtime=0))
    return Page(content_type, None, body)


def _understood(accept: str) -> str:
    """What of an Accept header we can serve: prometheus_client promises any version it is asked for, whatever its q."""
    choices = [choice for choice in _choices(accept) if choice.parameters.get("version", "") in _VERSIONS]
    least = max((choice.weight for choice in choices if choice.name in _PLAIN), default=0.0)
    return ",".join(
        ";".join([choice.name, *(f"{key}={value}" for key, value in choice.parameters.items())])
        for choice in choices
        if choice.weight >= least
    )


class _Choice(NamedTuple):
    """One of those in an Accept or Accept-Encoding header, in lower case."""

    name: str
    parameters: dict[str, str]
    weight: float


def _choices(header: str) -> Iterator[_Choice]:
    """All of them but those with ``q=0``; what is no weight is 1."""
    for choice in header.lower().split(","):
        name, *rest = (part.strip() for part in choice.split(";"))
        parameters = {key: value.strip('"') for key, _, value in (part.partition("=") for part in rest)}
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 1.0
        if name and weight > 0.0:
            yield _Choice(name, parameters, weight)
