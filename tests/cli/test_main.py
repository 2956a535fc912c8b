"""What all verbs have in common: help, usage, environment variables, pipes."""

import argparse
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest

import shmetrics
from shmetrics import Hub
from shmetrics.cli import _VERBS, build_parser, main
from shmetrics.cli.options import hub_given, variable
from tests.cli import PATIENCE, command, environment, run, run_into_closed_pipe, run_redirected, strict_json, until


def status_of(*arguments):
    """The status with which the parser ends the process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def parsers_of(verb):
    """The parser of a verb, or those of the verbs below it."""
    parser = argparse.ArgumentParser(add_help=False)
    import_module(f"shmetrics.cli.{verb}").configure(parser)
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return list(below[0].choices.values()) if below else [parser]


def flags_in(parser):
    return [action for action in parser._actions if action.option_strings and "--help" not in action.option_strings]


def flags_of(verb):
    return [action for parser in parsers_of(verb) for action in flags_in(parser)]


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_with_examples(verb, capsys):
    assert status_of(verb, "--help") == 0
    text = capsys.readouterr().out
    assert f"shmetrics {verb}" in text.partition("examples:")[2]


def test_the_help_lists_every_verb(capsys):
    assert status_of("--help") == 0
    text = capsys.readouterr().out
    assert set(_VERBS) <= {line.split()[0] for line in text.splitlines() if line.startswith("    ")}


def test_without_a_verb_all_of_the_help_is_shown_as_wrong_usage(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "examples:" in shown.err


@pytest.mark.parametrize(
    ("verb", "hint"),
    [("stat", "did you mean 'stats'?"), ("obituary", "did you mean 'obituaries'?"), ("x", "there are ")],
)
def test_a_verb_that_there_is_not_is_wrong_usage_with_the_one_that_is_near(verb, hint, capsys):
    assert main([verb, "resnet"]) == 2
    assert capsys.readouterr().err.startswith(f"shmetrics: there is no verb {verb!r}; {hint}")


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_prints_json_on_demand(verb):
    for parser in parsers_of(verb):
        assert "--json" in [flag for action in flags_in(parser) for flag in action.option_strings]


@pytest.mark.parametrize("verb", _VERBS)
def test_the_help_of_every_flag_names_its_environment_variable(verb):
    for action in flags_of(verb):
        assert variable(action.option_strings[0]) in action.help


def test_a_verb_loads_nothing_that_only_other_verbs_need():
    code = "import sys; from shmetrics.cli import main; main(['ls']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "shmetrics.cli.ls" in loaded
    assert not {"shmetrics.cli.serve", "shmetrics.alerting", "prometheus_client", "sqlite3"} & set(loaded)


def test_the_module_runs_as_a_program():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"shmetrics {shmetrics.__version__}\n")


def test_a_verb_that_needs_a_hub_says_which_there_are_and_how_to_name_it(capsys, make_segment, hub_name):
    make_segment()
    for verb in ("stats", "serve"):
        assert main([verb]) == 2
        said = capsys.readouterr().err
        assert "which hub? Give its name, or set SHMETRICS_HUB" in said
        assert hub_name in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("rm",),
        ("ls", "surplus"),
        ("stats", "a", "--frobnicate"),
        ("stats", "a", "--interval"),
        ("stats", "a", "--interval", "soon"),
        ("stats", "a", "--interval", "0"),
        ("stats", "a", "--max-age", "-1"),
        ("stats", "a", "--max-age", "nan"),
        ("stats", "a", "--interval", "1e300"),
        ("serve", "a", "--interval", "inf"),
        ("serve", "a", "--interval", "1e-9"),
        ("stats", "a", "--interval", "0.009"),
        ("demo", "--seconds", "0"),
    ],
)
def test_wrong_usage_is_status_2_with_a_hint_on_stderr(arguments, capsys):
    assert status_of(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: shmetrics")


@pytest.mark.parametrize("verb", ["stats", "serve"])
@pytest.mark.parametrize(("name", "reason"), [("Not A Name", "a-z, 0-9"), ("t-nobody-made-this", "no hub named")])
def test_a_hub_that_cannot_be_had_is_status_1_with_the_reason_on_stderr(verb, name, reason):
    done = run(verb, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("shmetrics: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["ls", "doctor", "stats", "gc"])
@pytest.mark.parametrize("how", [">/dev/full", ">&-", "<&- >&- 2>&-"])
def test_an_output_that_takes_nothing_is_no_traceback(make_segment, hub_name, verb, how):
    """A full disk is a failure, and said; a closed output is what the caller wanted."""
    make_segment()
    arguments = [*command(verb), *([hub_name] if verb == "stats" else []), *(["--dry-run"] if verb == "gc" else [])]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {how}', "sh", *arguments],
        env=environment(), stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if "full" in how:
        assert done.returncode == 1
        assert done.stderr.startswith("shmetrics: cannot write to standard output: No space left on device")
    else:
        assert (done.returncode in ((0, 1) if verb == "doctor" else (0,)), done.stderr) == (True, "")


def test_what_the_system_refuses_is_said_and_is_no_traceback(make_segment, hub_name):
    """Without descriptors, as an example."""
    make_segment()
    code = (
        "import resource, sys; from shmetrics.cli import main; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); sys.exit(main(sys.argv[1:]))"
    )
    for arguments in (["ls"], ["doctor"], ["gc", "--dry-run"], ["rm", hub_name], ["stats", hub_name]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 1, arguments
        assert done.stderr.startswith("shmetrics: [Errno 24] Too many open files")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "on"), [("1", True), ("YES", True), ("y", True), ("0", False), ("off", False), ("", False)]
)
def test_a_variable_turns_a_switch_on(monkeypatch, setting, on):
    monkeypatch.setenv("SHMETRICS_JSON", setting)
    assert build_parser().parse_args(["ls"]).json is on


def test_a_variable_sets_a_number(monkeypatch):
    monkeypatch.setenv("SHMETRICS_INTERVAL", "0.25")
    assert build_parser().parse_args(["stats", "a"]).interval == 0.25


@pytest.mark.parametrize("setting", ["maybe", "2", " "])
def test_a_switch_whose_variable_says_neither_yes_nor_no_is_status_2_and_said(monkeypatch, capsys, setting):
    """To take it for no would make `gc` remove what somebody only wanted to see."""
    monkeypatch.setenv("SHMETRICS_DRY_RUN", setting)
    assert status_of("gc") == 2
    assert "--dry-run: its variable must be 1 or 0, yes or no" in capsys.readouterr().err
    assert build_parser().parse_args(["gc", "--dry-run"]).dry_run is True
    assert build_parser().parse_args(["ls"]).json is False


def test_a_flag_beats_its_variable(monkeypatch):
    monkeypatch.setenv("SHMETRICS_INTERVAL", "0.25")
    assert build_parser().parse_args(["stats", "a", "--interval", "3"]).interval == 3.0


@pytest.mark.parametrize("setting", ["soon", "-1", "nan"])
def test_a_variable_that_is_no_number_is_status_2_and_said(monkeypatch, capsys, setting):
    monkeypatch.setenv("SHMETRICS_INTERVAL", setting)
    assert status_of("stats", "a") == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert "--interval" in complaint
    assert setting in complaint


def test_a_bad_variable_disturbs_only_the_verbs_that_use_it(monkeypatch):
    monkeypatch.setenv("SHMETRICS_INTERVAL", "soon")
    assert build_parser().parse_args(["ls"]).json is False


@pytest.mark.parametrize("verb", ["stats", "serve"])
def test_the_hub_variable_is_the_default_name(monkeypatch, verb):
    monkeypatch.setenv("SHMETRICS_HUB", "resnet")
    assert hub_given(build_parser().parse_args([verb])) == "resnet"
    assert hub_given(build_parser().parse_args([verb, "other"])) == "other"


@pytest.mark.parametrize("verb", ["stats", "serve", "doctor"])
def test_a_hub_variable_that_cannot_name_a_hub_is_named_itself(monkeypatch, capsys, verb):
    monkeypatch.setenv("SHMETRICS_HUB", "Not A Name")
    assert main([verb]) == 1
    assert capsys.readouterr().err.startswith("shmetrics: environment variable SHMETRICS_HUB: hub name must be")
    assert main([verb, "Not A Name"]) == 1
    assert "SHMETRICS_HUB" not in capsys.readouterr().err


def test_nothing_is_removed_because_of_a_variable(monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", "resnet")
    assert status_of("rm") == 2


def test_variables_reach_a_real_process(make_segment, hub_name):
    make_segment().close()
    done = run("stats", SHMETRICS_HUB=hub_name, SHMETRICS_JSON="1")
    assert strict_json(done.stdout)["hub"]["name"] == hub_name


@pytest.mark.parametrize("arguments", [("--help",), ("stats", "--help"), ("--version",), ("ls",)])
def test_a_reader_that_went_away_is_no_error(arguments):
    assert run_into_closed_pipe(*arguments) == (0, "")


@pytest.mark.parametrize("arguments", [("stats",), ("stats", "--watch", "--json"), ("serve",)])
def test_a_reader_of_a_hub_that_went_away_is_no_error(arguments, make_segment, hub_name):
    make_segment().close()
    assert run_into_closed_pipe(*arguments, hub_name) == (0, "")


# Where the output goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("--help",), ("stats", "--help"), ("--version",), ("ls",), ("gc", "--dry-run")])
def test_output_that_cannot_be_written_is_status_1_with_the_reason_in_a_line(arguments, unbuffered):
    done = run_redirected(">/dev/full", *arguments, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "shmetrics: cannot write to standard output: No space left on device; "
        "look at the file or device that it goes to"
    ]


@pytest.mark.parametrize("arguments", [("stats", "--watch"), ("stats", "--json"), ("serve",), ("doctor",), ("export",)])
def test_output_of_a_hub_that_cannot_be_written_is_status_1_with_the_reason(arguments, make_segment, hub_name):
    make_segment().close()
    done = run_redirected(">/dev/full", *arguments, hub_name)
    assert done.returncode == 1
    assert done.stderr.startswith("shmetrics: cannot write to standard output: No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_a_standard_output_that_is_open_for_reading_only_is_status_1_with_the_reason():
    done = run_redirected("1</dev/null", "ls")
    assert done.returncode == 1
    assert done.stderr.startswith("shmetrics: cannot write to standard output: Bad file descriptor")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("ls",), ("gc", "--dry-run", "--json")])
@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_standard_output_that_is_closed_is_as_good_as_dev_null(arguments, closed):
    done = run_redirected(closed, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_what_nobody_can_be_told_does_not_go_to_standard_output_and_keeps_its_status(stderr):
    for arguments, status in (("stats", "t-nobody-made-this"), 1), (("stats",), 2):
        done = run_redirected(stderr, *arguments)
        assert (done.returncode, done.stdout) == (status, "")


def test_a_hub_never_gets_the_number_of_a_closed_stream(make_segment, hub_name):
    """The aggregator has the hub open for writing; what a child of it writes to its stdout must not go there."""
    make_segment().close()
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("serve", hub_name)]) as process:
        try:
            with Hub.attach(hub_name) as hub:
                until(lambda: hub.has_aggregator)
            streams = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
    assert streams == [os.devnull] * 3
    assert process.returncode == 0
