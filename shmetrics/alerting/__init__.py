"""Alerting: rules over a fleet's figures, and who is told.

    readings  what a rule sees          recent    "the last 50 measurements"      sources  where readings come from
    rules     what is a reason          thresholds the four of the seed           slo      error budgets and burn rates
    engine    from breach to alert      silences  when nobody is told             watch    an engine over a live hub
    outbox    a queue and its thread    dispatch  who is told of what             tripwire looking before it is due
    definition  rules.toml              replay    `shmetrics rules test`

The core of it is pure; `performance` has the thread. What leaves the machine is in ``shmetrics.exporters.alerts``.
"""

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.definition import load as load_rules
from shmetrics.alerting.performance import PerformanceAlerting
from shmetrics.alerting.rules import Rule, RuleError
from shmetrics.alerting.silences import Silence
from shmetrics.alerting.slo import BurnRate, Objective
from shmetrics.alerting.sources import CustomMetric, Finding, Statistic, WorkerStatistic

__all__ = [
    "Alert",
    "BurnRate",
    "CustomMetric",
    "Finding",
    "Objective",
    "PerformanceAlerting",
    "Rule",
    "RuleError",
    "Silence",
    "Statistic",
    "WorkerStatistic",
    "load_rules",
]
