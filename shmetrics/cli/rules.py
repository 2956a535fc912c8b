"""`shmetrics rules`: files of alert rules: is one right, what would it have said, what does Prometheus make of it."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from shmetrics.alerting import definition, replay
from shmetrics.alerting.alert import Alert
from shmetrics.alerting.definition import RuleFile
from shmetrics.alerting.rules import Rule
from shmetrics.alerting.wording import shown, span
from shmetrics.cli.options import STDOUT, add_choice, add_json, add_output, add_text
from shmetrics.errors import RulesError
from shmetrics.exporters.alerts import dispatch_of
from shmetrics.exporters.files import write_atomically

EXAMPLES: Final = """\
  shmetrics rules check rules.toml                             every mistake, with its line and what to write
  shmetrics rules test rules.toml                              its own tests: series, and what is to fire
  shmetrics rules test rules.toml --recording fleet.ndjson     what it would have said of a recorded fleet
  shmetrics rules export rules.toml --output rules.yml         the same rules for Prometheus
  shmetrics rules export rules.toml --match 'job="resnet"'
Record with `shmetrics serve resnet --json >> fleet.ndjson`; use with `shmetrics serve resnet --rules rules.toml`.
Exit status: 1 when the file has a mistake, or a test fails."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs below the verb."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="rules_verb")
    for name, text, run_it in (
        ("check", "say what is wrong with a file of rules, or list them", _check),
        ("test", "run the tests of a file of rules, or replay a recording", _test),
        ("export", "write the rules in another program's format", _export),
    ):
        sub = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("file", metavar="FILE", help="a file of rules (TOML; docs/alerting.md)")
        sub.set_defaults(run_rules=run_it)
        if name == "export":
            add_choice(sub, "--format", ("prometheus",), "prometheus", "what to write")
            add_text(sub, "--match", 'label matchers for every series, such as job="resnet"', "MATCHERS")
            add_text(sub, "--prefix", "what stands before every name on the pages")
            add_output(sub)
        add_json(sub)
        if name == "test":
            add_text(
                sub, "--recording", "what `shmetrics serve --json` printed, instead of the file's own tests", "FILE"
            )


def run(options: argparse.Namespace) -> int:
    """Run the verb below."""
    status: int = options.run_rules(options)
    return status


def _loaded(path: str) -> RuleFile:
    """The file, its receivers checked too. RulesError for what is wrong."""
    file = definition.read(path)
    dispatch_of(file, None)
    return file


# check ----------------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    file = _loaded(options.file)
    for table in file.tests:
        replay.read_test(file, table)
    file.check()
    if options.json:
        content = {
            "rules": [_as_json(rule) for rule in file.rules],
            "receivers": [table.content.get("name", table.content.get("type")) for table in file.receivers],
            "silences": len(file.silences),
            "tests": len(file.tests),
            "notes": file.notes,
        }
        print(json.dumps(content, indent=2))
        return 0
    for rule in file.rules:
        print(f"{rule.severity:<8}  {rule.name}: {_condition(rule)}")
    for note in file.notes:
        print(f"note: {note}")
    receivers = (
        ", ".join(str(table.content.get("name", table.content["type"])) for table in file.receivers)
        or "the output of serve"
    )
    print(f"{options.file} is right: {_count(len(file.rules), 'rule')}, {_count(len(file.silences), 'silence')}, "
          f"{_count(len(file.tests), 'test')}; told to {receivers}")  # fmt: skip
    return 0


def _condition(rule: Rule) -> str:
    limit, unit = rule.threshold, rule.source.unit
    text = rule.source.words
    if limit is not None:
        text += f" {'above' if rule.above is not None else 'below'} {shown(limit, unit)}"
    if rule.critical is not None and rule.severity != "critical":
        text += f", critical from {shown(rule.critical, unit)}"
    if rule.hold:
        text += f", for {span(rule.hold)}"
    return text


def _as_json(rule: Rule) -> dict[str, object]:
    return {
        "name": rule.name,
        "severity": rule.severity,
        "condition": _condition(rule),
        "threshold": rule.threshold,
        "critical": rule.critical,
        "for": rule.hold,
        "cooldown": rule.cooldown,
        "labels": dict(rule.labels),
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# test -----------------------------------------------------------------------------------------------------------------


def _test(options: argparse.Namespace) -> int:
    file = _loaded(options.file)
    if options.recording:
        return _replay(options, file)
    outcomes = [replay.run_test(file, table) for table in file.tests]
    file.check()
    done = [outcome for outcome in outcomes if outcome is not None]
    if not done:
        raise RulesError(f"{options.file}: has no [[test]]; write one (docs/alerting.md), or give --recording FILE")
    failed = sum(bool(outcome.failures) for outcome in done)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in done], indent=2))
        return 1 if failed else 0
    for outcome in done:
        print(f"{'FAILED' if outcome.failures else 'ok':<6}  {outcome.name}")
        for failure in outcome.failures:
            print(f"        {failure}")
        if outcome.failures:
            print("\n".join(f"        {line}" for line in _timeline(outcome.timeline, 0.0)))
    print(f"{len(done) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _replay(options: argparse.Namespace, file: RuleFile) -> int:
    try:
        with open(options.recording, encoding="utf-8") as lines:
            steps = replay.recorded(lines, options.recording)
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{options.recording}: cannot be read: {error}") from None
    for rule in file.rules:
        lack = replay.lacking(rule, steps)
        if lack:
            print(f"shmetrics: {rule.name} is left out: the recording lacks {lack}", file=sys.stderr)
    hub = str(steps[0].figures["hub"].get("name", ""))
    alerts = [alert for _, announced, _ in replay.announcements(file, steps, hub) for alert in announced]
    if options.json:
        print(json.dumps([alert.as_dict() for alert in alerts], indent=2))
        return 0
    print("\n".join(_timeline(alerts, steps[0].at)))
    print(f"{_count(len(alerts), 'announcement')} in {span(round(steps[-1].at - steps[0].at))}")
    return 0


def _timeline(alerts: Sequence[Alert], start: float) -> list[str]:
    marks = ["over" if alert.state == "resolved" else alert.severity for alert in alerts]
    return [
        f"+{alert.timestamp - start:8.1f} s  {mark:<8}  {alert.message}"
        for mark, alert in zip(marks, alerts, strict=True)
    ]


# export ---------------------------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    from shmetrics.exporters.prometheus.rules import export_rules  # noqa: PLC0415  prometheus_client, for whoever wants it

    file = _loaded(options.file)
    export = export_rules(file.rules, match=options.match or "", prefix=options.prefix or "")
    for left_out in export.left_out:
        print(f"shmetrics: left out: {left_out}", file=sys.stderr)
    text = json.dumps(export._asdict(), indent=2) + "\n" if options.json else export.text
    if options.output == STDOUT:
        sys.stdout.write(text)
    else:
        write_atomically(options.output, text.encode())
    return 0
