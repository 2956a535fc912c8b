"""`shmetrics demo`: see it work."""

import argparse
import json
import signal
import subprocess
import sys
from dataclasses import asdict
from types import FrameType
from typing import Final

from shmetrics.cli import render
from shmetrics.cli.handling import Interruption, handling
from shmetrics.cli.options import add_json, add_seconds
from shmetrics.demo.run import Demo, Outcome
from shmetrics.statistics import Statistics

EXAMPLES: Final = """\
  shmetrics demo
  shmetrics demo --seconds 30
  shmetrics demo --json | jq .requests"""

_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_seconds(parser, "--seconds", 12.0, "how long the load runs")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Run it; status 1 when the counts differ or something is left behind."""
    live = render.repaints() and not options.json
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if not options.json:
            print(line, flush=True)

    stop = _Stop()

    def show(figures: Statistics) -> None:
        stop.check()
        if live:
            render.repaint(
                [*render.fleet(figures, screen=render.screen(spare=len(said) + 1, repainted=True)), "", *said]
            )

    # On a terminal the table is repainted; elsewhere the aggregator's own lines tell the story.
    output = subprocess.DEVNULL if live or options.json else None
    with handling(_ENDINGS, stop):
        outcome = Demo(options.seconds, show=show, say=say, aggregator_output=output).run()
    good = outcome.equal and not outcome.left_behind
    if options.json:
        print(json.dumps(_as_json(outcome), indent=2))
    else:
        print("\n".join(_report(outcome)))
    return 0 if good else 1


class _Stop(Interruption):
    """Stops at the first signal, wherever we are, and lets nothing interrupt the clean-up."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        for ignored in _ENDINGS:
            signal.signal(ignored, signal.SIG_IGN)
        self._error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(1)
        print("interrupted; cleaning up", file=sys.stderr, flush=True)
        raise self._error


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "responses": outcome.client.responses,
        "requests": outcome.figures["total_requests"],
        "equal": outcome.equal,
        "server_errors_seen": outcome.client.server_errors,
        "errors": outcome.figures["total_errors"],
        "interrupted": outcome.client.interrupted,
        "killed": asdict(outcome.casualty),
        "left_behind": outcome.left_behind,
        "statistics": outcome.figures,
    }


def _report(outcome: Outcome) -> list[str]:
    client, figures, killed = outcome.client, outcome.figures, outcome.casualty
    interrupted = f"; requests the dying worker did not answer: {client.interrupted}" if client.interrupted else ""
    verdict = "equal: nothing was lost" if outcome.equal else "DIFFERENT: please report this"
    return [
        "",
        *render.fleet(figures, screen=render.screen()),
        "",
        f"worker {killed.pid} was killed with SIGKILL; its {killed.requests:,} requests are in the totals",
        f"the client got   {client.responses:>8,} responses, {client.server_errors:,} of them 5xx{interrupted}",
        f"the hub counted  {figures['total_requests']:>8,} requests, {figures['total_errors']:,} errors",
        verdict,
        f"left behind: {', '.join(outcome.left_behind) or 'no process, no segment, no semaphore'}",
    ]
