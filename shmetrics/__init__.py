"""shmetrics: one exact, crash-proof metrics hub in shared memory for every worker of a pre-fork Python server.

    from shmetrics import PerformanceMetrics

    metrics = PerformanceMetrics(window_size=1000, name="resnet")
    metrics.update_inference(inference_time=0.012, batch_size=8)
    metrics.get_statistics()["p95_inference_time"]          # of all workers, exact

See README.md, and docs/architecture.md for how a record becomes a percentile.
"""

from shmetrics.custom import CustomMetrics
from shmetrics.errors import (
    HubClosedError,
    HubFileTypeError,
    HubInUseError,
    HubLayoutError,
    HubNotFoundError,
    HubOwnerError,
    HubPermissionError,
    HubRefusedError,
    HubSpaceError,
    HubStaleError,
    PlatformError,
    ShmetricsError,
)
from shmetrics.hub import Hub
from shmetrics.metrics import PerformanceMetrics
from shmetrics.snapshot import Snapshot

__version__ = "0.1.0"

__all__ = [
    "CustomMetrics",
    "Hub",
    "HubClosedError",
    "HubFileTypeError",
    "HubInUseError",
    "HubLayoutError",
    "HubNotFoundError",
    "HubOwnerError",
    "HubPermissionError",
    "HubRefusedError",
    "HubSpaceError",
    "HubStaleError",
    "PerformanceMetrics",
    "PlatformError",
    "ShmetricsError",
    "Snapshot",
]
