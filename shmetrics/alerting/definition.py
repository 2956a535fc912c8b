"""rules.toml: reading a file of rules, objectives and silences. docs/alerting.md is its reference.

Everything that is wrong with a file is told at once, each with its line and what to write instead; a file with a
problem is not used at all. Receivers and tests are handed on as tables: `exporters.alerts` and `replay` know what
they mean.

TOML is read by the standard library from Python 3.11 on. On 3.10 by tomli, which is the extra ``rules`` and no
dependency of the core: a worker never reads rules, and who needs none should not install for them.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from types import ModuleType
from typing import Any, Final

from shmetrics.alerting import slo
from shmetrics.alerting.fields import Fields, Page, meant
from shmetrics.alerting.locate import lines_of
from shmetrics.alerting.rules import COOLDOWN, NAME, SEVERITIES, Rule, RuleError
from shmetrics.alerting.silences import DAYS, Silence
from shmetrics.alerting.sources import (
    FINDINGS,
    FLEET,
    HUB,
    OF,
    WINDOWED,
    WORKER,
    CustomMetric,
    Finding,
    Source,
    Statistic,
    WorkerStatistic,
    percentile,
)
from shmetrics.alerting.wording import span
from shmetrics.errors import PlatformError, RulesError
from shmetrics.layout import MEASURES

_SOURCES: Final = ("statistic", "metric", "worker", "finding")
_TABLES: Final = ("defaults", "rule", "slo", "silence", "receiver", "test")
_LISTS: Final = _TABLES[1:]
_AT: Final = re.compile(r"\(at line (\d+), column \d+\)")
_CLOCKS: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_LONGEST_WINDOW: Final = 7 * 86_400.0
_LONGEST_GROWTH: Final = 3_600.0


@dataclass(frozen=True)
class Table:
    """A table that somebody else reads: `fields` gives a fresh reader, whose problems go to `RuleFile.page`."""

    address: tuple[str | int, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RuleFile:
    """What is in a rules file."""

    path: str
    page: Page
    rules: tuple[Rule, ...] = ()
    silences: tuple[Silence, ...] = ()
    receivers: tuple[Table, ...] = ()
    tests: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    """What is allowed but may not be meant."""

    def fields(self, table: Table, what: str) -> Fields:
        """A reader of one of the tables."""
        return Fields(self.page, table.address, table.content, what)

    def check(self) -> None:
        """RulesError with every problem found so far, if there is one."""
        problems = self.page.report()
        if problems:
            head = [f"{self.path} has {len(problems)} mistakes:"] if len(problems) > 1 else []
            raise RulesError("\n".join([*head, *problems]))


def load(path: str) -> RuleFile:
    """Read a rules file. RulesError when it cannot be read, or has a problem; the message has a line for each."""
    found = read(path)
    found.check()
    return found


def read(path: str) -> RuleFile:
    """Read a rules file; its problems are in the result's `page`. RulesError for what cannot be read, or is no TOML."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        text = data.decode("utf-8-sig")  # some editors begin files with a mark
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error.strerror}; give the path of a file of rules") from None
    except UnicodeDecodeError as error:
        raise RulesError(f"{path}: is not UTF-8 (byte {error.start}); a file of rules is TOML text") from None
    return parse(text, path)


