"""A report as a page for a browser: one file, without a network; tables with bars, curves, claims. PlatformError
without jinja2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shmetrics.benchmarks.figures import Cell, Chapter, Claim, Curve, Report, Table
from shmetrics.benchmarks.reports.cells import head, is_number, points, texts
from shmetrics.exporters.profiles.report import REDRAW, STYLE, UPLOT, rendered

_FILES = "shmetrics.benchmarks.reports:"


@dataclass(frozen=True)
class _Grid:
    """A table as it is drawn."""

    title: str
    heads: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[float | None, ...]
    """How long the bar of each row is, up to 1; none at all where the table names no column to draw."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Plot:
    """A curve as it is drawn."""

    title: str
    data: dict[str, Any]
    lines: tuple[str, ...]
    table: _Grid
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A scenario as it is drawn."""

    chapter: Chapter
    grids: tuple[_Grid | _Plot, ...]
    claims: tuple[Claim, ...]


def html(report: Report) -> str:
    """All of it."""
    return rendered(
        f"{_FILES}bench.html",
        (f"{UPLOT}.min.css", STYLE, f"{_FILES}templates/bench.css"),
        (f"{UPLOT}.iife.min.js", REDRAW, f"{_FILES}templates/bench.js"),
        machine=report.machine,
        parts=[_part(chapter) for chapter in report.chapters],
    )


def _part(chapter: Chapter) -> _Part:
    claims = tuple(figure for figure in chapter.figures if isinstance(figure, Claim))
    drawn = tuple(_drawn(figure) for figure in chapter.figures if not isinstance(figure, Claim))
    return _Part(chapter, drawn, claims)


def _drawn(figure: Table | Curve) -> _Grid | _Plot:
    return _plot(figure) if isinstance(figure, Curve) else _grid(figure)


def _grid(table: Table) -> _Grid:
    at = next((at for at, column in enumerate(table.columns) if column.name == table.drawn), None)
    return _Grid(
        table.title,
        tuple(map(head, table.columns)),
        tuple(any(map(is_number, cells)) for cells in zip(*table.rows, strict=True)),
        tuple(map(tuple, texts(table))),
        () if at is None else _bars([row[at] for row in table.rows]),
        table.notes,
    )


def _bars(cells: Sequence[Cell]) -> tuple[float | None, ...]:
    numbers = [None if cell is None or isinstance(cell, str) else float(cell) for cell in cells]
    longest = max((number for number in numbers if number is not None), default=0.0)
    return tuple(None if number is None else number / longest if longest > 0.0 else 0.0 for number in numbers)


def _plot(curve: Curve) -> _Plot:
    """What bench.js draws: lines of (x, y, low, high)."""
    data = {
        "x": {"name": _axis(curve.x.name, curve.x.unit), "logarithmic": curve.x.logarithmic},
        "y": {"name": _axis(curve.y.name, curve.y.unit), "logarithmic": curve.y.logarithmic},
        "lines": [
            {"name": name, "points": [[point.x, point.y, point.low, point.high] for point in line]}
            for name, line in curve.lines.items()
        ],
    }
    return _Plot(curve.title, data, tuple(curve.lines), _grid(points(curve)), curve.notes)


def _axis(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name
