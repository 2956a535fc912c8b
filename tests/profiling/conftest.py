"""A profiler of a hub of one test alone, whose calls take as long as the test says."""

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.profiling.profiler import Profiler


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=8, max_series=256) as metrics:
        yield metrics


@pytest.fixture
def profiler(metrics, clock):
    """One whose time passes only where a test moves its clock."""
    return Profiler(metrics, clock=clock)
