"""`shmetrics profile`: where the time of live workers goes, without a restart; and the report of profiled functions."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from shmetrics.cli.options import (
    STDOUT,
    UsageError,
    add_choice,
    add_hub,
    add_output,
    add_seconds,
    add_switch,
    add_text,
    hub_name,
    positive,
    variable,
)
from shmetrics.errors import ProfilingError
from shmetrics.exporters.files import check_writable, write_atomically
from shmetrics.exporters.profiles.collapsed import collapsed
from shmetrics.exporters.profiles.speedscope import speedscope
from shmetrics.exporters.profiles.text import profile_text
from shmetrics.hub import Hub
from shmetrics.profiling import Profile, merged, py_spy
from shmetrics.profiling.asking import Answer, Target, ask, problems_of, targets
from shmetrics.profiling.sampler import RATE
from shmetrics.profiling.wire import LONGEST, RATES, Request

EXAMPLES: Final = """\
  shmetrics profile resnet                            all workers for ten seconds, as one
  shmetrics profile resnet --worker 3 --seconds 30    that of slot 3, as `shmetrics stats` numbers them
  shmetrics profile resnet --format html -o flame.html              a flame graph for a browser
  shmetrics profile resnet --format report -o report.html           and what its profiled functions took
  shmetrics profile resnet --format speedscope -o resnet.speedscope.json    for https://www.speedscope.app
  shmetrics profile resnet --format collapsed | flamegraph.pl > flame.svg
  shmetrics profile resnet --idle                     of time that passes: threads that wait count as well
  shmetrics profile resnet --expand torch,numpy       names the functions of these libraries
  shmetrics profile resnet --rate 500 --py-spy never  five hundred looks a second, by the workers themselves
Workers answer that were started with SHMETRICS_PROFILING=1 (`shmetrics run --profiling`), or that called
metrics.enable_profiling(). Where py-spy is installed and permitted, no worker is asked. Ctrl-C ends the
sampling, and what workers have said by then, once a second, is written."""

ALL: Final = "all"
REPORT: Final = "report"
"""The format that has profiled functions as well, and is written of a fleet that nobody can sample, too."""
_TITLE: Final = "hub {hub}, {workers}"
_BAR: Final = 30


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    parser.add_argument(
        "--worker",
        type=_worker,
        default=os.environ.get(variable("--worker")) or ALL,
        metavar="SLOT|all",
        help=f"which, by its slot (default: {ALL}, merged; {variable('--worker')})",
    )
    add_seconds(parser, "--seconds", 10.0, "for how long", _seconds)
    parser.add_argument(
        "--rate",
        type=_rate,
        default=os.environ.get(variable("--rate")) or RATE,
        metavar="HZ",
        help=f"looks a second (default: {RATE:g}; {variable('--rate')})",
    )
    add_switch(parser, "--idle", "count threads that wait as well, so that it is of time that passes and not of work")
    add_text(parser, "--expand", f"libraries whose functions are named, by package, or {ALL}", "PACKAGE,...")
    add_choice(parser, "--format", (*_FORMATS, REPORT), "text", "what to write")
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="speedscope",
        help=f"the same as --format speedscope, which is JSON ({variable('--json')} says nothing)",
    )
    add_output(parser)
    add_choice(
        parser, "--py-spy", ("auto", "never", "always"), "auto", "whether py-spy looks, and not the worker itself"
    )


def run(options: argparse.Namespace) -> int:
    """Ask, wait, write. 1 where a worker could not be profiled, or not to the end, 130 after Ctrl-C; what there is, is
    written.
    """
    name = hub_name(options)
    if options.output != STDOUT:
        check_writable(options.output)
    with Hub.attach(name) as hub:
        live = targets(hub.snapshot(), hub.view.segment.instance)
    if options.format == REPORT and options.worker is None and not live:
        chosen = []  # what ended workers counted is there all the same
    else:
        chosen = _chosen(name, live, options.worker)
    answers, interrupted = _answers(chosen, options)
    problems = problems_of(answers)
    profiles = {str(answer.target): answer.profile for answer in answers if answer.parts}
    if interrupted:
        if not profiles:
            raise KeyboardInterrupt
        seconds = max(answer.passed for answer in answers)
        problems.append(f"interrupted after {seconds:.1f} s of {options.seconds:g}; what there was is written")
    if options.format == REPORT:
        _write(_report(name, answers), options.output)
    elif profiles:
        workers = ", ".join(profiles) if len(profiles) <= 4 else f"{len(profiles)} workers"
        _write(_FORMATS[options.format](profiles, _TITLE.format(hub=name, workers=workers)), options.output)
    else:
        raise ProfilingError("\n".join(problems))
    if profiles and not any(profile.samples for profile in profiles.values()):
        problems.append("no thread ran: it waited, all of the time; --idle shows where")
    for each in problems:
        print(f"shmetrics: {each}", file=sys.stderr)
    if interrupted:
        return 130
    return 1 if any(answer.problem for answer in answers) else 0


def _chosen(name: str, live: Sequence[Target], asked: int | None) -> list[Target]:
    there = ", ".join(map(str, live)) or "none"
    chosen = [target for target in live if asked in (None, target.slot)]
    if not chosen:
        what = "no live worker" if asked is None else f"no live worker {asked}"
        raise ProfilingError(f"hub {name!r} has {what}; there are: {there}")
    return chosen


def _answers(chosen: Sequence[Target], options: argparse.Namespace) -> tuple[Sequence[Answer], bool]:
    """By py-spy where it can, and by the workers themselves else. And whether Ctrl-C came while these were asked."""
    request = Request(options.seconds, options.rate, options.idle)
    expanded = (options.expand or "").split(",")
    program = None if options.py_spy == "never" else py_spy.find()
    if options.py_spy == "always" and program is None:
        raise UsageError("--py-spy always, and there is no py-spy on PATH; pip install py-spy")
    answers: list[Answer] = []
    with _Progress(options.seconds) as progress:
        if program is not None:
            answers = py_spy.record(program, chosen, request, expanded=expanded, progress=progress.show)
            if options.py_spy == "always":
                return answers, False
        refused = {answer.target: answer.problem for answer in answers if not answer.parts}
        asked = [target for target in chosen if not answers or target in refused]
        others: Sequence[Answer] = []
        interrupted = False
        try:
            if asked:
                others = ask(asked, request, expanded=expanded, progress=progress.show)
        except KeyboardInterrupt:
            others, interrupted = progress.latest, True
    for answer in others:
        if answer.problem and answer.target in refused and not answer.parts:
            answer.problem += f" ({refused[answer.target]})"
    return [*(answer for answer in answers if answer.target not in refused), *others], interrupted


class _Progress:
    """A bar on standard error, where there is a terminal to see it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shown = sys.stderr.isatty()
        self.latest: Sequence[Answer] = []
        """What was shown last."""

    def show(self, answers: Sequence[Answer]) -> None:
        """Paint it for the slowest of those that still say something."""
        self.latest = answers
        if self._shown:
            going = [answer.passed for answer in answers if not answer.done]
            seconds = min(going, default=self._seconds)
            filled = min(_BAR, int(_BAR * seconds / self._seconds))
            samples = sum(part.samples for answer in answers for part in answer.parts)
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
            print(
                f"\r{bar} {seconds:.0f}/{self._seconds:g} s, {samples:,} samples", end="", file=sys.stderr, flush=True
            )

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _write(content: str, output: str) -> None:
    encoded = content.encode("utf-8", "backslashreplace")
    if output == STDOUT:
        sys.stdout.buffer.write(encoded)
    else:
        write_atomically(output, encoded)


