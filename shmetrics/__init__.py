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
    HistoryFileError,
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
    ProfilingError,
    RulesError,
    ShmetricsError,
)
from shmetrics.hub import Hub
from shmetrics.metrics import PerformanceMetrics
from shmetrics.snapshot import Snapshot

if TYPE_CHECKING:
    from shmetrics.alerting import PerformanceAlerting
    from shmetrics.exporters.analyzer import PerformanceAnalyzer
    from shmetrics.exporters.profiler import PerformanceProfiler
    from shmetrics.exporters.prometheus import PrometheusExporter
    from shmetrics.llm import LLMMetrics

__version__ = "0.1.0"

__all__ = [
    "CustomMetrics",
    "HistoryFileError",
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
    "LLMMetrics",
    "OutputError",
    "PerformanceAlerting",
    "PerformanceAnalyzer",
    "PerformanceMetrics",
    "PerformanceProfiler",
    "PlatformError",
    "ProfilingError",
    "PrometheusExporter",
    "RulesError",
    "ShmetricsError",
    "Snapshot",
]


def __getattr__(name: str) -> Any:
    """Hand on what only some processes need, when it is asked for: workers pay for every import."""
    if name == "PerformanceAnalyzer":
        from shmetrics.exporters.analyzer import PerformanceAnalyzer  # noqa: PLC0415

        return PerformanceAnalyzer
    if name == "PerformanceProfiler":
        from shmetrics.exporters.profiler import PerformanceProfiler  # noqa: PLC0415

        return PerformanceProfiler
    if name == "PrometheusExporter":
        from shmetrics.exporters.prometheus import PrometheusExporter  # noqa: PLC0415

        return PrometheusExporter
    if name == "PerformanceAlerting":
        from shmetrics.alerting import PerformanceAlerting  # noqa: PLC0415

        return PerformanceAlerting
    if name == "LLMMetrics":
        from shmetrics.llm import LLMMetrics  # noqa: PLC0415

        return LLMMetrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
