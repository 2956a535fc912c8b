"""What a report draws of its data: sorted, cut to a size that a browser bears, what was left out in words. Pure.

Every name passes `shown` here, which takes out what could turn a page's text around; that markup in it stays text is
the templates' part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shmetrics.exporters.profiles.flame import FlameGraph, flame_graph
from shmetrics.exporters.profiles.histogram import joined
from shmetrics.exporters.profiles.outliers import marks
from shmetrics.exporters.profiles.report_data import (
    Breakdown,
    Bucket,
    FunctionReport,
    ReportData,
    SlowCall,
    WorkerRow,
)
from shmetrics.profiling.profile import Profile
from shmetrics.texts import duration, visible

MOST_LISTED: Final = 200
"""Functions in the list of all."""
MOST_DETAILED: Final = 20
"""Functions with a section of their own."""
MOST_COMPONENTS: Final = 15
MOST_WORKERS: Final = 64
MOST_SLOW: Final = 20
MOST_HOT: Final = 12
MOST_FRAMES: Final = 1_500
"""In the flame graph of whole workers, and together in those of the functions."""
MOST_NAME: Final = 160
"""Characters of a name."""


def shown(text: str, most: int = MOST_NAME) -> str:
    """`text` on one line and not too long; what is invisible or turns the direction of writing is replaced."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return visible(text, "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Part:
    """One line of a breakdown."""

    name: str
    seconds: float
    share: float
    rest: bool = False
    """It stands for several."""


@dataclass(frozen=True)
class BreakdownFigure:
    """One breakdown, the largest part first."""

    means: str
    note: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class WorkerFigure:
    """One line of the comparison of workers."""

    row: WorkerRow
    role: str
    average: float
    bar: float
    """Its average as a part of the greatest of all."""
    mark: str
    """What stands out, in words."""


@dataclass(frozen=True)
class Hot:
    """One line of the list of frames."""

    name: str
    own: float
    total: float
    """Shares of all samples."""
    seconds: float
    """Own."""


@dataclass(frozen=True)
class ProfileFigure:
    """A profile as a flame graph, and as a list of where most samples were."""

    profile: Profile
    graph: FlameGraph
    hot: tuple[Hot, ...]
    more_hot: int


@dataclass(frozen=True)
class FunctionFigure:
    """One function: a line of the list, and a section."""

    anchor: str
    name: str
    data: FunctionReport
    average: float
    error_rate: float
    share: float
    """Of the time in all profiled functions, what was spent in this one itself."""
    around: float
    """And with those that it called; 1 at most, though what tasks do at the same time may be more."""


@dataclass(frozen=True)
class Section:
    """All about one function."""

    function: FunctionFigure
    bars: tuple[Bucket, ...]
    breakdowns: tuple[BreakdownFigure, ...]
    workers: tuple[WorkerFigure, ...]
    more_workers: int
    slowest: tuple[SlowCall, ...]
    profile: ProfileFigure | None


@dataclass(frozen=True)
class ReportFigures:
    """The whole page."""

    hub: str
    data: ReportData
    calls: int
    errors: int
    seconds: float
    """In profiled functions, none counted twice."""
    functions: tuple[FunctionFigure, ...]
    sections: tuple[Section, ...]
    profile: ProfileFigure | None
    notes: tuple[str, ...]


