"""`shmetrics rm`: remove hubs."""

import argparse
import json
import sys
from typing import Final

from shmetrics import hub
from shmetrics.cli.options import add_json, add_switch
from shmetrics.errors import ShmetricsError

EXAMPLES: Final = """\
  shmetrics rm resnet
  shmetrics rm --force resnet      under running workers too: they go on, but nobody new finds the hub"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("names", metavar="NAME", nargs="+", help="hubs to remove")
    add_switch(parser, "--force", "remove also what live workers use, or what is refused as a hub")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Remove each; status 1 when one could not be."""
    removed, failed = [], {}
    for name in options.names:
        try:
            hub.remove(name, force=options.force)
            removed.append(name)
        except (ShmetricsError, ValueError) as error:
            failed[name] = str(error)
    if options.json:
        print(json.dumps({"removed": removed, "failed": failed}, indent=2))
    else:
        for name in removed:
            print(f"removed {name}")
        for reason in failed.values():
            print(f"shmetrics: {reason}", file=sys.stderr)
    return 1 if failed else 0
