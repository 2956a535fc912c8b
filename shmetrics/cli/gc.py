"""`shmetrics gc`: remove what killed processes left in shared memory."""

import argparse
import json
from dataclasses import asdict
from typing import Final

from shmetrics import inventory
from shmetrics.cli.options import add_json, add_switch

EXAMPLES: Final = """\
  shmetrics gc --dry-run           what it would remove
  shmetrics gc
  shmetrics gc --json | jq .kept
Hubs with a name of their own stay, with their totals; `shmetrics rm NAME` removes one."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_switch(parser, "--dry-run", "remove nothing, only say what would be")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Remove what is safe to remove; what is not stays, which is no failure."""
    found = list(inventory.leftovers())
    removed = found if options.dry_run else [leftover for leftover in found if inventory.remove(leftover)]
    told = {leftover.name for leftover in removed}
    kept = [leftover for leftover in inventory.unremovable() if leftover.name not in told]
    if options.json:
        kinds = {"removed": removed, "kept": kept}
        print(
            json.dumps(
                {"dry_run": options.dry_run, **{key: [asdict(row) for row in rows] for key, rows in kinds.items()}},
                indent=2,
            )
        )
        return 0
    verb = "would remove" if options.dry_run else "removed"
    for leftover in removed:
        print(f"{verb} {'hub ' if leftover.is_hub else ''}{leftover.name}: {leftover.why}")
    for leftover in kept:
        print(f"kept hub {leftover.name}: {leftover.why}")
    if not removed:
        print("nothing was left behind")
    return 0