def parse(text: str, path: str = "rules.toml") -> RuleFile:
    """Read a text of rules. Its problems are in the result's `page`; RulesError only for what is no TOML."""
    parser = _parser()
    try:
        content = parser.loads(text)
    except parser.TOMLDecodeError as error:
        at = _AT.search(str(error))
        reason = _AT.sub("", str(error)).strip()
        raise RulesError(f"{path}:{at[1] if at else 1}: this is not TOML: {reason}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise RulesError(f"{path}:1: there is something in this file that no rule needs: {error}") from None
    page = Page(path, lines_of(text))
    tables = _tables(page, content)
    defaults = _defaults(page, content.get("defaults", {}))
    notes: list[str] = []
    rules: list[Rule] = []
    for table in tables["rule"]:
        rules += _rule(_reader(page, table, "rule"), defaults)
    for table in tables["slo"]:
        rules += _slo(_reader(page, table, "slo"), defaults, notes)
    silences = [_silence(_reader(page, table, "silence"), rules, notes) for table in tables["silence"]]
    _check_names(page, rules, tables["rule"])
    return RuleFile(
        path,
        page,
        tuple(rules),
        tuple(silence for silence in silences if silence is not None),
        tuple(tables["receiver"]),
        tuple(tables["test"]),
        tuple(notes),
    )


def _parser() -> ModuleType:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise PlatformError("rules are TOML, which Python 3.10 cannot read by itself; pip install 'shmetrics[rules]'")


# Tables ---------------------------------------------------------------------------------------------------------------


def _tables(page: Page, content: Mapping[str, Any]) -> dict[str, list[Table]]:
    """The tables of each list of the file; complains of what should not be there."""
    tables: dict[str, list[Table]] = {name: [] for name in _LISTS}
    for name, value in content.items():
        if name not in _TABLES:
            near = meant(name, _TABLES)
            page.complain((name,), f"there is no table {name!r} here{near or '; there are ' + ', '.join(_TABLES)}")
        elif name in _LISTS:
            if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
                page.complain((name,), f"write [[{name}]], with two brackets: there may be several")
                continue
            tables[name] = [Table((name, at), each) for at, each in enumerate(value)]
    return tables


def _reader(page: Page, table: Table, what: str) -> Fields:
    name = table.content.get("name")
    known = f"{what} {name!r}" if isinstance(name, str) else f"{what} number {int(table.address[1]) + 1}"
    return Fields(page, table.address, table.content, known)


@dataclass(frozen=True)
class _Defaults:
    """What holds for every rule that does not say otherwise."""

    severity: str = "warning"
    cooldown: float = COOLDOWN
    hold: float = 0.0
    keep_firing_for: float = 0.0
    min_samples: int | None = None
    labels: Mapping[str, str] | None = None


def _defaults(page: Page, content: Any) -> _Defaults:
    if not isinstance(content, dict):
        page.complain(("defaults",), "write [defaults], with its keys below")
        return _Defaults()
    fields = Fields(page, ("defaults",), content, "defaults")
    found = _common(fields, _Defaults())
    fields.finish()
    return found


def _common(fields: Fields, defaults: _Defaults) -> _Defaults:
    """The keys that a rule and the defaults have in common."""
    return _Defaults(
        severity=fields.choice("severity", SEVERITIES, defaults.severity) or defaults.severity,
        cooldown=fields.seconds("cooldown", defaults.cooldown) or 0.0,
        hold=fields.seconds("for", defaults.hold) or 0.0,
        keep_firing_for=fields.seconds("keep_firing_for", defaults.keep_firing_for) or 0.0,
        min_samples=fields.whole("min_samples", defaults.min_samples),
        labels={**(defaults.labels or {}), **fields.table("labels")},
    )


def _check_names(page: Page, rules: list[Rule], tables: list[Table]) -> None:
    names = [rule.name for rule in rules]
    for name in {name for name in names if names.count(name) > 1}:
        places = [table for table in tables if table.content.get("name") == name]
        page.complain((*places[-1].address, "name") if places else (), f"two rules are called {name!r}; names tell "
                      f"alerts apart")  # fmt: skip


# Rules ----------------------------------------------------------------------------------------------------------------


def _rule(fields: Fields, defaults: _Defaults) -> list[Rule]:
    name = fields.text("name", required=True)
    source = _source(fields)
    common = _common(fields, defaults)
    thresholds = {key: fields.number(key) for key in ("above", "below", "clear", "critical")}
    summary, annotations = fields.text("summary", "") or "", fields.table("annotations")
    if not fields.finish() or name is None or source is None:
        return []
    below = thresholds["below"]  # what is above -1 always fires, which may be meant: a sign of life
    if below is not None and below <= 0.0 and not isinstance(source, CustomMetric):
        fields.complain("below", f"{source.words} is never below 0, so this would never fire")
        return []
    if thresholds["above"] is None and thresholds["below"] is None and not isinstance(source, Finding):
        fields.complain("above", "say when it fires: `above` or `below` is missing")
        return []
    return _made(
        fields,
        lambda: Rule(
            name,
            source,
            **thresholds,
            hold=common.hold,
            keep_firing_for=common.keep_firing_for,
            min_samples=common.min_samples,
            severity=common.severity,
            cooldown=common.cooldown,
            summary=summary,
            labels=common.labels or {},
            annotations=annotations,
        ),
    )


def _made(fields: Fields, make: Callable[[], Rule]) -> list[Rule]:
    try:
        return [make()]
    except RuleError as error:
        fields.complain(error.key, str(error))
        return []


def _source(fields: Fields) -> Source | None:
    given = [key for key in _SOURCES if fields.has(key)]
    if len(given) != 1:
        wanted = ", ".join(f"`{key}`" for key in _SOURCES)
        found = " and ".join(f"`{key}`" for key in given) or "none"
        fields.complain(given[0] if given else "name", f"say what it looks at: exactly one of {wanted}, not {found}")
        for key in ("window", "last", "of", "series"):
            fields.has(key)
        return None
    key = given[0]
    name = fields.text(key)
    if name is None:
        return None
    return {"statistic": _statistic, "metric": _metric, "worker": _worker, "finding": _finding}[key](fields, name)


def _statistic(fields: Fields, key: str) -> Source | None:
    window = fields.seconds("window", low=1.0)
    last = fields.whole("last", low=1)
    if window is not None and last is not None:
        fields.complain("last", "`window` and `last` exclude each other: seconds, or measurements")
        return None
    if window is not None and window > _LONGEST_WINDOW:
        fields.complain("window", f"`window` is {span(_LONGEST_WINDOW)} at most: so long the history is")
        return None
    known = WINDOWED if window is not None or last is not None else (*FLEET, *HUB)
    if key in known or (known is WINDOWED and percentile(key)):
        return Statistic(key, window, last)
    if key in (*FLEET, *HUB):
        fields.complain("statistic", f"{key!r} cannot be had over a `window` or `last` measurements; these can: "
                                     f"{', '.join(WINDOWED[:7])}, and percentiles such as p95_total_time")  # fmt: skip
    elif key in WINDOWED or percentile(key):
        fields.complain("statistic", f'{key!r} needs a `window`, such as "5m", or `last`')
    else:
        fields.complain("statistic", f"there is no statistic {key!r}{meant(key, known)}"
                                     f"{'' if meant(key, known) else '; docs/statistics.md lists them'}")  # fmt: skip
    return None


def _metric(fields: Fields, name: str) -> Source | None:
    of = fields.text("of", "value") or "value"
    series = fields.table("series")
    for key, text in (("metric", name.replace(":", "_")), *(("series", label) for label in series)):
        if not NAME.fullmatch(text):
            fields.complain(key, f"{text!r} cannot be the name of a metric or label: letters, digits and _, no digit "
                                 f"first; which series of a metric, `series` says")  # fmt: skip
            return None
    window = fields.seconds("window", 60.0, low=1.0) or 60.0
    if of not in OF and not re.fullmatch(r"p\d{1,2}(\.\d+)?", of):
        fields.complain("of", f"`of` must be one of {', '.join(OF)}, or a percentile such as p95, not {of!r}"
                              f"{meant(of, OF)}")  # fmt: skip
        return None
    if of == "rate" and window > _LONGEST_GROWTH:
        fields.complain("window", f"`window` of a custom metric is {span(_LONGEST_GROWTH)} at most")
        return None
    return CustomMetric(name, tuple(series.items()), of, window)


def _worker(fields: Fields, key: str) -> Source | None:
    if key not in WORKER:
        near = meant(key, WORKER) or f"; there are {', '.join(WORKER)}"
        fields.complain("worker", f"there is no figure {key!r} of a worker{near}")
        return None
    return WorkerStatistic(key)


def _finding(fields: Fields, kind: str) -> Source | None:
    if kind not in FINDINGS:
        near = meant(kind, FINDINGS) or f"; there are {', '.join(FINDINGS)}"
        fields.complain("finding", f"there is no finding {kind!r}{near}")
        return None
    return Finding(kind)


# Objectives -----------------------------------------------------------------------------------------------------------


def _slo(fields: Fields, defaults: _Defaults, notes: list[str]) -> list[Rule]:
    name = fields.text("name", required=True)
    if not fields.has("objective"):
        fields.complain("objective", "`objective` is missing: which share of requests is to be good, such as 0.999")
    objective = fields.number("objective")
    if objective is not None and not 0.0 < objective < 1.0:
        hint = f"; for {objective:g} % write {objective / 100:g}" if 1.0 < objective < 100.0 else ""
        fields.complain("objective", f"`objective` must be between 0 and 1, not {objective:g}{hint}")
    measure, under = fields.choice("measure", MEASURES), fields.number("under", low=0.0)
    if (measure is None) != (under is None):
        fields.complain("under" if measure else "measure", "`measure` and `under` belong together: requests with a "
                        "total_time of up to 0.25 are good, say")  # fmt: skip
    period = fields.seconds("period", slo.PERIOD, low=86_400.0) or slo.PERIOD
    min_samples = fields.whole("min_samples", defaults.min_samples)
    cooldown = fields.seconds("cooldown", defaults.cooldown) or 0.0
    labels = {**(defaults.labels or {}), **fields.table("labels")}
    annotations, summary = fields.table("annotations"), fields.text("summary", "") or ""
    if not fields.finish() or name is None or objective is None:
        return []
    promise = slo.Objective(name, objective, measure, math.inf if under is None else under, period)
    rules: list[Rule] = []
    for burn in slo.BURNS:
        factor = promise.factor(burn)
        if factor * promise.budget >= 1.0:
            notes.append(f"slo {name!r}: nothing burns {factor:g} times as fast as {promise.objective:g} allows, so it "
                         f"has no alert over {span(burn.long)}")  # fmt: skip
            continue
        rules += _made(
            fields,
            lambda burn=burn, factor=factor: Rule(  # type: ignore[misc]  # mypy infers no lambda with defaults
                f"{name}_burn_{span(burn.long)}",
                slo.BurnRate(promise, burn.long, burn.short),
                above=factor,
                severity=burn.severity,
                min_samples=min_samples,
                cooldown=cooldown,
                summary=summary,
                labels=labels,
                annotations=annotations,
            ),
        )
        if not fields.is_good:
            return rules
    if not rules:
        fields.complain("objective", f"an `objective` of {objective:g} leaves so large a budget that it cannot burn "
                                     f"fast enough for an alert; write a rule on a statistic instead")  # fmt: skip
    return rules


# Silences -------------------------------------------------------------------------------------------------------------


def _silence(fields: Fields, rules: list[Rule], notes: list[str]) -> Silence | None:
    silence = Silence(
        rule=fields.text("rule", "*") or "*",
        severities=fields.texts("severities", SEVERITIES),
        labels=fields.table("labels"),
        start=_instant(fields, "from"),
        end=_instant(fields, "until"),
        daily=_daily(fields),
        days=fields.texts("days", DAYS),
        reason=fields.text("reason", "") or "",
    )
    if silence.start is not None and silence.end is not None and silence.end <= silence.start:
        fields.complain("until", "`until` must be later than `from`")
    if not any(fields.has(key) for key in ("until", "daily", "days")):
        fields.complain("until", "a silence must end: give `until` (2026-01-31T08:00:00), `daily` (\"02:00-04:00\") or "
                                 "`days`; else take the rule out")  # fmt: skip
    names = [rule.name for rule in rules]
    if "*" not in silence.rule and "?" not in silence.rule and silence.rule not in names:
        near = meant(silence.rule, names)
        notes.append(f"{fields.what}: there is no rule {silence.rule!r}{near}")
    return silence if fields.finish() else None


def _instant(fields: Fields, key: str) -> float | None:
    """A date and time of TOML as seconds since the epoch; without an offset it is this machine's time."""
    value = fields.raw(key)
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        try:
            return value.timestamp()
        except (ValueError, OverflowError):
            fields.complain(key, f"`{key}` is too far away, in the year {value.year}")
            return None
    fields.complain(key, f"`{key}` must be a date and time such as 2026-01-31T08:00:00 (no quotes), not {value!r}")
    return None


def _daily(fields: Fields) -> tuple[time, time] | None:
    text = fields.text("daily")
    if text is None:
        return None
    match = _CLOCKS.fullmatch(text.strip())
    hours = [int(part) for part in match.groups()] if match else []
    if not match or not (hours[0] < 24 and hours[2] < 24 and hours[1] < 60 and hours[3] < 60):
        fields.complain("daily", f'`daily` must be two times such as "02:00-04:00", not {text!r}')
        return None
    if hours[:2] == hours[2:]:
        fields.complain("daily", f"`daily` is empty, from {text.strip()}; for whole days give `days` alone")
        return None
    return time(hours[0], hours[1]), time(hours[2], hours[3])
