"""Alert rules as Prometheus' alerting rules: the same definition, judged where the pages are scraped.

https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/. What has no form there is left out and
named: Prometheus does not know single measurements ("the last 50"), and pages do not show every finding. Rules are
per target: series keep the labels of their scrape, so one file serves any number of hubs.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from shmetrics.alerting.rules import SEVERITIES, Rule
from shmetrics.alerting.slo import BurnRate
from shmetrics.alerting.sources import CustomMetric, Finding, Statistic, WorkerStatistic, percentile
from shmetrics.alerting.wording import FRACTION, SECONDS, shown, span
from shmetrics.evidence import STUCK_AFTER
from shmetrics.exporters.prometheus.buckets import bounds_by_measure
from shmetrics.exporters.prometheus.fleet import MEASURE_NAMES
from shmetrics.exporters.prometheus.names import check_prefix, go_float, writable
from shmetrics.findings import RECENT_DEATH

_PLAIN: Final = {
    "total_requests": "requests_total",
    "total_errors": "errors_total",
    "cache_hits": "cache_hits_total",
    "cache_misses": "cache_misses_total",
    "throughput": "throughput_requests_per_second",
    "current_throughput": "current_throughput_requests_per_second",
    "peak_throughput": "peak_throughput_requests_per_second",
    "active_workers": "shmetrics_slots_live",
    "slots_live": "shmetrics_slots_live",
    "slots_dead": "shmetrics_slots_dead",
    "workers_seen": "shmetrics_workers_seen_total",
    "busy_fraction": "shmetrics_busy_ratio",
    "busy_fraction_1m": "shmetrics_busy_1m_ratio",
    "invalid_records": "shmetrics_invalid_records_total",
    "dropped_records": "shmetrics_dropped_records_total",
    "stale_slots": "shmetrics_stale_slots",
    "corrupt_reaped": "shmetrics_corrupt_slots_reaped_total",
    "catalog_used": "shmetrics_catalog_blocks_used",
    "cells_used": "shmetrics_cells_used",
    "refused_series": "shmetrics_refused_series_total",
}
"""Statistics that stand on a page as they are."""

_WORKER: Final = {
    "busy_fraction": "shmetrics_worker_busy_ratio",
    "busy_fraction_1m": "shmetrics_worker_busy_1m_ratio",
    "in_flight": "shmetrics_worker_in_flight_requests",
    "oldest_in_flight": "shmetrics_worker_oldest_in_flight_seconds",
    "requests": "shmetrics_worker_requests_total",
    "errors": "shmetrics_worker_errors_total",
}
_COUNTERS: Final = {"requests": "requests_total", "errors": "errors_total", "cache_hits": "cache_hits_total",
                    "cache_misses": "cache_misses_total"}  # fmt: skip
_MATCHER: Final = re.compile(r'\s*[a-zA-Z_]\w*\s*(=|!=|=~|!~)\s*"(?:[^"\\]|\\.)*"\s*(,|$)')
_LIFETIME: Final = re.compile(r"lifetime_(p\d+_\w+)")


class Export(NamedTuple):
    """A rules file for Prometheus."""

    text: str
    """YAML, comments of what was left out included."""
    left_out: list[str]
    """Each rule without a form there, and why: a line each."""


class _NoFormError(Exception):
    """Prometheus cannot judge this; the text says why."""


class _Expression(NamedTuple):
    """What a rule looks at, in PromQL."""

    value: str
    samples: str | None = None
    """How many requests or lookups it rests on."""


def export_rules(rules: Sequence[Rule], *, match: str = "", prefix: str = "", group: str = "shmetrics") -> Export:
    """The rules as a file for Prometheus' ``rule_files``.

    ``match``: label matchers for every series, ``job="resnet"``: names such as requests_total are not ours alone;
    ``prefix``: the one that the pages are made with. ValueError for what is neither.
    """
    names = _Names(check_prefix(prefix), _checked(match))
    entries: list[str] = []
    left_out: list[str] = []
    for rule in rules:
        try:
            entries += [_entry(rule, severity, names) for severity in _severities(rule)]
        except _NoFormError as error:
            left_out.append(f"{rule.name}: {error}")
    comments = [f"# left out: {text}" for text in left_out]
    body = ["groups:", f"- name: {_yaml(group)}", "  rules:" if entries else "  rules: []", *entries]
    return Export("\n".join(["# Written by `shmetrics rules export`.", *comments, *body]) + "\n", left_out)


def _checked(match: str) -> str:
    at, ended = 0, True
    while at < len(match):
        found = _MATCHER.match(match, at)
        if found is None:
            raise ValueError(f'label matchers must be like job="resnet",env="prod", not {match!r}')
        at, ended = found.end(), not found[2]
    return match if ended else match.rstrip().rstrip(",")


def _severities(rule: Rule) -> list[str]:
    """A rule that becomes critical is two rules there, with one name and two thresholds."""
    raised = rule.critical is not None and rule.severity != SEVERITIES[0]
    return [rule.severity, SEVERITIES[0]] if raised else [rule.severity]


def _entry(rule: Rule, severity: str, names: "_Names") -> str:
    """One alerting rule, as YAML whose scalars and maps are JSON."""
    lines = [
        f"  - alert: {rule.name}",
        f"    expr: {_yaml(_condition(rule, severity, names))}",
    ]
    if rule.hold:
        lines.append(f"    for: {_duration(rule.hold)}")
    if rule.keep_firing_for:
        lines.append(f"    keep_firing_for: {_duration(rule.keep_firing_for)}")
    labels = {name: _literal(value) for name, value in rule.labels.items()}
    annotations = {name: _literal(value) for name, value in rule.annotations.items()}
    lines.append(f"    labels: {_yaml({'severity': severity, **labels})}")
    lines.append(f"    annotations: {_yaml({'summary': _summary(rule), **annotations})}")
    return "\n".join(lines)


def _yaml(value: str | dict[str, str]) -> str:
    """A scalar or map. Texts in single quotes, where they need no escape, and else as JSON, which is YAML too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(text)}" for key, text in value.items()) + "}"
    text = writable(value)
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return "".join(each if each.isprintable() else _escaped(each) for each in json.dumps(text, ensure_ascii=False))


