"""`shmetrics obituaries`: the workers that died, and what they were doing."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Final

from shmetrics import obituary
from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_json, hub_name
from shmetrics.hub import Hub
from shmetrics.obituary import Obituary
from shmetrics.snapshot import WorkerSnapshot
from shmetrics.texts import size

EXAMPLES: Final = """\
  shmetrics obituaries resnet
  shmetrics obituaries resnet --json | jq '.[-1]'      the last one, with its last records
A worker that ends in good order has none. The newest 64 are kept, whatever becomes of the processes.
Whoever frees a dead worker's slot writes its obituary: an aggregator (`run`, `serve`) does so at once; without one it
is a new worker that finds no other slot."""

_HEAD: Final = ("noticed", "slot", "pid", "ended by", "age", "requests", "errors", "memory")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print them, the newest last."""
    with Hub.attach(hub_name(options)) as hub:
        snapshot = hub.snapshot()
    found = snapshot.obituaries
    unwritten = sum(_is_to_be_told_of(worker) for worker in snapshot.workers)
    if options.json:
        print(json.dumps([each.as_json() for each in found], indent=2))
        if unwritten:
            print(_still_to_write(snapshot.name, unwritten), file=sys.stderr)
        return 0
    screen = render.screen()
    lines = _lines(found, screen) if found else []
    if unwritten:
        lines += render.hanging("", _still_to_write(snapshot.name, unwritten), screen.width)
    print("\n".join(lines) if lines else f"no worker of hub {snapshot.name!r} has died without giving its slot up")
    return 0


def _lines(found: Sequence[Obituary], screen: render.Screen) -> list[str]:
    """A row for each, and behind it, or below it where the terminal ends before, what it was serving."""
    head, *rows = render.table(_HEAD, [_row(each) for each in found])
    lines = [render.paint(head, render.BOLD, colour=screen.colour)]
    for row, remark in zip(rows, map(_remark, found), strict=True):
        whole = f"{row}  {remark}".rstrip()
        lines += [whole] if len(whole) <= screen.width else [row, *render.hanging("    ", remark, screen.width)]
    return lines


def _is_to_be_told_of(worker: WorkerSnapshot) -> bool:
    """Whether it did not give its slot up, nor was about to end."""
    return worker.gone_unnoticed and (worker.in_flight_count > 0 or not worker.expected)


def _still_to_write(name: str, count: int) -> str:
    """Of workers that died and have no obituary: whoever frees their slots writes it, and nobody has."""
    return (
        f"dead workers that have no obituary yet: {count}; `shmetrics serve {name}` writes what is still known of them"
    )


def _row(each: Obituary) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.noticed_at)),
        str(each.slot),
        str(each.pid),
        obituary.way(each),
        obituary.lasting(each, each.age),
        f"{each.requests:,}" if each.believed else "-",
        f"{each.errors:,}" if each.believed else "-",
        size(each.rss_bytes),
    )


def _remark(each: Obituary) -> str:
    """What does not fit into a column."""
    serving = f"while serving {obituary.work(each)}" if each.in_flight else ""
    oom = f"({obituary.oom_remark(each)})" if each.oom_kills else ""
    return " ".join(part for part in (serving, oom) if part)
