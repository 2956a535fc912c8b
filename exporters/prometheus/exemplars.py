"""Exemplars as prometheus_client has them: OpenMetrics shows them, the text format does not."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import Exemplar

from shmetrics import families
from shmetrics.exemplars import MOST_CHARACTERS
from shmetrics.exporters.prometheus.names import writable


def shown(exemplar: families.Exemplar | None) -> Exemplar | None:
    """An exemplar as a sample has it; None for none, and for what no page can hold."""
    if exemplar is None or not (math.isfinite(exemplar.value) and 0.0 <= exemplar.time < math.inf):
        return None
    labels = {name: writable(value) for name, value in exemplar.labels.items()}
    characters = sum(len(name) + len(value) for name, value in labels.items())
    if characters > MOST_CHARACTERS or not all(map(families.is_label_name, labels)):
        return None
    return Exemplar(labels, exemplar.value, exemplar.time)


def by_bucket(exemplars: Iterable[families.Exemplar], bounds: Sequence[float]) -> dict[int, Exemplar]:
    """For each bucket that has any the greatest of these exemplars, by the bucket's index; +Inf is ``len(bounds)``."""
    chosen: dict[int, Exemplar] = {}
    for exemplar in exemplars:
        bucket, candidate = bisect_left(bounds, exemplar.value), shown(exemplar)
        if candidate is not None and (bucket not in chosen or candidate.value >= chosen[bucket].value):
            chosen[bucket] = candidate
    return chosen
