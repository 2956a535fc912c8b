"""How figures look on a terminal: units, tables, a fleet in a screenful. Text in, text out; nothing here prints."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from shmetrics.statistics import Statistics

_BOLD: Final = "1"
_DIM: Final = "2"
_RED: Final = "31"
HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"
"""What makes a terminal ready to be painted again."""
_MEASURES: Final = ("inference_time", "preprocessing_time", "quantization_time", "total_time", "batch_size")


def repaints() -> bool:
    """Whether stdout is a terminal that can be cleared and painted again."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def colourful() -> bool:
    """Whether stdout shows colours: such a terminal, and nobody objects (NO_COLOR, https://no-color.org)."""
    return repaints() and not os.environ.get("NO_COLOR")


def paint(text: str, code: str, *, colour: bool) -> str:
    """`text` in an ANSI style, if `colour`."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best: 870 us, 12.3 ms, 4.56 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds == 0.0:
        return "0 s"
    for limit, factor, unit in ((0.9995e-3, 1e6, "us"), (0.9995, 1e3, "ms"), (60.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    for limit, big, small, big_unit, small_unit in (
        (3600.0, 60, 1, "min", "s"),
        (86400.0, 3600, 60, "h", "min"),
        (float("inf"), 86400, 3600, "d", "h"),
    ):
        if seconds < limit:
            whole, rest = divmod(int(seconds), big)
            return f"{whole} {big_unit} {rest // small} {small_unit}"
    return "for ever"


def size(count: float | None) -> str:
    """Bytes in the unit that reads best."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(count, 1) < 1024.0 or unit == "GiB":
            break
        count /= 1024.0
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def percent(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100.0 * fraction:.2f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool = False) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join((first, *others)).rstrip()

    return [paint(line(head), _BOLD, colour=colour), *(line(row) for row in rows)]


def fleet_line(figures: Statistics) -> str:
    """The fleet in one line."""
    return (
        f"{figures['active_workers']} workers  {figures['current_throughput']:,.1f} req/s  "
        f"p50 {duration(figures['p50_total_time'])}  p95 {duration(figures['p95_total_time'])}  "
        f"p99 {duration(figures['p99_total_time'])}  errors {percent(figures['window_error_rate'])}  "
        f"total {figures['total_requests']:,}"
    )


def fleet(figures: Statistics, *, colour: bool = False) -> list[str]:
    """The fleet in a screenful: totals, a row for each measure, a row for each worker, and what is wrong."""
    hub = figures["hub"]
    return [
        paint(f"hub {hub['name']}", _BOLD, colour=colour)
        + f"  {figures['active_workers']} live of {figures['workers_seen']} workers seen, "
        f"up {duration(figures['total_runtime'])}",
        f"requests    {figures['total_requests']:,}  errors {figures['total_errors']:,} "
        f"({percent(figures['error_rate'])}, {percent(figures['window_error_rate'])} in the window)  "
        f"cache hits {percent(figures['cache_hit_rate'])}",
        f"throughput  {figures['current_throughput']:,.1f}/s now  {figures['average_throughput']:,.1f}/s average  "
        f"{figures['peak_throughput']:,.0f}/s peak  stability {figures['stability_score']:.2f}",
        "",
        *table(
            (f"last {figures['window_count']:,}", "avg", "p50", "p95", "p99", "max", "lifetime p99"),
            [_measure_row(figures, measure) for measure in _MEASURES],
            colour=colour,
        ),
        "",
        *_workers(figures["workers"], colour=colour),
        *(paint(line, _RED, colour=colour) for line in findings(figures)),
    ]


def _measure_row(figures: Statistics, measure: str) -> list[str]:
    def show(value: float) -> str:
        return f"{value:.4g}" if measure == "batch_size" else duration(value)

    keys = [f"{kind}_{measure}" for kind in ("avg", "p50", "p95", "p99", "max", "lifetime_p99")]
    return [measure.replace("_", " "), *(show(figures[key]) for key in keys)]


def _workers(rows: Sequence[Statistics], *, colour: bool) -> list[str]:
    head = [
        "slot",
        "pid",
        "state",
        "requests",
        "req/s",
        "p50",
        "p99",
        "errors",
        "busy",
        "serving",
        "cpu",
        "memory",
        "age",
    ]
    cells = [
        (
            str(row["slot"]),
            str(row["pid"]),
            "live" if row["alive"] else "ended",
            f"{row['requests']:,}",
            f"{row['current_throughput']:,.1f}",
            duration(row["p50_inference_time"]),
            duration(row["p99_inference_time"]),
            f"{row['errors']:,}",
            f"{100.0 * row['busy_fraction']:.0f} %",
            str(row["in_flight"]),
            "-" if row["cpu_percent"] is None else f"{row['cpu_percent']:.0f} %",
            size(row["rss_bytes"]),
            duration(row["age"]),
        )
        for row in rows
    ]
    head_line, *lines = table(head, cells, colour=colour)
    return [
        head_line,
        *(line if row["alive"] else paint(line, _DIM, colour=colour) for line, row in zip(lines, rows, strict=True)),
    ]


def findings(figures: Statistics) -> list[str]:
    """What an operator should know, a line each; none when all is well."""
    hub, lines = figures["hub"], []
    if figures["dropped_records"]:
        lines.append(
            f"! {figures['dropped_records']:,} records dropped: more workers than the {hub['slots_total']} slots; "
            f"create the hub with a larger max_workers"
        )
    if figures["invalid_records"]:
        lines.append(f"! {figures['invalid_records']:,} records with NaN, infinite or negative measurements, left out")
    lines += [f"! {part} cannot be believed and is left out: {why}" for part, why in hub["corrupt"].items()]
    if hub["corrupt_reaped"]:
        lines.append(f"! {hub['corrupt_reaped']} dead workers left slots that could not be believed; theirs is lost")
    if hub["stale"]:
        lines.append("! these figures are older: what dead workers left could not be copied now")
    if hub["stale_slots"]:
        lines.append(f"! {hub['stale_slots']} slots changed too fast to be copied; shown as they were before")
    if hub["unlinked"]:
        lines.append("! the hub's name was removed; workers that start now will not find it")
    return lines
