"""`shmetrics doctor`: what is wrong, and what to do."""

import argparse
import json
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
        width, screen = max(len(finding.subject) for finding in findings), render.screen()
        for finding in findings:
            mark = f"{_MARKS[finding.level]:<7}"
            first, *others = render.hanging(f"{mark}  {finding.subject:<{width}}  ", finding.text, screen.width)
            if finding.level != "ok":
                first = render.paint(mark, render.COLOURS[finding.level], colour=screen.colour) + first[len(mark) :]
            print("\n".join([first, *others]))
    return 1 if any(finding.level == "problem" for finding in findings) else 0
