"""A hub of the test's own for the metrics of the face."""

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.exporters.prometheus import use


@pytest.fixture
def hub():
    """The hub that metrics made in this test live in."""
    with PerformanceMetrics(max_workers=8, max_series=256) as metrics:
        use(metrics)
        yield metrics
