"""`shmetrics serve`: the aggregator process."""

import argparse
import json
import os
import signal
import time
from types import FrameType
from typing import Final

from shmetrics import segment
from shmetrics.aggregator import STANDBY_INTERVAL, Aggregator
from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_json, add_seconds, hub_name

HELP: Final = "run the aggregator: reap dead workers, sample once a second, print a line"
EXAMPLES: Final = """\
  shmetrics serve resnet
  shmetrics serve resnet --json >> fleet.ndjson
A second one on the same hub stands by, and takes over within a second when the first ends, however it ends."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_seconds(parser, "--interval", 1.0, "seconds between two samples")


def run(options: argparse.Namespace) -> int:
    """Lead, or stand by until it is our turn; until SIGTERM (status 0) or SIGINT (status 130)."""
    signal.signal(signal.SIGTERM, _stop)
    hub = segment.attach(hub_name(options), writable=True)
    with Aggregator(hub) as aggregator:
        if not aggregator.try_lead():
            _say(options, hub.name, "standby", f"another aggregator leads hub {hub.name!r}; standing by")
            while not aggregator.try_lead():
                time.sleep(STANDBY_INTERVAL)
        _say(options, hub.name, "leader", f"leading hub {hub.name!r} (pid {os.getpid()})")
        known: list[str] = []
        while True:
            figures = aggregator.tick()
            if options.json:
                print(json.dumps(figures), flush=True)
            else:
                findings = render.findings(figures)
                news = [line for line in findings if line not in known]
                known = findings
                print("\n".join([f"{time.strftime('%H:%M:%S')}  {render.fleet_line(figures)}", *news]), flush=True)
            aggregator.wait(options.interval)


def _say(options: argparse.Namespace, hub: str, event: str, text: str) -> None:
    print(json.dumps({"event": event, "hub": hub}) if options.json else text, flush=True)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
