"""A report for a terminal."""

from collections.abc import Mapping

from shmetrics.benchmarks.figures import Chapter, Claim, Curve, Figure, Report, Table
from shmetrics.benchmarks.reports.cells import head, is_number, points, texts


def text(report: Report) -> str:
    """All of it."""
    parts = [_fields(report.machine), *(_chapter(chapter) for chapter in report.chapters)]
    return "\n\n".join(parts) + "\n"


def _chapter(chapter: Chapter) -> str:
    title = f"{chapter.name}: {chapter.summary}"
    figures = [_figure(figure) for figure in chapter.figures if not isinstance(figure, Claim)]
    claims = [_claim(figure) for figure in chapter.figures if isinstance(figure, Claim)]
    parts = [f"{title}\n{'=' * len(title)}", _fields(chapter.conditions), *figures]
    return "\n\n".join([*parts, "\n".join(claims)] if claims else parts)


def _fields(fields: Mapping[str, str]) -> str:
    width = max(map(len, fields), default=0)
    return "\n".join(f"{name:{width}}  {value}" for name, value in fields.items())


def _figure(figure: Figure) -> str:
    if isinstance(figure, Curve):
        figure = points(figure)
    assert isinstance(figure, Table)
    heads = [head(column) for column in figure.columns]
    rows = list(texts(figure))
    widths = [max(map(len, cells)) for cells in zip(heads, *rows, strict=True)]
    right = [any(is_number(row[at]) for row in figure.rows) for at in range(len(heads))]
    lines = [
        "  ".join(
            f"{cell:{'>' if to_right else '<'}{width}}"
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (heads, *rows)
    ]
    return "\n".join([figure.title, *(f"  {line}" for line in lines), *(f"  {note}" for note in figure.notes)])


def _claim(claim: Claim) -> str:
    found = f", found {claim.found}" if claim.found else ""
    why = f" ({claim.why})" if claim.why else ""
    return f"[{claim.verdict}] {claim.name}: wanted {claim.wanted}{found}{why}"
