"""shmetrics: one exact, crash-proof metrics hub in shared memory for every worker of a pre-fork Python server.

    from shmetrics import PerformanceMetrics

    metrics = PerformanceMetrics(window_size=1000, name="resnet")
    metrics.update_inference(inference_time=0.012, batch_size=8)
    metrics.get_statistics()["p95_inference_time"]          # of all workers, exact

See README.md, and docs/architecture.md for how a record becomes a percentile.
"""

from typing import TYPE_CHECKING, Any

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
    OutputError,
    PlatformError,
    ShmetricsError,
)
from shmetrics.hub import Hub
from shmetrics.metrics import PerformanceMetrics
from shmetrics.snapshot import Snapshot

if TYPE_CHECKING:
    from shmetrics.exporters.prometheus import PrometheusExporter

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
    "OutputError",
    "PerformanceMetrics",
    "PlatformError",
    "PrometheusExporter",
    "ShmetricsError",
    "Snapshot",
]


def __getattr__(name: str) -> Any:
    """Hand on what only some processes need, when it is asked for: workers pay for every import."""
    if name == "PrometheusExporter":
        from shmetrics.exporters.prometheus import PrometheusExporter  # noqa: PLC0415

        return PrometheusExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
