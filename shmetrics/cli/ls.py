"""`shmetrics ls`: which hubs there are."""

import argparse
import json
from typing import Any, Final

from shmetrics import naming
from shmetrics.cli import render
from shmetrics.cli.options import add_json
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.hub import Hub
from shmetrics.texts import duration, size

EXAMPLES: Final = """\
  shmetrics ls
  shmetrics ls --json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print every hub, and every file that should be one and is not."""
    rows = [row for row in map(_describe, naming.hub_names()) if row is not None]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("no hubs; a server that uses shmetrics makes one, and so does `shmetrics demo`")
        return 0
    good = [row for row in rows if "error" not in row]
    if good:
        cells = [
            (
                row["name"],
                f"{row['workers']}/{row['slots']}",
                f"{row['requests']:,}",
                "yes" if row["aggregator"] else "no",
                size(row["bytes"]),
                duration(row["age"]),
            )
            for row in good
        ]
        head = ("name", "workers", "requests", "aggregator", "size", "age")
        print("\n".join(render.table(head, cells, colour=render.screen().colour)))
    for row in rows:
        if "error" in row:
            print(f"! {row['name']}: {row['error']}")
    return 0


def _describe(name: str) -> dict[str, Any] | None:
    """One hub's row; with "error" when it cannot be attached; None when it is gone meanwhile."""
    try:
        with Hub.attach(name) as hub:
            fleet = hub.snapshot()
            return {
                "name": name,
                "workers": fleet.health.slots_live,
                "slots": fleet.health.slots_total,
                "requests": fleet.counters.requests,
                "aggregator": hub.has_aggregator,
                "bytes": fleet.health.bytes,
                "age": fleet.taken_at - fleet.created_at,
            }
    except HubNotFoundError:
        return None
    except ShmetricsError as error:
        return {"name": name, "error": str(error)}
