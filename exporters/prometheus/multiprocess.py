"""What stands in for ``prometheus_client.multiprocess``, so that only its import changes. See `docs/migration.md`."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from shmetrics.exporters.prometheus import claims
from shmetrics.exporters.prometheus.home import WholeHub, current


class MultiProcessCollector:
    """Shows every metric of the hub on a registry, whichever process defined it.

    A registry that shows them already, as the default one does, is left as it is. ``path`` is not used: there are no
    files.
    """

    def __init__(self, registry: CollectorRegistry | None, path: object = None) -> None:
        home = current()
        if registry is None or claims.shows_whole(registry, home.metrics.name):
            registry = CollectorRegistry()
        self._whole = WholeHub(home, registry)

    def collect(self) -> Iterator[Metric]:
        """Every family of the hub."""
        return self._whole.collect()


def mark_process_dead(pid: int, path: object = None) -> None:
    """Do nothing: the kernel tells which workers live, whatever they died of."""
