"""`shmetrics profile`, as its users call it, on real workers."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from shmetrics import PerformanceProfiler
from shmetrics.cli import main
from shmetrics.profiling import Profile
from tests.cli import environment, run, started, until
from tests.gunicorns import gunicorns, ready
from tests.profiling.listening import address, samples_now, workers
from tests.profiling.spies import spy
from tests.profiling.workloads import assert_split, work

NEVER = ("--py-spy", "never")
APP = f"""
import os
import re
import sys
sys.path.insert(0, {os.getcwd()!r})
from tests.profiling.workloads import shared_account, work

accounts = {{}}

def app(environ, start_response):
    account = accounts.get(os.getpid())
    if account is None:
        account = accounts[os.getpid()] = shared_account(f"account-{{os.getpid()}}")
    for _ in range(20):
        work(account=account)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""


def lines_of(text):
    """Collapsed stacks as a dictionary."""
    return {tuple(stack.split(";")): int(n) for stack, _, n in (line.rpartition(" ") for line in text.splitlines())}


def test_text_says_which_functions_ran(hub_name):
    with workers(hub_name, 2) as found:
        done = run("profile", hub_name, "--seconds", "1", *NEVER)
    assert (done.returncode, done.stderr) == (0, "")
    title, account, *_ = done.stdout.splitlines()
    assert title == f"hub {hub_name}, {found[0]}, {found[1]}"
    assert "at 100 Hz" in account
    assert "tests.profiling.workloads:features" in done.stdout


