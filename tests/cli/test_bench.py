"""`shmetrics bench`: which scenarios there are, what is printed and written, and how it ends."""

import os
import pty
import signal
import subprocess
import tempfile
from contextlib import suppress

import psutil
import pytest

from shmetrics import naming
from shmetrics.benchmarks import scenarios
from shmetrics.cli import build_parser, main
from tests.cli import PATIENCE, command, environment, run, strict_json, until

QUICK = ("bench", "write-cost", "--quick", "--rounds", "2")
DONE = (0, 1)
"""1: a claim does not hold, which a moment of a busy machine may be the cause of."""


def assert_interrupted(process, said):
    """It ended by SIGINT without a word of its own; CPython has one where that came within a destructor."""
    assert said[0] == ""
    assert said[1] == "" or said[1].startswith("Exception ignored in")
    # What passes through exec() of a text, as that of a named tuple when it is imported, ends CPython by the signal.
    assert process.returncode in (130, -signal.SIGINT)


def test_the_list_has_every_scenario_with_what_it_measures():
    done = run("bench", "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == scenarios.names()
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


def test_a_scenario_that_there_is_not_is_wrong_usage_with_those_that_there_are():
    done = run("bench", "nonsense")
    assert done.returncode == 2
    assert "'write-cost'" in done.stderr


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--seed", "x"), ("write-cost", "--rounds", "1.5")])
def test_a_number_that_is_none_is_wrong_usage(arguments):
    done = run("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "whole number above 0" in done.stderr


def test_a_flag_counts_before_the_name_of_a_scenario_and_after_it():
    for arguments in (["--seed", "7", "write-cost", "--quick"], ["--quick", "write-cost", "--seed", "7"]):
        options = build_parser().parse_args(["bench", *arguments])
        assert (options.scenario, options.seed, options.quick, options.json) == ("write-cost", 7, True, False)


def test_the_text_has_the_machine_the_tables_and_the_claims_and_a_report_is_written(tmp_path):
    page = tmp_path / "report.md"
    done = run(*QUICK, "--markdown", str(page))
    assert done.returncode in DONE, done.stderr
    assert done.stderr == ""
    for each in ("governor", "load", "noise", "prometheus_client multiprocess", "wanted at least 12 x"):
        assert each in done.stdout
    assert page.read_text().startswith("# shmetrics bench\n")


def test_json_is_all_that_is_printed():
    done = run(*QUICK, "--json")
    assert done.returncode in DONE, done.stderr
    found = strict_json(done.stdout)
    assert set(found["scenarios"]) == {"write-cost"}
    assert found["scenarios"]["write-cost"]["results"]["rounds"] == 2


@pytest.mark.parametrize("flag", ["--markdown", "--html"])
@pytest.mark.parametrize("path", ["/nonexistent/report", "/"])
def test_a_place_that_cannot_be_written_to_is_said_before_anything_is_measured(flag, path, capsys):
    assert main(["bench", flag, path]) == 1
    assert capsys.readouterr().err.startswith(f"shmetrics: cannot write '{path}': ")


def test_a_page_is_written(tmp_path):
    page = tmp_path / "report.html"
    assert run(*QUICK, "--html", str(page)).returncode in DONE
    assert page.read_text().startswith("<!doctype html>")


def on_terminal(*arguments, interrupt_at="never"):
    """The status, the output, and what a terminal saw meanwhile of a command that is interrupted when that says so."""
    master, slave = pty.openpty()
    seen = b""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command(*arguments), env=environment(), stdout=output, stderr=slave) as process,
    ):
        os.close(slave)
        with suppress(OSError):  # EIO: the other end was closed
            while True:
                seen += os.read(master, 65536)
                if interrupt_at.encode() in seen:
                    process.send_signal(signal.SIGINT)
                    interrupt_at = "never"
        os.close(master)
        process.wait(PATIENCE)
        output.seek(0)
        return process.returncode, output.read().decode(), seen.decode()


def test_a_terminal_sees_how_far_it_is():
    status, _, seen = on_terminal(*QUICK)
    assert status in DONE
    assert seen.startswith("\r[..............................]   ")
    assert seen.endswith("\r\x1b[K")


def test_what_was_measured_before_an_interruption_is_reported():
    first, second, *_ = scenarios.names()
    status, output, seen = on_terminal("bench", "--quick", "--rounds", "2", interrupt_at=f"%  {second}")
    assert status == 130
    assert f"{first}: {scenarios.load(first).SUMMARY}" in output
    assert f"{second}: " not in output
    assert "shmetrics: interrupted; the scenarios that were over by then are reported" in seen


@pytest.mark.parametrize("scenario", ["pools", "alert-latency", "catalog"])
def test_what_a_terminal_interrupts_ends_without_a_word_of_its_processes(scenario):
    with subprocess.Popen(
        command("bench", scenario, "--rounds", "1000000"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        until(lambda: psutil.Process(process.pid).children())
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)
    assert_interrupted(process, said)


def test_what_is_interrupted_leaves_nothing():
    with subprocess.Popen(
        command("bench", "write-cost", "--rounds", "1000000"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip

        def files():
            return [file for file in os.listdir(naming.SHM_DIR) if f"-{process.pid}" in file]

        until(lambda: len(files()) > 1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)
    assert_interrupted(process, said)
    assert files() == []


def test_a_scenario_that_fails_says_so_and_takes_nothing_from_what_others_found(tmp_path):
    broken = tmp_path / "cc"  # a compiler that is there, and cannot compile
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = run(*QUICK, "--json", CC=str(broken))
    assert done.returncode == 1
    assert done.stderr.startswith("shmetrics: write-cost failed: CalledProcessError: ")
    found = strict_json(done.stdout)["scenarios"]["write-cost"]
    assert found["results"]["failed"].startswith("Traceback")
    assert [(each["verdict"], each["found"]) for each in found["figures"]] == [("does not hold", "CalledProcessError")]
