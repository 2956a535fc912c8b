"""The four thresholds of ``PerformanceAlerting(alert_thresholds=...)`` as rules, and how severe each breach is. Pure.

=========================== ========== ================================== ============== ===========================
key                         type       judged over the last measurements  warning        critical
=========================== ========== ================================== ============== ===========================
``error_rate_threshold``    error_rate errors / requests                  above it       from twice the threshold on
``latency_p95_threshold``   latency_p95 P95 of total_time, seconds        above it       from twice the threshold on
``throughput_min_threshold`` throughput requests per second until now     below it       from half the threshold down
``cache_hit_rate_threshold`` cache_hit_rate hits / lookups                below it       never
=========================== ========== ================================== ============== ===========================

A cold cache is no reason to wake anybody: what it does to users shows as latency, which is judged by itself. Latency
is `total_time`, what a user waits for. An error rate above one half is critical whatever the threshold.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from shmetrics.alerting.rules import COOLDOWN, Rule
from shmetrics.alerting.sources import Statistic

WINDOW: Final = 50
"""Measurements, by default."""


class _Kind(NamedTuple):
    type: str
    statistic: str
    rises: bool
    """Whether large values are bad."""
    critical: float | None
    """The factor on the threshold at which it becomes critical."""
    most: float
    """The largest threshold that makes sense."""


_KINDS: Final = {
    "error_rate_threshold": _Kind("error_rate", "error_rate", rises=True, critical=2.0, most=1.0),
    "latency_p95_threshold": _Kind("latency_p95", "p95_total_time", rises=True, critical=2.0, most=math.inf),
    "throughput_min_threshold": _Kind("throughput", "throughput", rises=False, critical=0.5, most=math.inf),
    "cache_hit_rate_threshold": _Kind("cache_hit_rate", "cache_hit_rate", rises=False, critical=None, most=1.0),
}
_CERTAINLY_CRITICAL: Final = 0.5
"""The error rate from which every second request fails."""


def rules_of(
    thresholds: Mapping[str, Any],
    *,
    window: int = WINDOW,
    cooldown: float = COOLDOWN,
    min_samples: int | None = None,
) -> tuple[Rule, ...]:
    """A rule for each threshold. ValueError for unknown keys, which says what was meant, and for bad values."""
    return tuple(
        _rule(key, value, window=window, cooldown=cooldown, min_samples=min_samples)
        for key, value in thresholds.items()
    )


def _rule(key: str, value: Any, *, window: int, cooldown: float, min_samples: int | None) -> Rule:
    kind = _KINDS.get(key)
    if kind is None:
        meant = difflib.get_close_matches(str(key), _KINDS, 1)
        hint = f"did you mean {meant[0]!r}?" if meant else f"there are {', '.join(_KINDS)}"
        raise ValueError(f"alert_thresholds has no key {key!r}; {hint}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= kind.most:
        what = "a fraction from 0 to 1" if kind.most == 1.0 else "a number, 0 or more"
        hint = f"; for {value:g} % write {value / 100:g}" if kind.most == 1.0 and _is_percent(value) else ""
        raise ValueError(f"{key} must be {what}, not {value!r}{hint}")
    limit = float(value)
    critical = None if kind.critical is None or not math.isfinite(limit) else limit * kind.critical
    if kind.type == "error_rate" and critical is not None:
        critical = max(limit, min(critical, _CERTAINLY_CRITICAL)) if limit < _CERTAINLY_CRITICAL else limit
    return Rule(
        kind.type,
        Statistic(kind.statistic, last=window),
        above=limit if kind.rises else None,
        below=None if kind.rises else limit,
        critical=critical,
        cooldown=cooldown,
        min_samples=min_samples,
    )


def _is_percent(value: Any) -> bool:
    return isinstance(value, int | float) and 1.0 < value <= 100.0
