"""Expiry: the aggregator removes series of custom metrics that nobody changed for as long as their definition says.

Whether a series changed is seen by comparing what two looks show, so a change costs nothing more than it did. What is
changed in the very instant of the removal goes with the series: expiry is for what is over.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from shmetrics.catalog import Catalog
from shmetrics.families import OVERFLOW, Series
from shmetrics.locks import RegistryBusyError
from shmetrics.snapshot import Snapshot

_Key = tuple[str, tuple[str, ...]]


def _comparable(series: Series) -> Series:
    """A series that equals what it equalled before: one NaN is another's equal only where it is the same object."""
    if math.isnan(series.value) or math.isnan(series.sum):
        value, total = (math.nan if math.isnan(number) else number for number in (series.value, series.sum))
        return replace(series, value=value, sum=total)
    return series


class Expiry:
    """Remembers since when each series is as it is. One thread of the aggregator uses it."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._known: dict[_Key, tuple[list[Series], float]] = {}

    def look(self, fleet: Snapshot) -> int:
        """Compare the fleet with what was known of it; returns how many series were removed."""
        now, known, removed = self._clock(), {}, 0
        for family in fleet.families:
            after = family.definition.expire_after
            if not after:
                continue
            shown: dict[_Key, list[Series]] = {}
            for series in family.series:
                if OVERFLOW not in series.labels:
                    shown.setdefault((family.definition.name, series.labels), []).append(_comparable(series))
            for key, state in shown.items():
                before, since = self._known.get(key, (None, now))
                known[key] = (state, since if state == before else now)
                if now - known[key][1] >= after:
                    removed += self._remove(key)
        self._known = known
        return removed

    def _remove(self, key: _Key) -> bool:
        name, labels = key
        contents = self._catalog.contents()
        placement = contents.index.get((contents.metric(name), labels))
        if placement is not None:
            with suppress(RegistryBusyError):  # then at the next look
                self._catalog.remove(placement, patience=0.0)
                return True
        return False