def report_figures(data: ReportData) -> ReportFigures:
    """What is drawn of `data`; a page of it has a bounded size, whatever the data's."""
    ranked = sorted(data.functions, key=lambda function: (-function.seconds, function.name))
    seconds = sum(function.own for function in ranked)
    listed = tuple(_function(place, function, seconds) for place, function in enumerate(ranked[:MOST_LISTED], 1))
    detailed = listed[:MOST_DETAILED]
    profiles = [_profile_of(figure.data, data.profile) for figure in detailed]
    frames = max(MOST_FRAMES // max(sum(profile is not None for profile in profiles), 1), 100)
    return ReportFigures(
        shown(data.hub),
        data,
        calls=sum(function.calls for function in ranked),
        errors=sum(function.errors for function in ranked),
        seconds=seconds,
        functions=listed,
        sections=tuple(_section(*pair, frames) for pair in zip(detailed, profiles, strict=True)),
        profile=None if data.profile is None else profile_figure(data.profile, MOST_FRAMES),
        notes=(*(shown(note, 500) for note in data.notes), *_unseen(data.profile), *_left_out(ranked, seconds)),
    )


def _unseen(profile: Profile | None) -> list[str]:
    """Why there is no flame graph, though workers were sampled."""
    if profile is None or profile.samples:
        return []
    return ["Workers were sampled, and no thread of theirs ran meanwhile: there is no flame graph to draw."]


def _left_out(ranked: Sequence[FunctionReport], seconds: float) -> list[str]:
    """Which functions the page does not have, in words."""
    notes = []
    if hidden := ranked[MOST_LISTED:]:
        calls, own = sum(function.calls for function in hidden), sum(function.own for function in hidden)
        notes.append(
            f"Of {len(ranked):,} functions the {MOST_LISTED} with the most time are listed; the other {len(hidden):,} "
            f"had {calls:,} calls and {duration(own)} ({_share(own, seconds):.1%} of the time)."
        )
    if len(ranked) > MOST_DETAILED:
        notes.append(f"The {MOST_DETAILED} functions with the most time have a section of their own.")
    return notes


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 0.0


def _function(place: int, function: FunctionReport, seconds: float) -> FunctionFigure:
    return FunctionFigure(
        anchor=f"function-{place}",
        name=shown(function.name),
        data=function,
        average=_share(function.seconds, function.calls),
        error_rate=_share(function.errors, function.calls),
        share=_share(function.own, seconds),
        around=min(_share(function.seconds, seconds), 1.0),
    )


def _profile_of(function: FunctionReport, whole: Profile | None) -> Profile | None:
    """What was seen of a function, or else what of whole workers was within it: frames are called as functions are."""
    if function.profile is not None or whole is None:
        return function.profile
    within = whole.under(function.name)
    return within if within.samples else None


def _section(figure: FunctionFigure, profile: Profile | None, frames: int) -> Section:
    data = figure.data
    workers = _workers(data.workers)
    slowest = sorted(data.slowest, key=lambda call: -call.seconds)[:MOST_SLOW]
    return Section(
        figure,
        bars=tuple(joined(data.buckets)),
        breakdowns=tuple(_breakdown(breakdown) for breakdown in data.breakdowns if breakdown.components),
        workers=tuple(workers[:MOST_WORKERS]),
        more_workers=max(len(workers) - MOST_WORKERS, 0),
        slowest=tuple(slowest),
        profile=None if profile is None else profile_figure(profile, frames),
    )


def _breakdown(breakdown: Breakdown) -> BreakdownFigure:
    components = sorted(breakdown.components, key=lambda component: -component.seconds)
    whole = sum(component.seconds for component in components)
    parts = [
        Part(shown(component.name), component.seconds, _share(component.seconds, whole))
        for component in components[:MOST_COMPONENTS]
    ]
    if rest := components[MOST_COMPONENTS:]:
        seconds = sum(component.seconds for component in rest)
        parts.append(Part(f"{len(rest):,} more", seconds, _share(seconds, whole), rest=True))
    return BreakdownFigure(shown(breakdown.means), shown(breakdown.note, 500), tuple(parts))


def _workers(rows: Sequence[WorkerRow]) -> list[WorkerFigure]:
    """By slot, those that ended last; of very many first those that stand out, then those with the most calls."""
    averages = [_share(row.seconds, row.calls) for row in rows]
    longest = max(averages, default=0.0)
    figures = [
        WorkerFigure(row, shown(row.role), average, _share(average, longest), mark)
        for row, average, mark in zip(rows, averages, marks(rows), strict=True)
    ]
    kept = sorted(figures, key=lambda figure: (not figure.mark, -figure.row.calls))
    first = sorted(kept[:MOST_WORKERS], key=lambda figure: (figure.row.slot is None, figure.row.slot or 0))
    return first + kept[MOST_WORKERS:]


def profile_figure(profile: Profile, frames: int = MOST_FRAMES) -> ProfileFigure | None:
    """A profile as it is drawn; None of one that has no samples."""
    samples = profile.samples
    if samples == 0:
        return None
    own, total = profile.own(), profile.total()
    hot = [
        Hot(shown(name), count / samples, total[name] / samples, count * profile.interval)
        for name, count in list(own.items())[:MOST_HOT]
    ]
    return ProfileFigure(profile, flame_graph(profile, frames), tuple(hot), max(len(own) - MOST_HOT, 0))
