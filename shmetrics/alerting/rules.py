"""A rule: which readings are a reason to tell somebody, from when on, how urgent, and how often. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shmetrics.alerting.readings import Reading
from shmetrics.alerting.sources import Source
from shmetrics.alerting.wording import shown, span

SEVERITIES: Final = ("critical", "warning", "info")
"""Most urgent first."""
COOLDOWN: Final = 300.0
"""Seconds between two announcements of the same alert."""
PLACEHOLDERS: Final = ("value", "threshold", "worker", "hub")
"""What a rule's summary may name in braces."""

NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Of rules, metrics, labels and annotations: what Prometheus and Alertmanager take."""

_OWN_LABELS: Final = ("alertname", "severity", "hub")
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")


class RuleError(ValueError):
    """A rule cannot be: which of its keys is wrong, and what to write instead."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class Rule:
    """One rule. Seconds throughout. RuleError for what makes no sense; the message has the key and what to write.

    It fires while a reading is above `above`, or below `below`; with neither (findings) while there is a reading.
    """

    name: str
    """Prometheus' ``alertname``: letters, digits and ``_``."""
    source: Source
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    """A firing alert ends only when the reading has come back to this, which is on the good side of the threshold."""
    critical: float | None = None
    """From here on the severity is critical, whatever `severity` says."""
    hold: float = 0.0
    """``for``: how long the condition must be true before the alert fires."""
    keep_firing_for: float = 0.0
    """How long it must be false before the alert ends."""
    min_samples: int | None = None
    """Requests or lookups that a reading must rest on; by default what the source thinks right."""
    severity: str = "warning"
    cooldown: float = COOLDOWN
    summary: str = ""
    """The message, with PLACEHOLDERS in braces; made from the reading where it is empty."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise RuleError("name", f"{self.name!r} cannot be a rule's name: wanted letters, digits and _, no digit "
                                    f"first, such as \"HighErrorRate\"")  # fmt: skip
        if self.severity not in SEVERITIES:
            raise RuleError("severity", f"severity must be one of {', '.join(SEVERITIES)}, not {self.severity!r}")
        if self.above is not None and self.below is not None:
            raise RuleError("below", "a rule has `above` or `below`, not both; write two rules")
        self._check_thresholds()
        for key, seconds in (
            ("for", self.hold),
            ("keep_firing_for", self.keep_firing_for),
            ("cooldown", self.cooldown),
        ):
            if not 0.0 <= seconds < math.inf:
                raise RuleError(key, f'`{key}` must be a duration such as "5m", 0 or more, not {seconds!r}')
        if self.min_samples is not None and self.min_samples < 0:
            raise RuleError("min_samples", f"`min_samples` must be a whole number, 0 or more, not {self.min_samples}")
        for label in self.labels:
            if not NAME.fullmatch(label) or label in _OWN_LABELS or label.startswith("__"):
                raise RuleError("labels", f"{label!r} cannot be a label here: wanted letters, digits and _, not __ at "
                                          f"the beginning, and not "
                                          f"{', '.join(_OWN_LABELS)}, which every alert has")  # fmt: skip
        for annotation in self.annotations:
            if not NAME.fullmatch(annotation):
                raise RuleError("annotations", f"{annotation!r} cannot be an annotation's name: wanted letters, digits "
                                               f"and _, such as runbook_url")  # fmt: skip
        for name in _IN_BRACES.findall(self.summary):
            if name not in PLACEHOLDERS:
                raise RuleError("summary", f"`summary` has {{{name}}}, which nothing fills in; there are "
                                           f"{', '.join(f'{{{known}}}' for known in PLACEHOLDERS)}")  # fmt: skip

    def _check_thresholds(self) -> None:
        limit = self.threshold
        for key, value in (("above", self.above), ("below", self.below), ("clear", self.clear),
                           ("critical", self.critical)):  # fmt: skip
            if value is not None and not math.isfinite(value):
                raise RuleError(key, f"`{key}` must be a finite number, not {value}")
            if value is not None and limit is None:
                raise RuleError(key, f"`{key}` needs `above` or `below` beside it")
        if self.source.unit == "fraction" and limit is not None and not 0.0 <= limit <= 1.0:
            raise RuleError("above" if self.above is not None else "below",
                            f"{self.source.words} is a fraction from 0 to 1, so {limit:g} is never right; for "
                            f"{limit:g} % write {limit / 100:g}")  # fmt: skip
        if limit is None:
            return
        beyond, side = (1.0, "above") if self.above is not None else (-1.0, "below")
        if self.clear is not None and (self.clear - limit) * beyond > 0.0:
            raise RuleError("clear", f"`clear` ({self.clear:g}) must be on the good side of `{side}` ({limit:g}): "
                                     f"there the alert ends")  # fmt: skip
        if self.critical is not None and (self.critical - limit) * beyond < 0.0:
            raise RuleError("critical", f"`critical` ({self.critical:g}) must be {side} `{side}` ({limit:g}): there "
                                        f"the severity becomes critical")  # fmt: skip

    @property
    def threshold(self) -> float | None:
        """`above` or `below`."""
        return self.above if self.above is not None else self.below

    def judges(self, reading: Reading) -> bool:
        """Whether there is a value, and samples enough. A custom metric may be set to NaN, which is no value."""
        if math.isnan(reading.value):
            return False
        wanted = self.source.least_samples if self.min_samples is None else self.min_samples
        return reading.samples is None or reading.samples >= wanted

    def is_breached(self, value: float, *, firing: bool = False) -> bool:
        """Whether a value is a reason to fire, or to go on firing."""
        limit = self.clear if firing and self.clear is not None else self.threshold
        return limit is None or self._beyond(value, limit)

    def severity_of(self, value: float) -> str:
        """How urgent a value is that breaches the rule; `critical` itself is critical."""
        if self.critical is None or not (value == self.critical or self._beyond(value, self.critical)):
            return self.severity
        return SEVERITIES[0]

    def _beyond(self, value: float, limit: float) -> bool:
        return value > limit if self.above is not None else value < limit

    def limit_for(self, severity: str) -> float | None:
        """The threshold that a severity stands for."""
        raised = self.critical is not None and severity == SEVERITIES[0] and self.severity != severity
        return self.critical if raised else self.threshold

    def message(self, reading: Reading, hub: str, severity: str) -> str:
        """What is the matter, in one line."""
        limit = reading.threshold if self.threshold is None else self.threshold
        unit = self.source.unit
        labels = dict(reading.labels)
        if self.summary:
            filled = {"value": shown(reading.value, unit), "threshold": "" if limit is None else shown(limit, unit),
                      "worker": labels.get("worker", ""), "hub": hub}  # fmt: skip
            return _IN_BRACES.sub(lambda match: filled[match[1]], self.summary)
        which = self.which(reading)
        if limit is None or self.threshold is None:
            return f"hub {hub}: {reading.text or self.source.words + which}"
        side = "above" if self.above is not None else "below"
        aside = f" ({reading.text})" if reading.text else ""
        lasting = f" for {span(self.hold)}" if self.hold else ""
        if self.critical is not None and severity == SEVERITIES[0] and self.severity != severity:
            lasting += f" (critical from {shown(self.critical, unit)})"
        return (
            f"hub {hub}: {self.source.words}{which}{aside} is {shown(reading.value, unit)}, "
            f"{side} {shown(limit, unit)}{lasting}"
        )

    def which(self, reading: Reading) -> str:
        """Which of several a reading is of, to follow a name; empty where there is one."""
        return "".join(f" {value}" if name == "worker" else f" {name}={value!r}" for name, value in reading.labels)
