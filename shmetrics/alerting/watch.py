"""A watch over one fleet: it takes what a snapshot says to the engine, and remembers what rules look back at.

`PerformanceAlerting` and ``shmetrics serve --rules`` both are a watch, and a way to tell people.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.engine import Engine
from shmetrics.alerting.readings import Figures, Labels
from shmetrics.alerting.recent import Recent, RecentFigures
from shmetrics.alerting.rules import Rule
from shmetrics.alerting.silences import Silence
from shmetrics.alerting.slo import BurnRate
from shmetrics.alerting.sources import CustomMetric, Finding, Statistic, percentile
from shmetrics.alerting.tripwire import Wires
from shmetrics.families import Family
from shmetrics.history import TIERS, History
from shmetrics.snapshot import Snapshot

_STEPS: Final = 120
"""Points that the growth of a custom metric is remembered by, over its window."""


class Watch:
    """Rules, and what they need to remember. One thread at a time.

    ``history``: the aggregator's, which adds to it by itself; without one the watch keeps its own, if a rule needs it.
    """

    def __init__(
        self, rules: Sequence[Rule], silences: Sequence[Silence] = (), *, history: History | None = None
    ) -> None:
        self.engine = Engine(rules, silences)
        self._shared = history
        self._own: History | None = None
        self._recents: dict[int, Recent] = {}
        self._growth: dict[tuple[str, float], _Growth] = {}
        self._latest: LiveLook | None = None
        self._prepare()

    def use(self, rules: Sequence[Rule], silences: Sequence[Silence]) -> None:
        """Go on with other rules; what they share with the old ones goes on."""
        self.engine.use(rules, silences)
        self._prepare()

    def _prepare(self) -> None:
        sources = [rule.source for rule in self.engine.rules]
        lasts = {source.last for source in sources if isinstance(source, Statistic) and source.last is not None}
        self._recents = {count: self._recents.get(count) or Recent(count) for count in sorted(lasts)}
        rates = {(s.name, s.window) for s in sources if isinstance(s, CustomMetric) and s.of == "rate"}
        self._growth = {key: self._growth.get(key) or _Growth(key[1]) for key in sorted(rates)}
        longest = max([_reach(source) for source in sources], default=0.0)
        if self._shared is None and longest and (self._own is None or _covers(self._own) < longest):
            needed = [at for at, (step, bins, _) in enumerate(TIERS) if step * bins >= longest]
            self._own = History(TIERS[: needed[0] + 1] if needed else TIERS)

    def look(self, snapshot: Snapshot, figures: Callable[[], Mapping[str, Any]]) -> list[Alert]:
        """Judge the fleet as it is now; what is to be announced.

        ``figures``: gives what `View.comprehensive` says of this snapshot; called at most once, when a rule asks.
        """
        if self._own is not None:
            self._own.add(snapshot)
        for growth_of, growth in self._growth.items():
            growth.add(snapshot.taken_at, _values(snapshot.families, growth_of[0]))
        recents = {count: recent.add(snapshot) for count, recent in self._recents.items()}
        self._latest = LiveLook(
            snapshot,
            history=self._own if self._shared is None else self._shared,
            recents=recents,
            growth=self._growth,
            figures=figures,
        )
        return self.engine.judge(self._latest)

    def active(self, *, silenced: bool = True) -> list[Alert]:
        """What fires as of the last look."""
        return [] if self._latest is None else self.engine.active(self._latest, silenced=silenced)


class LiveLook:
    """One look at a live fleet (`readings.Look`)."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        history: History | None,
        recents: Mapping[int, RecentFigures],
        growth: "Mapping[tuple[str, float], _Growth]",
        figures: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._history = history
        self._recents = recents
        self._growth = growth
        self._figures = figures
        self.hub = snapshot.name
        self.now = snapshot.taken_at
        self.wall = snapshot.taken_at_wall
        self.families = snapshot.families

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        """Computed when a rule asks: most rules do not."""
        return self._figures()

    def window(self, seconds: float) -> Figures:
        """From the history."""
        assert self._history is not None, "a rule has a window, so there is a history"
        return self._history.window(seconds)

    def last(self, count: int) -> Figures:
        """From the last measurements."""
        return self._recents[count]

    def growth(self, metric: str, labels: Labels, seconds: float) -> float | None:
        """From what was seen of the metric before."""
        return self._growth[metric, seconds].per_second(labels)


class _Growth:
    """What the series of one custom counter were over the last `seconds`, at most _STEPS times."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: deque[tuple[float, dict[Labels, float]]] = deque()

    def add(self, now: float, values: dict[Labels, float]) -> None:
        """What they are now."""
        looks = self._looks
        while len(looks) > 2 and now - looks[1][0] >= self._seconds:
            looks.popleft()
        if len(looks) > 1 and looks[-1][0] - looks[-2][0] < self._seconds / _STEPS:
            looks.pop()
        looks.append((now, values))

    def per_second(self, labels: Labels) -> float | None:
        """The growth of one series; a series that is new, or began anew after its removal, grew from 0."""
        if len(self._looks) < 2:
            return None
        (begin, before), (now, after) = self._looks[0], self._looks[-1]
        value, old = after.get(labels, 0.0), before.get(labels, 0.0)
        return (value - old if value >= old else value) / (now - begin) if now > begin else None


def _values(families: Sequence[Family], name: str) -> dict[Labels, float]:
    """Each series' value; of histograms and summaries the number of observations."""
    values: dict[Labels, float] = {}
    for family in families:
        if family.definition.name == name:
            for series in family.series:
                labels = tuple(zip(family.definition.labels, series.labels, strict=True))
                observed = family.definition.kind in ("histogram", "summary")
                values[labels] = series.count if observed else series.value
    return values


def _reach(source: object) -> float:
    """How far a source looks back by the history."""
    if isinstance(source, BurnRate):
        return source.long
    return source.window or 0.0 if isinstance(source, Statistic) else 0.0


def _covers(history: History) -> float:
    return max(tier.step * tier.rows for tier in history.tiers)


def wires_of(rules: Sequence[Rule]) -> Wires:
    """What in a worker's memory may make one of these rules true, so that it is worth a look before its time."""
    errors = misses = deaths = False
    slower: list[float] = []
    for rule in rules:
        source = rule.source
        if isinstance(source, BurnRate):
            errors = True
        elif isinstance(source, Statistic):
            errors |= "error" in source.key
            misses |= "cache" in source.key
            known = percentile(source.key)
            if known is not None and known[1].endswith("_time") and rule.above is not None:
                slower.append(rule.above)  # a stage that takes longer than this makes the total longer
        elif isinstance(source, Finding):
            deaths |= source.is_of_deaths
    return Wires(errors, misses, min(slower, default=None), deaths)
