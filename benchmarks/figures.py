"""What a scenario reports: tables, curves, and claims that hold, do not hold, or cannot be judged. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from shmetrics.benchmarks.comparing import ENOUGH, OPEN, Ratio

Cell = str | float | int | None
"""None is what was not measured."""


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    name: str
    unit: str = ""
    digits: int = 2
    """After the point, of figures that are not whole."""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first of each names the row."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    drawn: str = ""
    """The name of the column that a page draws as bars."""


@dataclass(frozen=True)
class Axis:
    """What a curve is drawn along."""

    name: str
    unit: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class Point:
    """One point of a line, and between what its rounds were."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Lines over one pair of axes."""

    title: str
    x: Axis
    y: Axis
    lines: Mapping[str, Sequence[Point]]
    notes: tuple[str, ...] = ()


Verdict = Literal["holds", "does not hold", "too noisy to say", "not measured"]


@dataclass(frozen=True)
class Claim:
    """What should be so, and whether it is."""

    name: str
    wanted: str
    found: str
    verdict: Verdict
    why: str = ""
    """Of what cannot be judged."""


Figure = Table | Curve | Claim


def at_least(name: str, wanted: float, found: Ratio | None, unit: str = "x", why: str = "") -> Claim:
    """That a figure is so high; ``why`` says what was missing where there is none."""
    goal = f"at least {quantity(wanted, unit)}"
    return Claim(name, goal, "", "not measured", why) if found is None else _judged(name, goal, unit, wanted, found)


def at_most(name: str, wanted: float, found: Ratio | None, unit: str = "x", why: str = "") -> Claim:
    """That a figure is no higher."""
    goal = f"at most {quantity(wanted, unit)}"
    return Claim(name, goal, "", "not measured", why) if found is None else _judged(name, goal, unit, wanted, found)


def _judged(name: str, goal: str, unit: str, wanted: float, found: Ratio) -> Claim:
    """``wanted`` is held where all that the figure may surely be is on its side of it."""
    text = quantity(found.median, unit)
    low, high = found.between
    kept, missed = (low >= wanted, high < wanted) if goal.startswith("at least") else (high <= wanted, low > wanted)
    if not kept and not missed:
        reason = f"it is surely between {quantity(low, unit)} and {quantity(high, unit)}; more --rounds say more"
        if found.between == OPEN:
            reason = f"too few rounds to be sure of anything; --rounds {ENOUGH} or more may say more"
        return Claim(name, goal, text, "too noisy to say", reason)
    return Claim(name, goal, text, "holds" if kept else "does not hold")


def quantity(number: float, unit: str) -> str:
    """A number with three digits that matter, and its unit."""
    digits = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return f"{digits} {unit}".rstrip()


# A whole report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chapter:
    """What one scenario found."""

    name: str
    summary: str
    figures: tuple[Figure, ...]
    conditions: Mapping[str, str]
    """Under which: the load before and after, and the like."""
    results: Mapping[str, Any]
    """All that it measured, as JSON."""


@dataclass(frozen=True)
class Report:
    """All of them, and the machine that they are of."""

    machine: Mapping[str, str]
    chapters: tuple[Chapter, ...]

    def claims(self) -> list[Claim]:
        """Of all chapters."""
        return [figure for chapter in self.chapters for figure in chapter.figures if isinstance(figure, Claim)]


_KINDS: Final[dict[type, str]] = {Table: "table", Curve: "curve", Claim: "claim"}


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure as JSON, its kind in it."""
    return {"kind": _KINDS[type(figure)], **asdict(figure)}
