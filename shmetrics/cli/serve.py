"""`shmetrics serve`: the aggregator process."""

import argparse
import json
import os
import signal
import time
from contextlib import ExitStack
from types import FrameType
from typing import Final

from shmetrics import segment
from shmetrics.aggregator import STANDBY_INTERVAL, Aggregator
from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_json, add_port, add_seconds, hub_name
from shmetrics.hub import Hub

HELP: Final = "run the aggregator: reap dead workers, sample once a second, print a line, serve Prometheus"
EXAMPLES: Final = """\
  shmetrics serve resnet
  shmetrics serve resnet --port 9464          and http://127.0.0.1:9464/metrics, /healthz, /readyz
  shmetrics serve resnet --json >> fleet.ndjson
A second one on the same hub stands by, and takes over within a second when the first ends, however it ends.
Both serve their pages all the time, each on a port of its own."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_seconds(parser, "--interval", 1.0, "seconds between two samples")
    add_port(parser, "serve the fleet's metrics for Prometheus on this port")


def run(options: argparse.Namespace) -> int:
    """Lead, or stand by until it is our turn; until SIGTERM (status 0) or SIGINT (status 130)."""
    signal.signal(signal.SIGTERM, _stop)
    hub = segment.attach(hub_name(options), writable=True)
    with Aggregator(hub) as aggregator, ExitStack() as pages:
        if options.port is not None:
            url = _serve_pages(pages, hub.name, options.port, options.host)
            _say(options, hub.name, "serving", f"serving {url}", url=url)
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


def _serve_pages(until: ExitStack, hub: str, port: int, host: str) -> str:
    """Serve the fleet's pages beside the ticks, on a view of their own; returns where."""
    from shmetrics.exporters.prometheus import Server  # noqa: PLC0415  prometheus_client, for whoever wants it

    view = until.enter_context(Hub.attach(hub))
    return until.enter_context(Server(view, port, host)).url


def _say(options: argparse.Namespace, hub: str, event: str, text: str, **more: str) -> None:
    print(json.dumps({"event": event, "hub": hub, **more}) if options.json else text, flush=True)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
