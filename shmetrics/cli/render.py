"""How figures look on a terminal: units, tables, a fleet in a screenful. Text in, text out, but for `repaint`."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from shmetrics.cli.telling import TWO_LINES
from shmetrics.statistics import Statistics
from shmetrics.texts import counted, duration, percent, size

BOLD: Final = "1"
RED: Final = "31"
YELLOW: Final = "33"
COLOURS: Final = {"problem": RED, "warning": YELLOW, "ok": BOLD}
"""Of findings, by level."""
_NOBODY: Final = f"no worker yet: each shows with its first request at the latest; {TWO_LINES}"
_WORKER_COLUMNS: Final = (
    "slot",
    "pid",
    "requests",
    "req/s",
    "p99",
    "errors",
    "busy",
    "serving",
    "cpu",
    "memory",
    "age",
)
_MEASURES: Final = ("inference_time", "preprocessing_time", "quantization_time", "total_time", "batch_size")


class Screen(NamedTuple):
    """Where something is shown."""

    width: float
    height: float
    colour: bool


UNLIMITED: Final = Screen(float("inf"), float("inf"), colour=False)


def repaints() -> bool:
    """Whether stdout is a terminal that can be painted again and again."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def screen(*, spare: int = 0, repainted: bool = False) -> Screen:
    """What stdout is: a terminal with so many columns, and when it is repainted so many lines, or an endless file.

    ``spare``: lines wanted for something else. Colours unless somebody objects (NO_COLOR, https://no-color.org).
    """
    if not repaints():
        return UNLIMITED
    terminal = shutil.get_terminal_size()
    height = terminal.lines - spare if repainted else float("inf")
    return Screen(terminal.columns, height, colour=not os.environ.get("NO_COLOR"))


def repaint(lines: Sequence[str]) -> None:
    """Paint the terminal anew with these lines, in one write and without blanking it first: nothing flickers.

    What does not fit is cut off at the right and below: a line that is wrapped, or one too many, would scroll the rest
    away. While a line is written the terminal does not wrap (DECAWM off).
    """
    body = "".join(f"{line}\x1b[K\n" for line in lines[: shutil.get_terminal_size().lines - 1])
    sys.stdout.write(f"\x1b[?7l\x1b[H{body}\x1b[J\x1b[?7h")
    sys.stdout.flush()