def _escaped(character: str) -> str:
    """As YAML writes it, which takes fewer characters as they are than JSON does."""
    return f"\\U{ord(character):08X}"


def _duration(seconds: float) -> str:
    return span(round(seconds, 3))


def _condition(rule: Rule, severity: str, names: "_Names") -> str:
    source = rule.source
    if isinstance(source, Finding):
        return _finding(source.kind, names)
    limit = rule.limit_for(severity)
    sign = ">" if rule.above is not None else "<"
    samples: str | None
    if isinstance(source, BurnRate):
        condition, samples = _burn(source, limit, names)
    else:
        found = _expression(source, names)
        samples = found.samples
        condition = f"{found.value} {sign}{'=' if severity != rule.severity else ''} {_number(limit)}"
        if rule.clear is not None:
            own = ", ".join(["alertname", "alertstate", "severity", *rule.labels])
            firing = f'ALERTS{{alertname="{rule.name}",alertstate="firing",severity="{severity}"}}'
            condition = f"({condition}) or ({found.value} {sign} {_number(rule.clear)} and ignoring({own}) {firing})"
    least = source.least_samples if rule.min_samples is None else rule.min_samples
    if samples is not None and least > 1:
        condition = f"({condition}) and {samples} >= {least}"
    return condition


def _number(value: float | None) -> str:
    assert value is not None, "a rule that is not about findings has a threshold"
    return f"{value:.12g}"


def _expression(source: object, names: "_Names") -> _Expression:
    if isinstance(source, Statistic):
        if source.last is not None:
            raise _NoFormError(f"Prometheus does not know the last {source.last} measurements; give it a window")
        return _plain(source.key, names) if source.window is None else _windowed(source.key, source.window, names)
    if isinstance(source, WorkerStatistic):
        return _Expression(_worker(source.key, names))
    if isinstance(source, CustomMetric):
        return _Expression(_custom(source, names))
    raise _NoFormError(f"{type(source).__name__} is not known here")


