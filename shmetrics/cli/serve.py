"""`shmetrics serve`: the aggregator process."""

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from shmetrics import segment
from shmetrics.aggregator import STANDBY_INTERVAL, Aggregator
from shmetrics.alerting.alert import Alert
from shmetrics.alerting.leader import LeaderAlerts
from shmetrics.cli import render
from shmetrics.cli.handling import Ending, handling
from shmetrics.cli.options import (
    add_directory,
    add_history,
    add_hub,
    add_interval,
    add_json,
    add_port,
    add_stuck_after,
    add_switch,
    add_text,
    hub_name,
)
from shmetrics.cli.telling import STDERR, STDOUT, tell
from shmetrics.exporters.postmortems import Postmortems
from shmetrics.hub import Hub
from shmetrics.segment import Segment
from shmetrics.statistics import Statistics

if TYPE_CHECKING:
    from shmetrics.history_file import HistoryFile

EXAMPLES: Final = """\
  shmetrics serve resnet
  shmetrics serve resnet --port 9464          and http://127.0.0.1:9464/metrics, /healthz, /readyz
  shmetrics serve resnet --rules rules.toml   and tells somebody when a rule fires; reads the file again when it changes
  shmetrics serve resnet --json >> fleet.ndjson
  shmetrics serve resnet --quiet --port 9464  nothing but what an operator should know
  shmetrics serve resnet --postmortem-dir /var/log/resnet     a file for each worker that dies
  shmetrics serve resnet --history resnet.history     and 7 days of figures outlive it, in an SQLite file
A second one on the same hub stands by, and takes over within a second when the first ends, however it ends.
Both serve their pages all the time, each on a port of its own; rules, history and postmortems are the first one's.
`shmetrics run` has an aggregator already: give these flags to it."""
_OF_THE_LEADER: Final = ("rules", "history", "postmortem-dir")
"""Flags that mean nothing as long as another aggregator leads."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_hub(parser)
    add_json(parser)
    add_switch(parser, "--quiet", "print only what an operator should know, and no line for each sample")
    configure_aggregator(parser)


def configure_aggregator(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how to aggregate; `shmetrics run` has them too."""
    add_interval(parser, "seconds between two samples")
    add_stuck_after(parser)
    add_directory(parser, "--postmortem-dir", "write a JSON file for each worker that dies into this directory")
    add_history(parser, "keep what the fleet did, 7 days of it, in this SQLite file; the leader alone opens it")
    add_port(parser, "serve the fleet's metrics for Prometheus on this port")
    add_text(parser, "--rules", "alert by this file of rules", "FILE")


def arguments_of_aggregator(options: argparse.Namespace) -> list[str]:
    """The command line that says the same as `options` of another verb with the arguments of `configure_aggregator`."""
    given = {
        name: getattr(options, name)
        for name in ("interval", "stuck_after", "postmortem_dir", "history", "host", "port", "rules")
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]


def run(options: argparse.Namespace) -> int:
    """Lead, or stand by until it is our turn; until SIGTERM (status 0) or SIGINT (status 130)."""
    ending = Ending()
    with handling((signal.SIGTERM,), ending):
        return _aggregate(options, ending)


def _aggregate(options: argparse.Namespace, ending: Ending) -> int:
    hub = segment.attach(hub_name(options), writable=True)
    with Aggregator(hub, stuck_after=options.stuck_after) as aggregator, ExitStack() as beside:
        alerts = None if options.rules is None else _alerts(beside, options.rules, hub, aggregator)
        if options.port is not None:
            url = _serve_pages(beside, hub.name, options.port, options.host, alerts)
            _say(options, hub.name, "serving", f"serving {url}", url=url)
        if not aggregator.try_lead():
            _say_standing_by(options, hub.name)
            while not aggregator.try_lead():
                time.sleep(STANDBY_INTERVAL)
                if ending.asked():
                    return 0
        if not options.quiet:
            _say(options, hub.name, "leader", f"leading hub {hub.name!r} (pid {os.getpid()})")
        kept = None if options.history is None else beside.enter_context(_history_file(options, hub, aggregator))
        known: set[tuple[str, int | None, int | None]] = set()
        files = None if options.postmortem_dir is None else Postmortems(options.postmortem_dir, hub.name)

        def sample() -> Statistics:
            nonlocal known
            figures = aggregator.tick()
            if kept is not None:
                kept.save()
            if files is not None:
                _write_postmortems(files, aggregator, options)
            findings = {(each["kind"], each["worker"], each["pid"]): each["text"] for each in figures["findings"]}
            _report(options, figures, [text for about, text in findings.items() if about not in known])
            known = set(findings)  # without the texts, which tell ages, and so change
            return figures

        while not ending.asked():
            if alerts is not None:
                alerts.arm()
            figures = sample()
            if alerts is None:
                aggregator.wait(options.interval, until=ending.asked)
            else:
                _alert(options, aggregator, alerts, figures, ending)
        sample()  # a worker that was killed, and whose server ended with it, is the reason perhaps
        return 0