def test_one_worker_in_a_file(hub_name, tmp_path):
    path = tmp_path / "profile.txt"
    with workers(hub_name, 2) as found:
        done = run("profile", hub_name, "--worker", "1", "--seconds", "0.5", "-o", str(path), *NEVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.read_text().startswith(f"hub {hub_name}, {found[1]}\n")


def test_speedscope_has_all_workers_and_each(hub_name):
    with workers(hub_name, 2) as found:
        done = run("profile", hub_name, "--seconds", "0.5", "--json", *NEVER)
    document = json.loads(done.stdout)
    assert [each["name"] for each in document["profiles"]] == ["all 2 workers", *map(str, found)]


def test_html_is_a_page(hub_name):
    with workers(hub_name):
        done = run("profile", hub_name, "--seconds", "0.5", "--format", "html", *NEVER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!doctype html>")
    assert "features" in done.stdout


def profiled(metrics):
    """A worker with a profiled function."""
    call = PerformanceProfiler(metrics).profile_function(name="app:predict")(work)
    while True:
        call()


def test_a_report_has_profiled_functions_and_flame_graphs(hub_name, tmp_path):
    path = tmp_path / "report.html"
    with workers(hub_name, 2, function=profiled):
        done = run("profile", hub_name, "--seconds", "0.5", "--format", "report", "-o", str(path), *NEVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = path.read_text()
    assert "Flame graph of whole workers" in page
    assert "<code>app:<wbr>predict</code> <small></small>" in page  # of what kind it is, only its workers know


def test_a_report_is_written_of_workers_that_cannot_be_sampled_and_of_those_that_have_ended(hub_name):
    asked = ("profile", hub_name, "--seconds", "0.5", "--format", "report", *NEVER)
    with workers(hub_name, enabled=False, function=profiled):
        refused = run(*asked)
    ended = run(*asked)
    assert refused.returncode == 1
    assert "has not enabled profiling" in refused.stderr
    assert "could not be sampled" in refused.stdout
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "No worker was live" in ended.stdout
    assert (
        refused.stdout.count("<code>app:<wbr>predict</code>")
        == ended.stdout.count("<code>app:<wbr>predict</code>")
        == 1
    )


def test_a_library_is_expanded_where_that_is_asked_for(hub_name):
    def forever(metrics):
        metrics.claim()
        while True:
            json.dumps(list(range(1000)), indent=1)

    with workers(hub_name, function=forever):
        folded, expanded = (
            lines_of(run("profile", hub_name, "--seconds", "0.5", "--format", "collapsed", *NEVER, *more).stdout)
            for more in ((), ("--expand", "json,numpy"))
        )
    assert any(stack[-1] == "json" for stack in folded)
    assert any(stack[-1].startswith("json.encoder:") for stack in expanded)


def test_four_workers_of_gunicorn_under_run_are_profiled_under_load(tmp_path, hub_name):
    runner = (sys.executable, "-m", "shmetrics", "run", "--profiling", "--name", hub_name, "--")
    with gunicorns(tmp_path, APP) as start:
        server = ready(start("--preload", runner=runner, conf="{own}"), hub=hub_name)
        with started("profile", hub_name, "--seconds", "12", "--format", "collapsed", *NEVER, stdout=-1) as process:
            while process.poll() is None:
                server.get_many(16)
            stacks, complaints = process.stdout.read(), process.stderr.read()
        server.stop()
    assert (process.returncode, complaints) == (0, "")
    accounts = [memoryview(path.read_bytes()).cast("d") for path in tmp_path.glob("account-*")]
    assert len(accounts) == 4
    assert_split(Profile(lines_of(stacks), 0.01, 48.0), accounts)
    assert any("gunicorn" in stack for stack in lines_of(stacks))


def test_a_worker_that_waits_has_nothing_to_show_but_where(tmp_path, hub_name):
    with gunicorns(tmp_path, APP) as start:
        server = ready(start(hub=hub_name, workers=1, SHMETRICS_PROFILING="1"), workers=1)
        done = run("profile", hub_name, "--seconds", "0.5", *NEVER)
        idle = run("profile", hub_name, "--seconds", "0.5", "--idle", "--format", "collapsed", *NEVER)
        server.stop()
    assert "nothing ran" in done.stdout
    assert "--idle shows where" in done.stderr
    assert done.returncode == 0
    assert "gunicorn" in idle.stdout


def test_workers_that_did_not_enable_it_are_named_and_what_to_do(hub_name):
    with workers(hub_name, 2, enabled=False) as found:
        done = run("profile", hub_name, *NEVER)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"{found[0]} has not enabled profiling: nothing listens there" in done.stderr
    assert done.stderr.count("SHMETRICS_PROFILING=1") == 1
    assert done.stderr.endswith(f"; the same of {found[1]}\n")


def test_a_worker_that_is_not_there_is_refused_with_those_that_are(hub_name):
    with workers(hub_name, 2) as found:
        done = run("profile", hub_name, "--worker", "7")
    assert done.returncode == 1
    assert f"has no live worker 7; there are: {found[0]}, {found[1]}" in done.stderr


def test_a_hub_without_workers_says_so(make_segment, hub_name):
    make_segment().close()
    assert "has no live worker; there are: none" in run("profile", hub_name).stderr


def test_a_worker_that_is_being_profiled_says_so(hub_name):
    with workers(hub_name) as found:
        connection = samples_now(found[0])
        done = run("profile", hub_name, "--seconds", "0.5", *NEVER)
        connection.close()
    assert done.returncode == 1
    assert "is being profiled by somebody else" in done.stderr


def test_of_a_worker_that_dies_there_is_what_it_said_until_then(hub_name, tmp_path):
    path = tmp_path / "profile.txt"
    arguments = ("profile", hub_name, "--seconds", "60", *NEVER)
    with busy_later(hub_name) as found, path.open("w") as file, started(*arguments, stdout=file) as process:
        until(lambda: is_busy(found[0]))
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 2.5, pause=0.1)  # a part or two have been said
        os.kill(found[0].pid, signal.SIGKILL)
        complaints = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert "has died after" in complaints
    assert "tests.profiling.workloads:features" in path.read_text()


def is_busy(target):
    """Whether somebody talks to a worker: there is its socket that listens, and one more of the same name."""
    name = "@" + address(target)[1:].decode()
    with open("/proc/net/unix") as sockets:
        return sum(line.split()[-1] == name for line in sockets) > 1


@contextmanager
def busy_later(name):
    """A worker that nobody talks to yet."""
    with workers(name) as found:
        until(lambda: not is_busy(found[0]))
        yield found


def test_ctrl_c_stops_the_worker_s_sampler(hub_name):
    arguments = ("profile", hub_name, "--seconds", "60", *NEVER)
    with busy_later(hub_name) as found, started(*arguments, stdout=subprocess.DEVNULL) as process:
        until(lambda: is_busy(found[0]))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        until(lambda: not is_busy(found[0]))


class Terminal(io.StringIO):
    """Standard error that somebody sees."""

    def isatty(self):
        return True


def test_what_there_was_before_ctrl_c_is_written(hub_name, monkeypatch, capsys, tmp_path):
    """Ctrl-C comes when the bar shows that the first second has been told."""

    class Impatient(Terminal):
        def write(self, text):
            if "] 1/60 s" in text:
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    path = tmp_path / "profile.txt"
    with workers(hub_name), monkeypatch.context() as patch:
        terminal = Impatient()
        patch.setattr(sys, "stderr", terminal)
        assert main(["profile", hub_name, "--seconds", "60", "-o", str(path), *NEVER]) == 130
    said = re.search(r"shmetrics: interrupted after (\S+) s of 60; what there was is written", terminal.getvalue())
    assert said is not None
    assert 1.0 <= float(said[1]) < 60.0
    assert "tests.profiling.workloads:features" in path.read_text()


def test_a_terminal_shows_how_far_it_is(hub_name, monkeypatch, capsys):
    with workers(hub_name), monkeypatch.context() as patch:
        terminal = Terminal()
        patch.setattr(sys, "stderr", terminal)
        assert main(["profile", hub_name, "--seconds", "2.2", *NEVER]) == 0
    shown = terminal.getvalue().split("\r")
    assert shown[1] == f"[{'.' * 30}] 0/2.2 s, 0 samples"
    assert any(re.match(r"\[#{10,20}\.{10,20}\] [12]/2\.2 s, \d+ samples", line) for line in shown)
    assert shown[-1] == "\x1b[K"  # nothing of it stays
    assert "workloads:features" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--worker", "-1"), "must be the number of a slot, or all"),
        (("--worker", "x"), "must be the number of a slot, or all"),
        (("--rate", "0"), "above 0"),
        (("--rate", "0.5"), "must be 1 look a second or more"),
        (("--rate", "1001"), "above 0 and at most 1000"),
        (("--seconds", "3601"), "above 0 and at most 3600"),
        (("--seconds", "0"), "above 0 and at most 3600"),
        (("--format", "svg"), "text, collapsed, speedscope, html"),
    ],
)
def test_what_makes_no_sense_is_refused(hub_name, arguments, complaint):
    done = run("profile", hub_name, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_file_that_cannot_be_written_is_an_error_before_anybody_is_asked(hub_name):
    with workers(hub_name):
        done = run("profile", hub_name, "--seconds", "3600", "-o", "/nonexistent/profile.txt", *NEVER)
    assert done.returncode == 1
    assert "cannot write '/nonexistent/profile.txt'" in done.stderr


def test_py_spy_is_used_where_it_is_permitted_and_asks_no_leave(hub_name):
    spy()
    with workers(hub_name, 2, enabled=False) as found:
        done = run("profile", hub_name, "--seconds", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"hub {hub_name}, {found[0]}, {found[1]}\n")
    assert "tests.profiling.workloads:features" in done.stdout


def profile_beside(directory, *arguments):
    """The finished command, of an interpreter in this directory, for which there is a py-spy there or nowhere."""
    start = f"import sys\nsys.executable = '{directory}/python'\nfrom shmetrics.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", start, "profile", *arguments, "--seconds", "0.5"]
    return subprocess.run(command, env=environment(PATH=str(directory)), capture_output=True, text=True, timeout=60)


def test_without_py_spy_always_is_refused(hub_name, tmp_path):
    with workers(hub_name):
        done = profile_beside(tmp_path, hub_name, "--py-spy", "always")
    assert done.returncode == 2
    assert "there is no py-spy on PATH; pip install py-spy" in done.stderr


@pytest.mark.parametrize("enabled", [True, False])
def test_where_py_spy_is_not_permitted_the_worker_is_asked(hub_name, tmp_path, enabled):
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\necho 'Permission Denied: no ptrace here' >&2\nexit 1\n")
    spy.chmod(0o755)
    with workers(hub_name, enabled=enabled):
        done, always = (profile_beside(tmp_path, hub_name, "--py-spy", how) for how in ("auto", "always"))
    assert done.returncode == (0 if enabled else 1)
    assert ("has not enabled profiling" in done.stderr) != enabled
    assert ("(py-spy cannot look at worker 0 " in done.stderr) != enabled
    assert always.returncode == 1
    assert "Permission Denied: no ptrace here" in always.stderr
    assert "has not enabled" not in always.stderr