def _plain(key: str, names: "_Names") -> _Expression:  # noqa: PLR0911  one for each shape
    """A statistic as it is."""
    known, lifetime = percentile(key), _LIFETIME.fullmatch(key)
    if key in _PLAIN:
        return _Expression(names(_PLAIN[key]))
    if key == "error_rate":
        return _Expression(f"{names('errors_total')} / {names('requests_total')}")
    if key == "cache_hit_rate":
        hits, misses = names("cache_hits_total"), names("cache_misses_total")
        return _Expression(f"{hits} / ({hits} + {misses})")
    if key == "slots_fill":
        live, dead, slots = (names(f"shmetrics_{name}") for name in ("slots_live", "slots_dead", "slots"))
        return _Expression(f"({live} + {dead}) / {slots}")
    if key == "in_flight":
        return _Expression(f"sum without (worker) ({names(_WORKER[key])})")
    if key == "oldest_in_flight":
        return _Expression(f"max without (worker) ({names(_WORKER[key])})")
    if key == "total_runtime":
        return _Expression(f"time() - {names('shmetrics_hub_start_time_seconds')}")
    if known is not None and known[0] in (50, 95, 99):
        return _Expression(names(MEASURE_NAMES[known[1]][1], f'percentile="{known[0]:g}"'))
    if lifetime and (found := percentile(lifetime[1])):
        return _Expression(f"histogram_quantile({found[0] / 100:g}, {names(MEASURE_NAMES[found[1]][0] + '_bucket')})")
    raise _NoFormError(f"no page has {key}")


def _windowed(key: str, window: float, names: "_Names") -> _Expression:
    """A statistic over a window."""
    over = f"[{_duration(window)}]"
    requests = f"increase({names('requests_total')}{over})"
    if key == "error_rate":
        return _Expression(_errors(window, names), requests)
    if key == "cache_hit_rate":
        hits, misses = (f"rate({names(f'cache_{kind}_total')}{over})" for kind in ("hits", "misses"))
        lookups = " + ".join(f"increase({names(f'cache_{kind}_total')}{over})" for kind in ("hits", "misses"))
        return _Expression(f"{hits} / ({hits} + {misses})", f"({lookups})")
    if key == "throughput":
        return _Expression(f"rate({names('requests_total')}{over})", requests)
    if key in _COUNTERS:
        return _Expression(f"increase({names(_COUNTERS[key])}{over})", requests)
    known = percentile(key)
    assert known is not None, "checked when the rule was made"
    bucket = names(f"{MEASURE_NAMES[known[1]][0]}_bucket")
    return _Expression(f"histogram_quantile({known[0] / 100:g}, rate({bucket}{over}))", requests)


def _errors(window: float, names: "_Names") -> str:
    over = f"[{_duration(window)}]"
    return f"rate({names('errors_total')}{over}) / rate({names('requests_total')}{over})"


def _burn(source: BurnRate, factor: float | None, names: "_Names") -> tuple[str, str]:
    """Both windows burn faster than the factor; the longer one is what the alert shows."""
    promise = source.objective

    def burning(window: float) -> str:
        if promise.measure is None:
            bad = f"({_errors(window, names)})"
        else:
            name, over = MEASURE_NAMES[promise.measure][0], f"[{_duration(window)}]"
            if not any(math.isclose(promise.under, bound) for bound in bounds_by_measure(None)[promise.measure]):
                raise _NoFormError(f"pages have no bucket up to {promise.under:g}; take a power of two, such as 0.25")
            le = f'le="{go_float(promise.under)}"'
            good = f"rate({names(name + '_bucket', le)}{over})"
            bad = f"(1 - {good} / ignoring(le) rate({names(name + '_count')}{over}))"
        return f"{bad} / {promise.budget:.12g} > {_number(factor)}"

    return (
        f"({burning(source.long)}) and ({burning(source.short)})",
        f"increase({names('requests_total')}[{_duration(source.long)}])",
    )


def _worker(key: str, names: "_Names") -> str:
    if key in _WORKER:
        return names(_WORKER[key])
    if key == "error_rate":
        return f"{names(_WORKER['errors'])} / {names(_WORKER['requests'])}"
    if key == "age":
        return f"time() - {names('shmetrics_worker_start_time_seconds')}"
    raise _NoFormError(f"no page has {key} of a worker")