def paint(text: str, code: str, *, colour: bool) -> str:
    """`text` in an ANSI style, if `colour`."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def hanging(start: str, text: str, width: float, indent: int | None = None) -> list[str]:
    """`text` after `start`, broken between words to `width` columns; further lines begin under it, or at `indent`."""
    if width == float("inf"):
        return [start + text]
    margin = " " * (len(start) if indent is None else indent)
    width = max(40 + len(margin), int(width))
    return textwrap.wrap(start + text, width, subsequent_indent=margin, break_on_hyphens=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool = False) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join((first, *others)).rstrip()

    return [paint(line(head), BOLD, colour=colour), *(line(row) for row in rows)]


def fleet_line(figures: Statistics) -> str:
    """The fleet in one line of less than 80 characters, times those of whole requests."""
    return (
        f"{figures['active_workers']} live  {figures['current_throughput']:,.1f}/s  "
        f"p50 {_time(figures, 'p50_total_time')}  p95 {_time(figures, 'p95_total_time')}  "
        f"err {percent(figures['window_error_rate'])}  total {figures['total_requests']:,}"
    )


def fleet(figures: Statistics, *, screen: Screen = UNLIMITED) -> list[str]:
    """The fleet in a screenful: totals, what is wrong, a row for each measure, a row for each worker."""
    hub, colour = figures["hub"], screen.colour
    lookups = figures["cache_hits"] + figures["cache_misses"]
    top = [
        paint(f"hub {hub['name']}", BOLD, colour=colour)
        + f"  {figures['active_workers']} live of {figures['workers_seen']} workers seen, "
        f"up {duration(figures['total_runtime'])}  {time.strftime('%H:%M:%S', time.localtime(hub['taken_at']))}",
        f"requests    {figures['total_requests']:,}  errors {figures['total_errors']:,} "
        f"({percent(figures['error_rate'])})  cache hits {percent(figures['cache_hit_rate']) if lookups else '-'}",
        f"throughput  {figures['current_throughput']:,.1f}/s over 5 s  {figures['average_throughput']:,.1f}/s average  "
        + (f"{figures['peak_throughput']:,.0f}/s peak" if figures["peak_throughput"] else "- peak"),
        *findings(figures, screen=screen),
        "",
        *table(
            (f"window: {figures['window_count']:,}", "avg", "p50", "p95", "p99", "max", "lifetime p99"),
            [_measure_row(figures, measure) for measure in _MEASURES],
            colour=colour,
        ),
        "",
    ]
    if figures["workers_seen"] == 0:
        return [*top, *hanging("", _NOBODY, screen.width)]
    return [*top, *_workers(figures["workers"], screen, screen.height - len(top) - 1)]


def _time(figures: Statistics, key: str) -> str:
    """A time of the window, of the fleet or a worker, or a dash when the window is empty."""
    return duration(figures[key]) if figures["window_count"] else "-"


def _measure_row(figures: Statistics, measure: str) -> list[str]:
    def show(key: str) -> str:
        if not figures["total_requests" if key.startswith("lifetime") else "window_count"]:
            return "-"
        return f"{figures[key]:.3g}" if measure == "batch_size" else duration(figures[key])

    keys = [f"{kind}_{measure}" for kind in ("avg", "p50", "p95", "p99", "max", "lifetime_p99")]
    return [measure.replace("_", " "), *(show(key) for key in keys)]


def _workers(rows: Sequence[Statistics], screen: Screen, room: float) -> list[str]:
    """A row for each live worker, and one for all that ended; as many columns and rows as there is room for."""
    live = [row for row in rows if row["alive"]]
    ended = [row for row in rows if not row["alive"]]
    footer = []
    if ended:
        served = sum(row["requests"] for row in ended)
        footer = [f"{len(ended)} ended in the last minute, after {counted(served, 'request')}"]
    if len(live) + 1 + len(footer) > room:
        shown = max(1, int(room) - 2 - len(footer))
        footer = [f"... and {len(live) - shown} more; --json shows all", *footer]
        live = sorted(live, key=lambda row: -row["busy_fraction"])[:shown]
    cells = [
        (
            str(row["slot"]),
            str(row["pid"]),
            f"{row['requests']:,}",
            f"{row['current_throughput']:,.1f}",
            _time(row, "p99_inference_time"),
            f"{row['errors']:,}",
            f"{100.0 * row['busy_fraction']:.0f} %",
            f"{row['in_flight']} ({duration(row['oldest_in_flight'])})" if row["in_flight"] else "-",
            "-" if row["cpu_percent"] is None else f"{row['cpu_percent']:.0f} %",
            size(row["rss_bytes"]),
            duration(row["age"]),
        )
        for row in live
    ]
    if not live:
        return footer or ["no live workers"]
    columns = len(_WORKER_COLUMNS)
    lines = table(_WORKER_COLUMNS, cells)
    while columns > 2 and max(map(len, lines)) > screen.width:  # the last columns matter least
        columns -= 1
        lines = table(_WORKER_COLUMNS[:columns], [row[:columns] for row in cells])
    head, *others = lines
    return [paint(head, BOLD, colour=screen.colour), *others, *footer]


def findings(figures: Statistics, *, screen: Screen = UNLIMITED) -> list[str]:
    """What an operator should know; none when all is well. Of many those that fit a quarter of the screen.

    ``figures``: as `Hub.statistics` gives them.
    """
    found = figures.get("findings", [])
    lines: list[str] = []
    for at, each in enumerate(found):
        more = hanging("! ", each["text"], screen.width)
        if lines and len(lines) + len(more) > screen.height / 4:
            return [*lines, f"! ... and {len(found) - at} more findings; --json shows all"]
        lines += [paint(line, COLOURS[each["level"]], colour=screen.colour) for line in more]
    return lines
