"""What stands in the cells of a table, in every format: digits, thousands, and nothing where nothing was measured."""

import math
from collections.abc import Iterable

from shmetrics.benchmarks.figures import Cell, Column, Curve, Table


def head(column: Column) -> str:
    """The name of a column, and the unit of what is in it."""
    return f"{column.name}, {column.unit}" if column.unit else column.name


def shown(cell: Cell, column: Column) -> str:
    """A cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    digits = column.digits
    if 0.0 < abs(cell) < 10.0**-digits:  # else it would look like nothing
        digits = -math.floor(math.log10(abs(cell)))
    return f"{cell:,.{digits}f}"


def is_number(cell: Cell) -> bool:
    """Whether it stands on the right of its column."""
    return cell is None or not isinstance(cell, str)


def points(curve: Curve) -> Table:
    """A curve as a table, for a format that draws none: a row for each place, a column for each line."""
    by_line = {name: {point.x: point.y for point in line} for name, line in curve.lines.items()}
    places = sorted({x for line in by_line.values() for x in line})
    unit = f" ({curve.y.name}, {curve.y.unit})" if curve.y.unit else f" ({curve.y.name})"
    return Table(
        curve.title + unit,
        (Column(curve.x.name, curve.x.unit), *(Column(name, "", 3) for name in by_line)),
        tuple((_plain(x), *(line.get(x) for line in by_line.values())) for x in places),
        curve.notes,
    )


def _plain(number: float) -> Cell:
    return int(number) if number == int(number) else number


def texts(table: Table) -> Iterable[list[str]]:
    """All rows as text."""
    return [[shown(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]
