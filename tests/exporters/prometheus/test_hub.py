"""The hub's health on a page."""

from dataclasses import replace

import pytest

import shmetrics
from shmetrics import PerformanceMetrics
from shmetrics.snapshot import Counters
from tests.exporters.prometheus import Still, read, value
from tests.forge import LAYOUT, fleet, worker

HEALTHY = fleet(worker(), worker(slot=1, alive=False))


def test_the_hub_and_its_reader_are_named():
    assert value(read(Still(HEALTHY)), "shmetrics_hub_info", hub="forged", version=shmetrics.__version__) == 1.0


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({}, "slots", 4.0),
        ({}, "slots_live", 1.0),
        ({}, "slots_dead", 1.0),
        ({}, "hub_bytes", LAYOUT.size),
        ({}, "stale", 0.0),
        ({}, "corrupt_parts", 0.0),
        ({"stale": True}, "stale", 1.0),
        ({"stale_slots": 2}, "stale_slots", 2.0),
        ({"corrupt": {"slot 1": "odd", "slot 2": "odd"}}, "corrupt_parts", 2.0),
        ({"corrupt_reaped": 3}, "corrupt_slots_reaped_total", 3.0),
        ({"unlinked": True}, "unlinked", 1.0),
        ({"catalog_used": 3, "catalog_total": 16}, "catalog_blocks", 16.0),
        ({"catalog_used": 3, "catalog_total": 16}, "catalog_blocks_used", 3.0),
        ({"cells_used": 5, "cells_total": 128}, "cells", 128.0),
        ({"cells_used": 5, "cells_total": 128}, "cells_used", 5.0),
        ({"refused_series": 6}, "refused_series_total", 6.0),
    ],
    ids=str,
)
def test_each_fact_has_a_sample(changes, name, expected):
    source = Still(replace(HEALTHY, health=replace(HEALTHY.health, **changes)))
    assert value(read(source), f"shmetrics_{name}") == expected


def test_what_was_lost_and_who_was_there_are_counted():
    samples = read(Still(replace(HEALTHY, counters=Counters(dropped=7), workers_seen=9, window_size=123)))
    assert value(samples, "shmetrics_dropped_records_total") == 7.0
    assert value(samples, "shmetrics_workers_seen_total") == 9.0
    assert value(samples, "shmetrics_window_size") == 123.0


def test_a_real_hub_has_every_one_of_them():
    with PerformanceMetrics(max_workers=2) as metrics:
        names = {name for name, _ in read(metrics) if not name.startswith("shmetrics_worker_")}
    assert names == {name for name, _ in read(Still(HEALTHY)) if not name.startswith("shmetrics_worker_")}
