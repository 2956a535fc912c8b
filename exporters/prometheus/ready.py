"""Families that are ready to be written: a form, which stays, and the numbers of one snapshot.

Samples, a name and labels for each number, are most of the work of a page, and nobody who has the form needs them. So
they are made only for those who ask for them: registries, and whoever makes the form, which therefore cannot say
anything that they would not.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, Sample

from shmetrics.exporters.prometheus.forms import Form


class Shape:
    """What families have in common that differ in nothing but their numbers."""

    def __init__(self, family: Metric) -> None:
        self.name, self.documentation, self.type, self.unit = (
            family.name,
            family.documentation,
            family.type,
            family.unit,
        )
        self.form = Form(family)
        ends = [sample.name.removeprefix(family.name) for sample in family.samples]
        self.has_sums = ends.count("_sum") == ends.count("_count")


class Ready(Metric):
    """A family that is ready to be written.

    ``numbers``: one for each sample that `build` would give it. ``has_exemplars``: whether some of those
    samples would have exemplars, which are not in the form.
    """

    def __init__(
        self, shape: Shape, numbers: Sequence[float], build: Callable[[], Metric], *, has_exemplars: bool = False
    ) -> None:
        self.name, self.documentation = shape.name, shape.documentation
        self.type, self.unit = shape.type, shape.unit
        self.form = shape.form
        self.has_sums = shape.has_sums
        """Whether each count has a sum beside it."""
        self.numbers = numbers
        self.has_exemplars = has_exemplars
        self._build = build
        self._samples: list[Sample] | None = None

    @property
    def samples(self) -> list[Sample]:
        """Its samples."""
        if self._samples is None:
            self._samples = self._build().samples
        return self._samples

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._samples = samples


_MOST_REMEMBERED: Final = 1024
_remembered: Final[dict[Hashable, Shape]] = {}


def remembered(key: Hashable, build: Callable[[], Metric]) -> Shape:
    """The shape that goes by this key; it is made of what `build` makes where it is not known yet."""
    shape = _remembered.get(key)
    if shape is None:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        shape = _remembered[key] = Shape(build())
    return shape


def gauge(name: str, documentation: str, value: float, unit: str = "") -> Ready:
    """A gauge with a single sample."""

    def build() -> Metric:
        return GaugeMetricFamily(name, documentation, value=value, unit=unit)

    return Ready(remembered((gauge, name, documentation, unit), build), [value], build)


def counter(name: str, documentation: str, value: float, created: float) -> Ready:
    """A counter with a single sample. ``created``: when it began, in seconds since the epoch."""

    def build() -> Metric:
        return CounterMetricFamily(name, documentation, value=value, created=created)

    return Ready(remembered((counter, name, documentation), build), [value, created], build)