def _text(profiles: Mapping[str, Profile], title: str) -> str:
    return profile_text(merged(profiles.values()), title)


def _collapsed(profiles: Mapping[str, Profile], _title: str) -> str:
    return collapsed(merged(profiles.values()))


def _speedscope(profiles: Mapping[str, Profile], title: str) -> str:
    every = {f"all {len(profiles)} workers": merged(profiles.values())} if len(profiles) > 1 else {}
    return speedscope({**every, **profiles}, title)


def _html(profiles: Mapping[str, Profile], title: str) -> str:
    from shmetrics.exporters.profiles.report import flame_graph_page  # noqa: PLC0415  jinja2, for whoever wants it

    return flame_graph_page(merged(profiles.values()), title)


_FORMATS: Final[dict[str, Callable[[Mapping[str, Profile], str], str]]] = {
    "text": _text,
    "collapsed": _collapsed,
    "speedscope": _speedscope,
    "html": _html,
}


def _report(hub_name: str, answers: Sequence[Answer]) -> str:
    """The profiled functions of the whole fleet, and flame graphs of the workers that were asked."""
    from shmetrics.exporters.profiles.gathering import report_from_outside  # noqa: PLC0415
    from shmetrics.exporters.profiles.looking import seen  # noqa: PLC0415
    from shmetrics.exporters.profiles.report import report_page  # noqa: PLC0415  jinja2, as above

    with Hub.attach(hub_name) as hub:
        return report_page(report_from_outside(hub.snapshot(), seen(answers)))


def _worker(text: str) -> int | None:
    """A slot; None for all."""
    if text == ALL:
        return None
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be the number of a slot, or {ALL}, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    return max(positive(text, LONGEST), 0.1)


def _rate(text: str) -> float:
    number = positive(text, RATES[1])
    if number < RATES[0]:
        raise argparse.ArgumentTypeError(f"must be {RATES[0]:g} look a second or more, not {text!r}")
    return number
