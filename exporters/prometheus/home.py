"""Where the metrics of `face` live: a hub, chosen once for all of a process, and what of it a registry's page shows."""

import threading
import time
from collections.abc import Iterator, Set
from dataclasses import replace
from typing import Any, Final
from weakref import WeakSet

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from shmetrics import book, forks
from shmetrics.custom import CustomMetrics
from shmetrics.errors import HubClosedError
from shmetrics.exporters.prometheus import claims, custom
from shmetrics.exporters.prometheus.names import Names
from shmetrics.exporters.prometheus.shared import SharedSnapshots
from shmetrics.families import Definition, Family
from shmetrics.metrics import HUB_VARIABLE, PerformanceMetrics

_LENGTH_OF_PAGE: Final = 0.1
"""Seconds that the metrics of one page may share a snapshot."""


class Home:
    """One hub, as the metrics of this process see it. Any thread may call."""

    def __init__(self, metrics: PerformanceMetrics) -> None:
        self.metrics = metrics
        self.custom = CustomMetrics(metrics)
        self.pages = Pages(metrics)
        self.names: set[str] = set()
        """Families that this process has an object for, on whatever registry, or on none."""
        self._begun: WeakSet[CollectorRegistry] = WeakSet()
        """Registries on which something begins the pages."""

    def define(self, definition: Definition) -> book.Metric[Any]:
        """The metric in the hub. A named hub may know it from an older release with another help text, which stands.

        ValueError where anything else differs.
        """
        known = self.metrics.book
        try:
            return known.define(definition)
        except ValueError:
            found = known.find(definition.name)
            if found is None or replace(found.definition, help=definition.help) != definition:
                raise
            return known.define(found.definition)

    def register(self, metric: "Named", registry: CollectorRegistry) -> None:
        """Put a metric on a registry's page. ValueError where one of its names is taken there."""
        if registry not in self._begun:
            self._begun.add(registry)
            if registry is REGISTRY:
                WholeHub(self, registry, but=self.names)
            else:
                registry.register(_Beginning(self, registry))
        registry.register(metric)
        claims.claim(registry, self.metrics.name, metric.family)


class Named(Collector):
    """A collector of one family."""

    family: str
    """Its name, without what is appended to it on a page."""


class Pages:
    """One snapshot for all metrics of a page, each of which a registry asks by itself. Any thread may call.

    A collector that stands before them on the registry, and has no name by which it could be asked alone, begins a
    page. Each metric that is then asked in the same thread is served from it, once. Whoever is asked otherwise, alone
    or after a page that nobody read to its end, gets a snapshot of its own.
    """

    def __init__(self, metrics: PerformanceMetrics) -> None:
        self._hub = metrics.name
        self._shared = SharedSnapshots(metrics)
        self._of_thread = threading.local()

    def begin(self, registry: CollectorRegistry) -> dict[str, Family]:
        """All metrics of the hub by name, at the beginning of a registry's page."""
        families = self.families()
        self._of_thread.page = _Page(families, registry, claims.families(registry, self._hub))
        return families

    def metric(self, definition: Definition, family: str, registry: CollectorRegistry | None) -> Family | None:
        """What the whole fleet has of a metric that a registry asks; None where the hub has none of that name."""
        page: _Page | None = getattr(self._of_thread, "page", None)
        if page is None or not page.serves(family, registry):
            return self.families().get(definition.name)
        return page.families.get(definition.name)

    def give_up(self) -> None:
        """Whoever read this thread's page did not read on."""
        self._of_thread.page = None

    def families(self) -> dict[str, Family]:
        """All metrics of the hub by name, from a new snapshot."""
        try:
            return {family.definition.name: family for family in self._shared.snapshot().families}
        except HubClosedError:  # by the application: there is nothing to show, and the others' page is whole
            return {}


class _Page:
    """One thread's page of one registry."""

    def __init__(self, families: dict[str, Family], registry: CollectorRegistry, metrics: set[str]) -> None:
        self.families = families
        self._registry = registry
        self._not_served = metrics
        self._ends_at = time.monotonic() + _LENGTH_OF_PAGE

    def serves(self, family: str, registry: CollectorRegistry | None) -> bool:
        """Whether a metric's part of this page is due; it is once."""
        if registry is not self._registry or family not in self._not_served or time.monotonic() > self._ends_at:
            return False
        self._not_served.remove(family)
        return True


class _Beginning:
    """Stands before the metrics of a registry, and shows nothing itself."""

    def __init__(self, home: Home, registry: CollectorRegistry) -> None:
        self._home = home
        self._registry = registry

    def describe(self) -> list[Metric]:
        """Nothing. Called by registries."""
        return []

    def collect(self) -> list[Metric]:
        """Nothing, at the beginning of a page. Called by registries."""
        self._home.pages.begin(self._registry)
        return []


class WholeHub:
    """Shows on a registry what other processes defined, and what was defined without the face: the rest of the hub.

    ``but``: families that it leaves out, at any time what is in it.
    """

    def __init__(self, home: Home, registry: CollectorRegistry, *, but: Set[str] = frozenset()) -> None:
        self._home = home
        self._registry = registry
        self._but = but
        registry.register(self)
        claims.claim_whole(registry, home.metrics.name, but)

    def describe(self) -> list[Metric]:
        """Nothing: what other processes will define is not known. Called by registries."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families that no metric on this registry shows itself, at the beginning of a page."""
        names = Names()
        for name, family in custom.families([*self._home.pages.begin(self._registry).values()], ""):
            if family is None or claims.has_name(self._registry, family.name) or family.name in self._but:
                continue
            if names.take(family):
                yield family
            else:
                self._home.metrics.mention(f"name {name}", f"metric {name!r} is not shown: its name is taken")


class _CustomMetricsOnly(PerformanceMetrics):
    """Nobody else has it, so a server's wrapper may measure the requests of an application that moved here."""

    _may_record_requests = False


class _Choice:
    """The home of the metrics that this process makes from now on."""

    def __init__(self) -> None:
        self.home: Home | None = None
        self.was_asked_for = False
        self.lock = threading.RLock()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Renew a lock that a thread of the parent may have held. Called by `forks`."""
        self.lock = threading.RLock()


_choice: Final = _Choice()


def use(metrics: PerformanceMetrics) -> None:
    """Keep the metrics made from now on in the hub of ``metrics``. Call it before the first is made.

    Without it they are in the hub that ``SHMETRICS_HUB`` names, else in a private one that forked children share.
    RuntimeError when metrics are in such a hub already. After an earlier `use` it may be called again: what was made
    before stays where it is.
    """
    with _choice.lock:
        home = _choice.home
        if home is not None and home.metrics is metrics:
            return
        if home is not None and not _choice.was_asked_for:
            raise RuntimeError(
                f"metrics were made before use({metrics!r}), in hub {home.metrics.name!r}; call use() before the "
                f"module that makes them is imported, or name the hub by {HUB_VARIABLE}"
            )
        _choice.home, _choice.was_asked_for = Home(metrics), True


def current() -> Home:
    """The home of metrics made now. Raises what `PerformanceMetrics` raises where there is no room for a hub."""
    with _choice.lock:
        if _choice.home is None:
            _choice.home = Home(_CustomMetricsOnly())
        return _choice.home


def as_page(family: Family) -> Metric | None:
    """A family as prometheus_client's; None for one that no page can hold."""
    [(_, shown)] = custom.families([family], "")
    return shown
