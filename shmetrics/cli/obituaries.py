"""`shmetrics obituaries`: the workers that died, and what they were doing."""

import argparse
import json
import time
from typing import Final

from shmetrics import obituary
from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_json, hub_name
from shmetrics.hub import Hub
from shmetrics.obituary import Obituary
from shmetrics.texts import duration, size

EXAMPLES: Final = """\
  shmetrics obituaries resnet
  shmetrics obituaries resnet --json | jq '.[-1]'      the last one, with its last records
A worker that ends in good order has none. The newest 64 are kept, whatever becomes of the processes."""

_HEAD: Final = ("noticed", "slot", "pid", "ended by", "age", "requests", "errors", "memory")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print them, the newest last."""
    with Hub.attach(hub_name(options)) as hub:
        found = hub.obituaries()
        name = hub.name
    if options.json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    elif not found:
        print(f"no worker of hub {name!r} has died without giving its slot up")
    else:
        head, *lines = render.table(_HEAD, [_row(each) for each in found])
        print(render.paint(head, render.BOLD, colour=render.screen().colour))
        for line, each in zip(lines, found, strict=True):
            print(f"{line}  {_remark(each)}".rstrip())
    return 0


def _row(each: Obituary) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.noticed_at)),
        str(each.slot),
        str(each.pid),
        obituary.way(each),
        duration(each.age),
        f"{each.requests:,}" if each.believed else "-",
        f"{each.errors:,}" if each.believed else "-",
        size(each.rss_bytes),
    )


def _remark(each: Obituary) -> str:
    """What does not fit into a column."""
    serving = f"while serving {obituary.work(each)}" if each.in_flight else ""
    oom = f"({obituary.oom_remark(each)})" if each.oom_kills else ""
    return " ".join(part for part in (serving, oom) if part)