def _report(options: argparse.Namespace, figures: Statistics, news: list[str]) -> None:
    """A sample, and what was found in it that was not found in the one before."""
    if options.quiet:
        for line in news:
            _say(options, figures["hub"]["name"], "finding", line, finding=line)
    elif options.json:
        print(json.dumps(figures), flush=True)
    else:
        lines = [f"{time.strftime('%H:%M:%S')}  {render.fleet_line(figures)}", *(f"! {line}" for line in news)]
        print("\n".join(lines), flush=True)


def _write_postmortems(files: Postmortems, aggregator: Aggregator, options: argparse.Namespace) -> None:
    """Write what is new; a full disk is complained of once, and does not end the aggregator."""
    before = files.complaint
    for path in files.write(aggregator.obituaries()):
        _say(options, aggregator.name, "postmortem", f"wrote {path}", path=path)
    if files.complaint not in (None, before):
        tell(STDERR, f"shmetrics: {files.complaint}")


def _alerts(until: ExitStack, path: str, hub: Segment, aggregator: Aggregator) -> LeaderAlerts:
    """The rules of a file, for as long as this process runs."""
    from shmetrics.exporters.alerts import dispatch_of  # noqa: PLC0415  mail and HTTP, for whoever has rules

    alerts = LeaderAlerts(path, hub, aggregator.history, lambda file: dispatch_of(file, os.environ))
    until.callback(alerts.close)
    return alerts


def _alert(
    options: argparse.Namespace, aggregator: Aggregator, alerts: LeaderAlerts, figures: Statistics, ending: Ending
) -> None:
    """Judge the rules at a tick, and until the next is due whenever something happens that may matter to them."""
    said = alerts.reload()
    if said is not None:
        _say(options, aggregator.name, "rules", said, message=said)
    fleet = aggregator.history.latest
    assert fleet is not None, "a tick added it"
    _tell(options, aggregator.name, alerts.look(fleet, lambda: figures))
    deadline = time.monotonic() + options.interval
    while not ending.asked() and (left := deadline - time.monotonic()) > 0.0:
        early = aggregator.wait(left, until=lambda: ending.asked() or alerts.tripped())
        if not early or not alerts.has_tripped or alerts.wants_a_tick:
            return  # it is time, or somebody rang, or died
        start = time.monotonic()
        alerts.arm()
        fleet = aggregator.look()
        _tell(options, aggregator.name, alerts.look(fleet, lambda fleet=fleet: aggregator.figures(fleet)))  # type: ignore[misc]
        alerts.rest(time.monotonic() - start)


def _tell(options: argparse.Namespace, hub: str, announced: Sequence[Alert]) -> None:
    for alert in announced:
        mark = "over" if alert.state == "resolved" else alert.severity
        text = f"! {mark} {alert.type}: {alert.message}"
        if not options.quiet:
            text = f"{time.strftime('%H:%M:%S')}  {text}"
        _say(options, hub, "alert", text, alert=alert.as_dict())


def _serve_pages(until: ExitStack, hub: str, port: int, host: str, alerts: LeaderAlerts | None) -> str:
    """Serve the fleet's pages beside the ticks, on a view of their own; returns where."""
    from shmetrics.exporters.prometheus import Server  # noqa: PLC0415  prometheus_client, for whoever wants it
    from shmetrics.exporters.prometheus.alerting import AlertingCollector  # noqa: PLC0415  likewise

    view = until.enter_context(Hub.attach(hub))
    include = [] if alerts is None else [AlertingCollector(alerts)]
    return until.enter_context(Server(view, port, host, include=include)).url


def _history_file(options: argparse.Namespace, hub: Segment, aggregator: Aggregator) -> "HistoryFile":
    """The aggregator's history as a file, which was read now."""
    from shmetrics.history_file import HistoryFile  # noqa: PLC0415  sqlite3, which some Pythons lack, for who wants it

    def say(message: str) -> None:
        _say(options, hub.name, "history", message, message=message)

    return HistoryFile(options.history, aggregator.history, hub.name, say=say, in_background=True)


def _say(options: argparse.Namespace, hub: str, event: str, text: str, **more: object) -> None:
    line = json.dumps({"event": event, "hub": hub, **more}) if options.json else text
    if options.quiet:  # it is read among the lines of other programs
        tell(STDOUT, line if options.json else f"shmetrics: {line}")
    else:
        print(line, flush=True)


def _say_standing_by(options: argparse.Namespace, hub: str) -> None:
    """Only the leader alerts and keeps files; who gave this one rules would wait for alerts in vain, unless told."""
    idle = [f"--{name}" for name in _OF_THE_LEADER if getattr(options, name.replace("-", "_")) is not None]
    text = f"another aggregator leads hub {hub!r}; standing by"
    if idle:
        text += f"; until it ends, nothing is done here about {', '.join(idle)}, which `shmetrics run` takes as well"
    _say(options, hub, "standby", text, idle=idle)
