"""Custom metrics as data: what a metric is (`Definition`), and what the whole fleet has of it (`Family`). Pure.

The rules for names are those of Prometheus (https://prometheus.io/docs/concepts/data_model/).
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = ("counter", "gauge", "histogram", "summary", "ratio", "info", "enum")
"""What a metric can be."""

MERGES: Final = ("last", "sum", "min", "max", "mean", "per_worker")
"""How the workers' values of a gauge become one: see docs/custom-metrics.md. Each also as ``live_...``."""

LIVE: Final = "live_"
"""Prefix of a merge that forgets a worker's value when the worker ends."""

OVERFLOW: Final = "_overflow"
"""Every label value of the series that takes what there was no room for."""

MAX_BUCKETS: Final = 512
_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_BY_WORKER: Final = ("per_worker", f"{LIVE}per_worker")
_RESERVED_LABELS: Final = {"histogram": ("le",), "summary": ("quantile",), "gauge": ("worker",)}


@dataclass(frozen=True)
class Definition:
    """One metric, as every process of the hub sees it. Two are the same metric only if all of this is equal.

    ValueError for what no metric can be; the message has the offending value.
    """

    name: str
    kind: str
    """One of KINDS."""
    help: str = ""
    unit: str = ""
    labels: tuple[str, ...] = ()
    """Names of the labels, in the order of every series' values."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, ascending, finite; the one to +Inf goes without saying."""
    merge: str = ""
    """One of MERGES, or ``live_`` and one of them; gauges only."""
    states: tuple[str, ...] = ()
    """What an enum can be."""
    expire_after: float = 0.0
    """Seconds without a change after which a series is removed; 0.0: never."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _METRIC_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a metric: wanted letters, digits, _ and :, no digit "
                             f"first")  # fmt: skip
        if self.kind not in KINDS:
            raise ValueError(f"metric {self.name!r} cannot be a {self.kind!r}; choose one of {', '.join(KINDS)}")
        for what, text in (("help", self.help), ("unit", self.unit)):
            if not isinstance(text, str):
                raise ValueError(f"the {what} of metric {self.name!r} must be a text, not {text!r}")
            self._check_characters(what, text)
        self._check_labels()
        self._check_buckets()
        self._check_rest()

    def _check_labels(self) -> None:
        for label in self.labels:
            if not is_label_name(label):
                raise ValueError(f"{label!r} cannot be a label of metric {self.name!r}: wanted letters, digits and _, "
                                 f"no digit or __ first")  # fmt: skip
            if label in _RESERVED_LABELS.get(self.kind, ()) and (self.kind != "gauge" or self.merge in _BY_WORKER):
                raise ValueError(f"the label {label!r} of {self.kind} {self.name!r} is reserved; choose another name")
        if self.kind == "enum" and (self.name in self.labels or not is_label_name(self.name)):
            raise ValueError(
                f"enum {self.name!r} cannot have that name: its states are shown in a label called like it"
            )
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"metric {self.name!r} has a label twice: {', '.join(self.labels)}")

    def _check_characters(self, what: str, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the {what} of metric {self.name!r} has half of a character in it, a surrogate: {text!r}"
            ) from None

    def _check_buckets(self) -> None:
        if self.kind != "histogram":
            if self.buckets:
                raise ValueError(f"only histograms have buckets, and {self.name!r} is a {self.kind}")
            return
        if not 1 <= len(self.buckets) <= MAX_BUCKETS:
            raise ValueError(f"histogram {self.name!r} needs from 1 to {MAX_BUCKETS} buckets, not {len(self.buckets)}")
        for bound in self.buckets:
            if not isinstance(bound, float) or not math.isfinite(bound):
                raise ValueError(f"the buckets of {self.name!r} must be finite numbers, not {bound!r}")
        if any(low >= high for low, high in zip(self.buckets, self.buckets[1:], strict=False)):
            raise ValueError(f"the buckets of {self.name!r} must be in ascending order, not {list(self.buckets)}")

    def _check_rest(self) -> None:
        merges = ("", *MERGES, *(f"{LIVE}{merge}" for merge in MERGES))
        if self.merge not in merges or (self.kind == "gauge") != bool(self.merge):
            raise ValueError(
                f"{self.kind} {self.name!r} cannot merge as {self.merge!r}; gauges merge as one of "
                f"{', '.join(MERGES)}, or live_ and one of them, and nothing else does"
            )
        if (self.kind == "enum") != bool(self.states):
            raise ValueError(f"{self.kind} {self.name!r} cannot have the states {list(self.states)}; enums need some, "
                             f"and nothing else has any")  # fmt: skip
        if any(not isinstance(state, str) for state in self.states) or len(set(self.states)) < len(self.states):
            raise ValueError(f"the states of {self.name!r} must be different texts, not {list(self.states)}")
        for state in self.states:
            self._check_characters("state", state)
        if not isinstance(self.expire_after, float) or not 0.0 <= self.expire_after < math.inf:
            raise ValueError(f"expire_after of {self.name!r} must be seconds, 0.0 or more, not {self.expire_after!r}")

    def differences(self, other: "Definition") -> str:
        """Where two definitions of one name differ, in words."""
        return ", ".join(
            f"{name} {getattr(self, name)!r} and not {getattr(other, name)!r}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        )


def is_label_name(name: object) -> bool:
    """Whether a label, or a key of an info metric, may be called so."""
    return isinstance(name, str) and _LABEL_NAME.fullmatch(name) is not None and not name.startswith("__")


def bounds(buckets: Sequence[float | str]) -> tuple[float, ...]:
    """Bucket bounds as a definition has them: floats, without the +Inf that goes without saying."""
    if not isinstance(buckets, Iterable):
        raise ValueError(f"buckets must be a list of numbers, not {buckets!r}")
    numbers = []
    for bound in buckets:
        try:
            numbers.append(float(bound))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"buckets must be numbers, and one is {bound!r}") from None
    return tuple(numbers[:-1] if numbers and numbers[-1] == math.inf else numbers)


@dataclass(frozen=True)
class Exemplar:
    """A value, and labels that tell of which request it is."""

    series: int
    """Serial number of a custom metric's series, or `exemplars.INFERENCE_TIME`."""
    bucket: int
    value: float
    time: float
    """Seconds since the epoch."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """One series of a metric, merged over the fleet. Which fields mean something depends on the metric's kind."""

    labels: tuple[str, ...] = ()
    """One value for each of the definition's label names."""
    worker: int | None = None
    """The slot it is of, for gauges merged ``per_worker``; else None."""
    value: float = 0.0
    """Counter, gauge; a ratio's numerator over denominator (0.0 while that is 0)."""
    count: float = 0.0
    """Observations of a histogram or summary; a ratio's denominator."""
    sum: float = 0.0
    """Sum of what was observed; a ratio's numerator."""
    buckets: tuple[float, ...] = ()
    """Cumulative counts of a histogram, one for each bound and one for +Inf, which equals `count`."""
    state: str = ""
    """Which of its states an enum is in."""
    info: dict[str, str] = field(default_factory=dict)
    """What an info metric says."""
    exemplars: "dict[int, Exemplar]" = field(default_factory=dict)
    """For some of a histogram's buckets, by index; a counter's has the index 0."""
    written_at: float = 0.0
    """Monotonic seconds of the last write of a gauge or enum; 0.0 before, and for all others."""


@dataclass(frozen=True)
class Family:
    """A metric and all its series, ordered by label values."""

    definition: Definition
    series: tuple[Series, ...] = ()
