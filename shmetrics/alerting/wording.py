"""How values read in a message: units and words. Pure."""

import math
import re
from typing import Final

_PARTS: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

FRACTION: Final = "fraction"
SECONDS: Final = "seconds"
PER_SECOND: Final = "per second"
BYTES: Final = "bytes"
PLAIN: Final = ""


def unit_of(key: str) -> str:
    """The unit of a statistic, from its name."""
    if key.endswith(("_rate", "_fill")) or "_fraction" in key or key == "stability_score":
        return FRACTION
    if key.endswith("_time") or key in ("age", "last_seen", "oldest_in_flight", "total_runtime"):
        return SECONDS
    if key.endswith(("throughput", "_per_second")):
        return PER_SECOND
    return BYTES if key.endswith("bytes") else PLAIN


def shown(value: float, unit: str = PLAIN) -> str:
    """A value as people read it: 12.5 %, 340 ms, 95 /s."""
    if unit == FRACTION:
        return f"{100.0 * value:.3g} %"
    if unit == SECONDS:
        if value and abs(value) < 0.9995:
            return f"{value * 1e3:.3g} ms" if abs(value) >= 0.9995e-3 else f"{value * 1e6:.3g} us"
        return f"{value:.3g} s" if abs(value) < 999.5 else f"{value:,.0f} s"
    whole = abs(value) < 1e15 and (value == round(value) or abs(value) >= 999.5)
    text = f"{value:,.0f}" if whole else f"{value:.3g}"
    return {PER_SECOND: f"{text} /s", BYTES: f"{text} bytes"}.get(unit, text)


def span(seconds: float) -> str:
    """A duration as rules write it: 90s, 5m, 1h, 3d."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= _UNITS[unit] and math.isclose(seconds % _UNITS[unit], 0.0, abs_tol=1e-9):
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms" if seconds else "0s"


def parse_span(text: str) -> float | None:
    """Seconds of a duration such as ``90s``, ``5m`` or ``1h30m``; None for what is none."""
    parts = _PARTS.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def lasted(seconds: float) -> str:
    """A duration that was measured: 0.4 s, 12 s, 3 min, 2 h 5 min."""
    if seconds < 100.0:
        return f"{max(0.0, seconds):.2g} s" if seconds < 10.0 else f"{seconds:.0f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
