"""What the six kinds of `face` have in common: names, labels, series, and their part of a page."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric

from shmetrics.exporters.prometheus.home import Home, Named, as_page, current
from shmetrics.families import OVERFLOW, Definition

_Self = TypeVar("_Self", bound="Wrapper")


class Wrapper(Named):
    """What the six kinds have in common. A metric with labels is changed by way of `labels`.

    ValueError for names, labels and units that no metric can have, for names that the registry has already, and where
    the hub knows a metric of that name that differs in more than its help text.
    """

    _kind: ClassVar[str]
    _suffix: ClassVar[str] = ""
    """What the hub has behind the name of the family."""

    def __init__(  # noqa: PLR0917  as prometheus_client's
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: CollectorRegistry | None = REGISTRY,
    ) -> None:
        self.family = full_name(self._kind, name, namespace, subsystem, unit)
        self._definition = Definition(
            name=self.family + self._suffix,
            kind=self._kind,
            help=documentation,
            unit=unit,
            labels=tuple(labelnames),
            **self._shape(),
        )
        self._labelvalues: tuple[str, ...] = ()
        self._home: Home = current()
        if registry is not None:
            self._home.register(self, registry)
        self._registry = registry
        try:
            self._metric = self._home.define(self._definition)
        except ValueError:
            if registry is not None:
                registry.unregister(self)
            raise
        self._home.names.add(self.family)
        # What is changed: the one series, or what raises a ValueError that asks for labels.
        self._bound: Any = self._metric if self._definition.labels else self._metric.labels()

    def _shape(self) -> dict[str, Any]:
        """What the definitions of a kind have besides."""
        return {}

    def labels(self: _Self, /, *labelvalues: object, **labelkwargs: object) -> _Self:
        """The child for these label values, in order or by name. Keep it where it is changed often.

        ValueError for other labels than the metric's.
        """
        if not self._definition.labels:
            raise ValueError(f"{self} has no labels")
        if self._labelvalues:
            raise ValueError(f"{self} has its labels already ({', '.join(self._labelvalues)})")
        instrument = self._metric.labels(*labelvalues, **labelkwargs)
        child = object.__new__(type(self))
        child.__dict__.update(self.__dict__)
        child._bound = instrument
        child._labelvalues = instrument.labels
        return child

    def remove(self, *labelvalues: object) -> None:
        """Remove the series with these label values, in all processes; whoever changes it again begins at 0.

        ValueError for other labels than the metric's; TimeoutError where another process kept the registry for 2 s.
        """
        if not self._definition.labels:
            raise ValueError(f"{self} has no labels")
        self._remove(self._metric.key(*labelvalues))

    def remove_by_labels(self, labels: Mapping[str, object]) -> None:
        """Remove every series that has these values for these labels; see `remove`."""
        names = self._definition.labels
        unknown = [name for name in labels if name not in names]
        if unknown or not names:
            raise ValueError(f"{self} has the labels {list(names)}, not {unknown}")
        wanted = {names.index(name): str(value) for name, value in labels.items()}
        for values in self._series() if wanted else ():
            if all(values[place] == value for place, value in wanted.items()):
                self._remove(values)

    def clear(self) -> None:
        """Remove every series; see `remove`."""
        if self._definition.labels:
            for values in self._series():
                self._remove(values)

    def _series(self) -> list[tuple[str, ...]]:
        contents = self._home.metrics.book.contents()
        serial = contents.metric(self._definition.name)
        overflow = (OVERFLOW,) * len(self._definition.labels)  # it is to stay, for when there is no room
        return [values for metric, values in contents.index if metric == serial and values != overflow]

    def _remove(self, values: tuple[str, ...]) -> None:
        self._home.custom.remove(self._definition.name, dict(zip(self._definition.labels, values, strict=True)))
        self._metric.forget(values)

    def describe(self) -> list[Metric]:
        """Its name and kind. Called by registries, when it is put on them."""
        self._registry = None  # which of several will ask for its part of a page is not known
        return [Metric(self.family, self._definition.help, _TYPES.get(self._kind, self._kind))]

    def collect(self) -> Iterator[Metric]:
        """The whole fleet's series. Called by registries."""
        family = self._home.pages.metric(self._definition, self.family, self._registry)
        shown = None if family is None else as_page(family)
        if shown is not None:
            try:
                yield shown
            except GeneratorExit:
                self._home.pages.give_up()
                raise

    def __repr__(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}({self.family})"

    def __str__(self) -> str:
        return f"{self._kind}:{self.family}"


_TYPES: Final = {"enum": "stateset"}


def full_name(kind: str, name: str, namespace: str, subsystem: str, unit: str) -> str:
    """A family's name, as prometheus_client puts it together."""
    if not name:
        raise ValueError("the name of a metric must not be empty")
    full = "_".join(part for part in (namespace, subsystem, name) if part)
    if kind == "counter":
        full = full.removesuffix("_total")
    if unit and kind in ("info", "enum"):
        raise ValueError(f"{kind} {full!r} cannot have a unit, and {unit!r} was given")
    if unit and not full.endswith(f"_{unit}"):
        full += f"_{unit}"
    return full
