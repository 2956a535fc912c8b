"""A report as Markdown, for an issue or a page of documentation."""

from collections.abc import Mapping, Sequence

from shmetrics.benchmarks.figures import Chapter, Claim, Curve, Report, Table
from shmetrics.benchmarks.reports.cells import head, is_number, points, texts


def markdown(report: Report) -> str:
    """All of it."""
    parts = ["# shmetrics bench", _fields(report.machine), *(_chapter(chapter) for chapter in report.chapters)]
    return "\n\n".join(parts) + "\n"


def _chapter(chapter: Chapter) -> str:
    parts = [f"## {chapter.name}", f"{chapter.summary[0].upper()}{chapter.summary[1:]}.", _fields(chapter.conditions)]
    for figure in chapter.figures:
        if isinstance(figure, Claim):
            continue
        table = points(figure) if isinstance(figure, Curve) else figure
        parts += [f"### {_escaped(table.title)}", _table(table)]
        parts += ["\n".join(f"- {_escaped(note)}" for note in table.notes)] if table.notes else []
    claims = [figure for figure in chapter.figures if isinstance(figure, Claim)]
    if claims:
        rows = [[each.name, each.wanted, each.found or "-", each.verdict, each.why] for each in claims]
        parts += ["### Claims", _grid(["claim", "wanted", "found", "verdict", "why"], rows, [False] * 5)]
    return "\n\n".join(parts)


def _fields(fields: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {_escaped(value)}" for name, value in fields.items())


def _table(table: Table) -> str:
    right = [any(is_number(row[at]) for row in table.rows) for at in range(len(table.columns))]
    return _grid([head(column) for column in table.columns], list(texts(table)), right)


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    rule = ["---:" if to_right else ":---" for to_right in right]
    cells = [heads, *rows]
    lines = [f"| {' | '.join(map(_escaped, row))} |" for row in cells]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def _escaped(text: str) -> str:
    """So that Markdown shows it as it is."""
    for each in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(each, f"\\{each}")
    return text
