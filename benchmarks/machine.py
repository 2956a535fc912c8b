"""What machine this is, and how quiet: without it a figure says nothing."""

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from shmetrics import native
from shmetrics.benchmarks.comparing import spread
from shmetrics.texts import size

_PACKAGES: Final = ("shmetrics", "numpy", "prometheus_client")
_COMPARED: Final = (
    *("opentelemetry-sdk", "opentelemetry-instrumentation", "statsd", "ddsketch", "hdrhistogram"),
    *("gunicorn", "uvicorn", "flask", "fastapi"),
)
"""Others that scenarios use, where they are installed."""
_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
NOT_INSTALLED: Final = "not installed"
_TURNS: Final = 40


def described() -> dict[str, str]:
    """Versions, also of what is compared; processors, governor, memory."""
    others = {name: _version(name) for name in _COMPARED}
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in _PACKAGES},
        "writes": "in C" if native.is_used() else "in Python",
        "compared": ", ".join(f"{name} {found}" for name, found in others.items() if found != NOT_INSTALLED) or "-",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "CPUs": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} may be used",
        "governor": _governor(),
        "memory": size(psutil.virtual_memory().total),
    }


class Watch:
    """How busy the machine was with other things while something ran: made before, asked after."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._load = os.getloadavg()[0]
        self._noise = unrest()
        self._times = psutil.cpu_times()

    def conditions(self) -> dict[str, str]:
        """In words."""
        now, then = psutil.cpu_times(), self._times
        total = sum(now) - sum(then)
        stolen = getattr(now, "steal", 0.0) - getattr(then, "steal", 0.0)
        return {
            "load": f"{self._load:.1f} before, {os.getloadavg()[0]:.1f} after",
            "noise": f"a loop of the same work differed by {self._noise:.0%} before, {unrest():.0%} after",
            "stolen by the host": f"{stolen / total:.1%}" if total > 0.0 else "-",
            "took": f"{time.perf_counter() - self._begun:.0f} s",
        }


def unrest() -> float:
    """How far the times of equal pieces of work lie apart: see `spread`. Some 50 ms."""
    times = []
    for _ in range(_TURNS):
        begun = time.perf_counter()
        sum(range(50_000))
        times.append(time.perf_counter() - begun)
    return spread(times) if statistics.median(times) > 0.0 else 0.0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    name = names.get("model name") or platform.processor() or "unknown"
    return f"{name}, virtual" if "hypervisor" in names.get("flags", "").split() else name


def _governor() -> str:
    try:
        return _GOVERNOR.read_text().strip()
    except OSError:
        return "unknown: the system does not say"
