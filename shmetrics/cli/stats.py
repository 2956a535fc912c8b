"""`shmetrics stats`: the fleet's figures."""

import argparse
import json
import time
from typing import Final

from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_interval, add_json, add_seconds, add_stuck_after, add_switch, hub_name
from shmetrics.hub import Hub

EXAMPLES: Final = """\
  shmetrics stats resnet
  shmetrics stats resnet --watch --interval 2
  shmetrics stats resnet --json | jq .p99_inference_time
  shmetrics stats resnet --max-age 10      only what the last ten seconds recorded
  shmetrics stats resnet --stuck-after 2   name every worker that serves one request for over two seconds
  shmetrics stats resnet --json | jq '.findings[] | .kind, .text'"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_switch(parser, "--watch", "print again and again until interrupted; with --json one object a line")
    add_interval(parser, "seconds between two prints of --watch")
    add_seconds(parser, "--max-age", None, "narrow the window to the last so many seconds; all of it when left out")
    add_stuck_after(parser)


def run(options: argparse.Namespace) -> int:
    """Print once, or until interrupted."""
    with Hub.attach(hub_name(options)) as hub:
        while True:
            figures = hub.statistics(max_age=options.max_age, stuck_after=options.stuck_after)
            if options.json:
                print(json.dumps(figures, indent=None if options.watch else 2), flush=True)
            elif options.watch and render.repaints():
                ends = f"every {options.interval:g} s; Ctrl-C ends"
                render.repaint([*render.fleet(figures, screen=render.screen(spare=1, repainted=True)), ends])
            else:
                print("\n".join(render.fleet(figures, screen=render.screen())), flush=True)
            if not options.watch:
                return 0
            if not options.json and not render.repaints():
                print(flush=True)  # an empty line between two looks
            time.sleep(options.interval)
