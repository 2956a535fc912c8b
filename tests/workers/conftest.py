"""What tests of wrappers of servers share."""

import pytest

from shmetrics import PerformanceMetrics


@pytest.fixture
def metrics(hub_name):
    """Metrics in a small hub of this test alone, the slot taken."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=64) as metrics:
        metrics.claim()
        yield metrics
