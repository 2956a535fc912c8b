"""Tables that several scenarios have. Pure."""

from collections.abc import Mapping, Sequence

from shmetrics.benchmarks.comparing import over_rounds, paired
from shmetrics.benchmarks.figures import Column, Table


def beside(title: str, seconds: Mapping[str, Sequence[float]], base: str, notes: tuple[str, ...] = ()) -> Table:
    """What each call takes, in microseconds, and how many times what `base` does, in the order given."""
    rows = []
    for name, rounds in seconds.items():
        times = over_rounds(rounds)
        ratio = paired(rounds, seconds[base]).median
        rows.append((name, 1e6 * times.median, 1e6 * times.low, 1e6 * times.high, ratio))
    columns = (
        Column("call"),
        Column("median", "us", 3),
        Column("min", "us", 3),
        Column("max", "us", 3),
        Column(f"times {base}"),
    )
    return Table(title, columns, tuple(rows), notes, drawn="median")
