"""A crowd of workers that start, define and end at once: nothing is lost, and nobody does the work of all others."""

import logging
import multiprocessing

from shmetrics import CustomMetrics, PerformanceMetrics, entries
from tests.processes import PATIENCE, run_in_processes

CROWD, COMMON = 64, 200
"""Workers that start at once, and the metrics that each of them defines."""


def _define_in_a_crowd(name, ready, _index):
    """What every worker of a server does when its application is imported; what was logged, and how much was read."""
    said, read = [], []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("shmetrics").addHandler(handler)
    real = entries.read
    entries.read = lambda blocks, block: read.append(block) or real(blocks, block)
    with PerformanceMetrics(name=name, max_workers=CROWD, max_series=1024) as metrics:
        metrics.claim()
        ready.wait(PATIENCE)
        custom = CustomMetrics(metrics)
        for number in range(COMMON):
            custom.counter(f"m{number}_total", labels=["model"]).labels("a").inc()
    return said, len(read)


def test_a_crowd_that_defines_the_same_at_once_loses_nothing_and_each_reads_every_entry_once(hub_name):
    """Three entries a metric: itself, its series, the one that takes what there is no room for."""
    ready = multiprocessing.get_context("fork").Barrier(CROWD)
    answers = run_in_processes("fork", CROWD, _define_in_a_crowd, hub_name, ready)
    assert [said for said, _ in answers if said] == []
    assert max(read for _, read in answers) <= 3 * COMMON
    with PerformanceMetrics(name=hub_name, max_workers=CROWD, max_series=1024) as metrics:
        custom = CustomMetrics(metrics)
        assert {name: figures["series"] for name, figures in custom.get_all_metrics().items()} == {
            f"m{number}_total": [{"labels": {"model": "a"}, "value": float(CROWD)}] for number in range(COMMON)
        }
        assert len(metrics.book.contents().series) == 2 * COMMON