def _custom(source: CustomMetric, names: "_Names") -> str:
    labels = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in source.labels]
    if source.of == "value":
        return names(source.name, *labels)
    if source.of == "rate":
        counter = source.name if source.name.endswith("_total") else f"{source.name}_total"
        return f"rate({names(counter, *labels)}[{_duration(source.window)}])"
    if source.of == "mean":
        return f"{names(source.name + '_sum', *labels)} / {names(source.name + '_count', *labels)}"
    if source.of in ("count", "sum"):
        return names(f"{source.name}_{source.of}", *labels)
    return f"histogram_quantile({float(source.of[1:]) / 100:g}, {names(source.name + '_bucket', *labels)})"


_FULL: Final = 0.9
_COUNTED: Final = {
    "dropped_records": "shmetrics_dropped_records_total",
    "invalid_records": "shmetrics_invalid_records_total",
    "refused_series": "shmetrics_refused_series_total",
    "corrupt": "shmetrics_corrupt_parts",
    "corrupt_reaped": "shmetrics_corrupt_slots_reaped_total",
    "stale": "shmetrics_stale",
    "stale_slots": "shmetrics_stale_slots",
    "unlinked": "shmetrics_unlinked",
}
"""Findings that a page shows as a number above 0."""
_OF_A_WORKER: Final = ("hung_worker", "stuck_request", "stuck")
"""Findings whose series says which worker's it is."""


def _finding(kind: str, names: "_Names") -> str:
    if kind in _COUNTED:
        return f"{names(_COUNTED[kind])} > 0"
    if kind in _OF_A_WORKER:
        return f"{names('shmetrics_worker_oldest_in_flight_seconds')} > {STUCK_AFTER:g}"
    if kind in ("died", "dead_worker"):
        return f"increase({names('shmetrics_workers_died_total')}[{_duration(RECENT_DEATH)}]) > 0"
    if kind == "series_nearly_full":
        full = (
            f"{names(f'shmetrics_{part}_used')} / {names(f'shmetrics_{part}')}" for part in ("catalog_blocks", "cells")
        )
        return " or ".join(f"{each} > {_FULL}" for each in full)
    raise _NoFormError(f"no page has the finding {kind}")


def _summary(rule: Rule) -> str:
    """The message, with Prometheus' templates for what it is made of."""
    unit = rule.source.unit
    humanize = {FRACTION: "humanizePercentage", SECONDS: "humanizeDuration"}.get(unit, "humanize")
    value, limit = f"{{{{ $value | {humanize} }}}}", rule.threshold
    threshold = "" if limit is None else shown(limit, unit)
    if rule.summary:
        filled = {"value": value, "threshold": threshold, "worker": "{{ $labels.worker }}", "hub": "{{ $labels.job }}"}
        parts = re.split(r"\{(\w+)\}", rule.summary)  # texts and, between them, names
        return "".join(filled[part] if at % 2 else _literal(part) for at, part in enumerate(parts))
    if isinstance(rule.source, Finding):  # most have no threshold to be above, and none has a value to tell people
        return rule.source.words + (" (worker {{ $labels.worker }})" if rule.source.kind in _OF_A_WORKER else "")
    worker = " {{ $labels.worker }}" if isinstance(rule.source, WorkerStatistic) else ""
    side = "above" if rule.above is not None else "below"
    return f"{rule.source.words}{worker} is {value}, {side} {threshold}"


def _literal(text: str) -> str:
    """A text that Prometheus, which takes it for a template, leaves as it is."""
    return text.replace("{", '{{"{"}}')


class _Names:
    """Names of series, with what every selector has."""

    def __init__(self, prefix: str, match: str) -> None:
        self._prefix = prefix
        self._match = match

    def __call__(self, name: str, *matchers: str) -> str:
        """``prefix_name{job="resnet",le="0.25"}``."""
        inside = ",".join(each for each in (self._match, *matchers) if each)
        return f"{self._prefix}{name}{{{inside}}}" if inside else f"{self._prefix}{name}"
