"""`shmetrics trends`: where the fleet is going, and what holds it up."""

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from shmetrics import segment
from shmetrics.cli import render
from shmetrics.cli.options import add_history, add_hub, add_json, add_seconds, hub_name
from shmetrics.exporters.analyzer import PerformanceAnalyzer
from shmetrics.hub import View
from shmetrics.layout import SECONDS
from shmetrics.texts import duration
from shmetrics.trends import FEWEST, INSUFFICIENT, SHORTEST

EXAMPLES: Final = """\
  shmetrics trends resnet
  shmetrics trends resnet --over 60                          the last minute
  shmetrics trends resnet --over 86400 --history resnet.history    the last day, from the file of serve --history
  shmetrics trends resnet --json | jq '.bottlenecks[0].recommendation'"""

_HEAD: Final = ("trend", "direction", "a minute", "change", "confidence")
_INDENT: Final = "    "
_WANTED: Final = f"a trend needs {duration(SHORTEST)} of traffic, and {FEWEST} values or more in it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_seconds(parser, "--over", float(SECONDS), "how far back to look; a hub itself knows 300 seconds")
    add_history(parser, "look further back, in the file that `shmetrics serve --history` writes")


def run(options: argparse.Namespace) -> int:
    """Read the hub once and print."""
    with closing(View(segment.attach(hub_name(options)))) as view:
        history = None
        if options.history is not None:
            from shmetrics.history_file import read  # noqa: PLC0415  sqlite3, which some Pythons lack

            history = read(options.history, view.segment.name)
            history.add(view.snapshot())
        analyzer = PerformanceAnalyzer(view, history=history, seconds=options.over)
        analysis, bottlenecks = analyzer.analyze_performance_trends(), analyzer.identify_bottlenecks()
        name = view.segment.name
    if options.json:
        print(json.dumps({"hub": name, **analysis, "bottlenecks": bottlenecks}, indent=2))
    else:
        screen = render.screen()
        print("\n".join([*trend_lines(name, analysis, screen), "", *bottleneck_lines(bottlenecks, screen)]))
    return 0


def trend_lines(hub: str, analysis: dict[str, Any], screen: render.Screen) -> list[str]:
    """The hub's stability and a table of its trends."""
    rating, limit = analysis["stability_rating"], analysis["stability"]["limited_by"]
    why = f", by its {limit.replace('_', ' ')} of {analysis['stability'][limit]:.3g}" if limit else ""
    found = analysis["trends"]
    rows = [
        _row("throughput", found["throughput"], f"{found['throughput']['slope_per_minute']:+.3g}/s", "%"),
        _row("latency", found["latency"], _signed_time(found["latency"]["slope_per_minute"]), "%"),
        _row("error rate", found["error"], f"{100.0 * found['error']['slope_per_minute']:+.3g} points", "points"),
    ]
    head = f"{duration(analysis['seconds'])} of traffic  stability: {_words(rating)}{why}"
    return [
        *render.hanging(f"hub {hub}  over ", head, screen.width, len(_INDENT)),
        "",
        *render.table(_HEAD, rows, colour=screen.colour),
        *([_WANTED] if any(each["direction"] == INSUFFICIENT for each in found.values()) else []),
    ]


def _row(name: str, trend: dict[str, Any], slope: str, unit: str) -> tuple[str, ...]:
    if trend["direction"] == INSUFFICIENT:
        return name, _words(trend["direction"]), "-", "-", "-"
    return (
        name,
        trend["direction"],
        slope,
        f"{100.0 * trend['change']:+.3g} {unit}",
        f"{100.0 * trend['confidence']:.1f} %",
    )


def bottleneck_lines(bottlenecks: Sequence[dict[str, Any]], screen: render.Screen) -> list[str]:
    """Each bottleneck: its impact, what was seen, and what to do."""
    if not bottlenecks:
        return ["no bottlenecks"]
    colours = {"high": render.RED, "medium": render.YELLOW}
    lines = ["bottlenecks, the worst first"]
    for found in bottlenecks:
        impact = found["impact"]
        head = render.hanging(f"{impact:6}  ", f"{found['component']}: {found['evidence']}", screen.width)
        colour = screen.colour and impact in colours
        lines += [render.paint(line, colours.get(impact, ""), colour=colour) for line in head]
        lines += render.hanging(_INDENT, found["recommendation"], min(screen.width, 120))
    return lines


def _signed_time(seconds: float) -> str:
    seconds = round(seconds, 9)  # nobody measures less than a nanosecond
    return f"{'-' if seconds < 0.0 else '+'}{duration(abs(seconds))}"


def _words(name: str) -> str:
    return name.replace("_", " ")
