"""`shmetrics bench`: what shmetrics costs beside its peers, on this machine."""

import argparse
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from shmetrics.benchmarks import scenarios
from shmetrics.benchmarks.figures import Chapter, Claim, Report
from shmetrics.benchmarks.machine import described
from shmetrics.benchmarks.peers import mpmetrics
from shmetrics.benchmarks.reports.json_report import json_report
from shmetrics.benchmarks.reports.markdown import markdown
from shmetrics.benchmarks.reports.text import text
from shmetrics.benchmarks.running import run as run_scenario
from shmetrics.cli.handling import Interruption, handling
from shmetrics.cli.options import UsageError, add_count, add_json, add_switch, add_text
from shmetrics.exporters.files import check_writable, write_atomically

EXAMPLES: Final = """\
  shmetrics bench --list                  which scenarios there are
  shmetrics bench write-cost              what a call costs, beside the same work of peers
  shmetrics bench write-cost --quick      the same in seconds, for whoever wants to see that it works
  shmetrics bench                         all scenarios, one after the other
  shmetrics bench --markdown report.md    and writes a report
  shmetrics bench --html report.html      or one with plots, for a browser
  shmetrics bench --install               what peers need that cannot be installed beside shmetrics
  shmetrics bench write-cost --json | jq '.scenarios[].figures[] | select(.kind == "claim")'
Figures are ratios within one run, whose rounds are interleaved. What the rounds leave open is neither ranked nor
claimed; more of them (--rounds) leave less open. Peers that are not installed are named, with the command that installs
them.
Exit status: 1 where something does not hold that should, or a scenario failed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags, and each scenario with its own."""
    add_switch(parser, "--list", "say which scenarios there are, and run none")
    add_switch(parser, "--install", "make the environments of peers that cannot live in this one, and run none")
    _common(parser)
    chosen = parser.add_subparsers(
        title="scenarios (all of them, when none is named)", metavar="SCENARIO", dest="scenario"
    )
    for name in scenarios.names():
        scenario = scenarios.load(name)
        sub = chosen.add_parser(
            name,
            help=scenario.SUMMARY,
            description=scenario.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for action in _common(sub):  # else what was given before the scenario's name would give way to a default
            action.default = argparse.SUPPRESS
        scenario.configure(sub)


def _common(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What the verb takes before the name of a scenario, and after it."""
    return [
        add_switch(parser, "--quick", "a run of seconds: it shows that all works, and little more"),
        add_count(parser, "--rounds", None, "interleaved rounds; each scenario knows how many it needs"),
        add_count(parser, "--seed", 1, "of the order of turns, and of what accuracy and alert-latency draw"),
        add_json(parser),
        add_text(parser, "--markdown", "a file for the report as Markdown", "FILE"),
        add_text(parser, "--html", "a file for the report as a page with plots; needs jinja2", "FILE"),
    ]


def run(options: argparse.Namespace) -> int:
    """Measure, print, write. 1 where a claim does not hold, 130 after Ctrl-C; what was measured by then is reported."""
    if options.list:
        for name in scenarios.names():
            print(f"{name:20} {scenarios.load(name).SUMMARY}")
        return 0
    if options.install:
        return _install()
    _check_places(options)
    chapters = []
    interrupted = False
    try:
        interruption = Interruption()
        heeded = signal.getsignal(signal.SIGINT) == signal.default_int_handler  # else ignored: a shell's job
        with handling((signal.SIGINT,) if heeded else (), interruption):
            for name in [options.scenario] if options.scenario else scenarios.names():
                chosen = options if options.scenario else _defaults(name, options)
                chapters.append(_measured(name, chosen, interruption.check))
    except KeyboardInterrupt:
        if not chapters:
            raise
        interrupted = True
    report = Report(described(), tuple(chapters))
    print(json_report(report) if options.json else text(report), end="")
    if options.markdown:
        write_atomically(options.markdown, markdown(report).encode())
    if options.html:
        from shmetrics.benchmarks.reports.html import html  # noqa: PLC0415  jinja2, for whoever wants it

        write_atomically(options.html, html(report).encode())
    if interrupted:
        print("shmetrics: interrupted; the scenarios that were over by then are reported", file=sys.stderr)
        return 130
    return 1 if any(claim.verdict == "does not hold" for claim in report.claims()) else 0


def _measured(name: str, options: argparse.Namespace, check: Callable[[], None]) -> Chapter:
    """What a scenario found; or that it failed, which takes nothing from what others found."""
    try:
        return run_scenario(name, options, check)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001  a peer's, a server's, a child's: the report says it, with all that JSON has
        kind, (*_, reason) = type(error).__name__, ("", *str(error).strip().splitlines())
        print(f"shmetrics: {name} failed: {kind}: {reason}", file=sys.stderr)
        claim = Claim("it is measured to its end", "no failure", kind, "does not hold", reason)
        results = {"failed": traceback.format_exc()}
        return Chapter(name, scenarios.load(name).SUMMARY, (claim,), {"failed": f"{kind}: {reason}"}, results)


def _install() -> int:
    """Make the environments; 1 where that fails."""
    try:
        mpmetrics.install()
    except subprocess.CalledProcessError as error:
        print(f"shmetrics: {error}", file=sys.stderr)
        return 1
    print(f"mpmetrics is installed in {mpmetrics.environment()}; remove the directory when you are done")
    return 0


def _defaults(name: str, options: argparse.Namespace) -> argparse.Namespace:
    """What was given, and of the scenario's own flags the defaults."""
    parser = argparse.ArgumentParser(prog=f"shmetrics bench {name}")
    scenarios.load(name).configure(parser)
    return parser.parse_args([], argparse.Namespace(**vars(options)))


def _check_places(options: argparse.Namespace) -> None:
    """OutputError for a report that cannot be written: better before the minutes of measuring than after them."""
    for path in filter(None, (options.markdown, options.html)):
        check_writable(path)
    if options.html and find_spec("jinja2") is None:
        raise UsageError("a page is made with jinja2, which is not installed; pip install 'shmetrics[report]'")
