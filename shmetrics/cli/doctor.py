"""`shmetrics doctor`: what is wrong, and what to do."""

import argparse
import json
import textwrap
from dataclasses import asdict
from typing import Final

from shmetrics import diagnosis
from shmetrics.cli import render
from shmetrics.cli.options import add_hub, add_json, add_stuck_after, hub_given

EXAMPLES: Final = """\
  shmetrics doctor                 the machine, and all hubs of this user
  shmetrics doctor resnet          the machine, and one hub
  shmetrics doctor --json | jq '.[] | select(.level != "ok")'
Exit status: 1 when there is a problem, 0 when there are warnings at most."""

_MARKS: Final = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_stuck_after(parser)


def run(options: argparse.Namespace) -> int:
    """Print every finding; status 1 when one is a problem."""
    findings = list(diagnosis.diagnose(hub_given(options), stuck_after=options.stuck_after))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            shown = f"{_MARKS[finding.level]:<7}"
            if finding.level != "ok":
                shown = render.paint(shown, render.COLOURS[finding.level], colour=render.screen().colour)
            print("\n".join(_hanging(f"{shown}  {finding.subject:<{width}}  ", 11 + width, finding.text)))
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _hanging(start: str, indent: int, text: str) -> list[str]:
    """`text` after `start`, which takes `indent` columns, and broken to the terminal's width beside it."""
    width = render.screen().width
    if width == float("inf"):
        return [start + text]
    first, *others = textwrap.wrap(text, max(40, int(width) - indent), break_on_hyphens=False)
    return [start + first, *(" " * indent + line for line in others)]
