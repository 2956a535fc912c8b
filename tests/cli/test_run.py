"""`shmetrics run`: the command as if nobody stood between, a hub for it, and the aggregator beside it."""

import argparse
import os
import re
import signal
import socket
import subprocess
import urllib.request

import psutil
import pytest

from shmetrics import PerformanceMetrics, naming, segment
from shmetrics.cli import serve
from shmetrics.errors import HubInUseError
from shmetrics.hub import Hub, remove
from tests.cli import PATIENCE, command, environment, run, run_redirected, strict_json, until
from tests.runs import LISTEN, RECORD, aggregator_of, files_of, running, script

NOTHING = re.compile(r"shmetrics: nothing was recorded in hub '[a-z0-9_-]+'; with a server other than gunicorn .*\n")


# The command's end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
    ],
)
def test_its_status_is_that_of_the_command(code, status):
    assert run("run", "--", *script(code)).returncode == status


def test_a_command_that_there_is_not_is_status_127():
    done = run("run", "--", "no-such-command")
    assert done.returncode == 127
    assert done.stderr.startswith("shmetrics: cannot run 'no-such-command': there is no such command")


@pytest.mark.parametrize("made", ["a file without permission", "a directory", "no program"])
def test_a_command_that_cannot_be_executed_is_status_126(tmp_path, made):
    path = tmp_path / "command"
    if made == "a directory":
        path.mkdir()
    else:
        path.write_text("true\n")
        path.chmod(0o700 if made == "no program" else 0o600)
    done = run("run", "--", str(path))
    assert done.returncode == 126
    assert re.fullmatch(rf"shmetrics: cannot run '{path}': [A-Z][a-z ]+\n", done.stderr)


def test_no_command_is_wrong_usage():
    for arguments in (), ("--",), ("--keep",):
        done = run("run", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("shmetrics: run what?")


def test_a_name_that_no_hub_can_have_is_status_125_and_nothing_is_run(tmp_path):
    mark = tmp_path / "mark"
    done = run("run", "--name", "No Name", "--", "touch", str(mark))
    assert done.returncode == 125
    assert done.stderr.startswith("shmetrics: hub name must be")
    assert not mark.exists()


def test_a_hub_that_cannot_be_made_is_status_125_and_says_why():
    done = run("run", "--window-size", "1000000", "--max-workers", "1024", "--", "true")
    assert done.returncode == 125
    assert "bytes of shared memory" in done.stderr


@pytest.mark.parametrize("separated", [["--"], []])
def test_everything_after_the_command_is_the_commands(separated):
    done = run("run", *separated, *script("import sys; print(sys.argv[1:])"), "--", "--name", "x", "--json", "-h")
    assert done.stdout == "['--', '--name', 'x', '--json', '-h']\n"


# What the command sees ------------------------------------------------------------------------------------------------


def test_nothing_is_written_between_the_commands_lines():
    code = RECORD + "import sys; print('out'); print('err', file=sys.stderr)"
    done = run("run", "--", *script(code))
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_standard_input_is_the_commands():
    done = subprocess.run(
        command("run", "--", *script(RECORD + "print(input())")), input="hello\n",
        env=environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout == "hello\n"


def test_the_command_starts_with_no_signal_blocked_or_ignored_that_was_not(tmp_path):
    look = ["sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"]
    alone = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    assert run("run", "--", *look).stdout == alone


def test_descriptors_are_inherited_and_sockets_of_systemd_are_for_the_command():
    reading, writing = os.pipe()
    code = f"import os; os.write({writing}, os.environ['LISTEN_PID'].encode() + b' %d' % os.getpid())"
    # The shell becomes `shmetrics run`, whose number systemd would have given.
    shell = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command("run", "--", *script(code))]
    subprocess.run(shell, env=environment(), pass_fds=[writing], timeout=PATIENCE, check=True)
    os.close(writing)
    with open(reading) as file:
        meant, command_itself = file.read().split()
    assert meant == command_itself


# The hub --------------------------------------------------------------------------------------------------------------


def test_the_hub_is_there_for_the_command_and_goes_with_it():
    code = RECORD + "import os; print(os.environ['SHMETRICS_HUB'], metrics.name, os.getppid())"
    done = run("run", "--", *script(code))
    named, used, parent = done.stdout.split()
    assert named == used
    assert re.fullmatch(rf"run-python[0-9-]*-{parent}-[0-9a-f]{{8}}", named)
    assert naming.owner_of(named) == int(parent)
    assert files_of(named) == []


@pytest.mark.parametrize("way", ["--name", "SHMETRICS_NAME", "SHMETRICS_HUB"])
def test_a_named_hub_stays_and_is_used_again(hub_name, way):
    arguments, variables = (["--name", hub_name], {}) if way == "--name" else ([], {way: hub_name})
    for _ in range(2):
        assert run("run", *arguments, "--", *script(RECORD), **variables).returncode == 0
    with Hub.attach(hub_name) as hub:
        assert hub.statistics()["total_requests"] == 2


def test_a_hub_without_a_name_may_be_kept_and_its_name_is_told(tmp_path):
    with running(tmp_path, "--keep", "--", *script(RECORD)) as process:
        told = process.stderr.read()  # to its end; not waited for, the process is still to be seen, and so no leftover
        name = re.fullmatch(r"shmetrics: hub '(.+)' is kept: `shmetrics stats .*\n", told)[1]
        assert naming.owner_of(name) == process.pid
        with Hub.attach(name) as hub:
            assert hub.statistics()["total_requests"] == 1
        assert run("rm", name).returncode == 0


def test_its_dimensions_may_be_chosen(hub_name):
    run("run", "--name", hub_name, "--window-size", "7", "--max-workers", "3", "--max-series", "40", "--", "true")
    target = segment.attach(hub_name)
    assert (target.layout.window_size, target.layout.max_workers, target.layout.max_series) == (7, 3, 40)
    target.close()


def test_those_of_a_hub_that_exists_stand_and_it_is_said(hub_name):
    PerformanceMetrics(name=hub_name, max_workers=3).close()
    said = f"shmetrics: hub '{hub_name}' exists with window_size=100, max_workers=3, max_series=1024, which stands;"
    assert run("run", "--name", hub_name, "--max-workers", "5", "--", *script(RECORD)).stderr.startswith(said)
    assert NOTHING.fullmatch(run("run", "--name", hub_name, "--max-workers", "3", "--", "true").stderr)


def test_a_number_that_is_none_is_wrong_usage():
    done = run("run", "--max-workers", "many", "--", "true")
    assert done.returncode == 2
    assert "must be a whole number above 0, not 'many'" in done.stderr


def test_that_nothing_was_recorded_is_said(hub_name):
    PerformanceMetrics(name=hub_name).update_inference(0.1)  # by somebody else, before
    assert NOTHING.fullmatch(run("run", "--name", hub_name, "--", "true").stderr)


def test_a_command_that_failed_has_said_why_itself():
    assert run("run", "--", "false").stderr == ""


def test_json_is_an_object_a_line_on_standard_error():
    done = run("run", "--json", "--", "true")
    event = strict_json(done.stderr)
    assert (event["event"], done.stdout) == ("run", "")
    assert event["text"].startswith(f"nothing was recorded in hub '{event['hub']}'")
    assert strict_json(run("run", "--json", "--", "no-such-command").stderr)["text"].startswith("cannot run")


# The aggregator -------------------------------------------------------------------------------------------------------


def test_an_aggregator_runs_beside_the_command_and_ends_with_it(tmp_path):
    with running(tmp_path, "--", *script(LISTEN, "SIGTERM")) as process:
        aggregator = aggregator_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5
        assert not aggregator.is_running()
        assert process.stderr.read() == ""


def test_it_gets_the_arguments_that_are_for_it(tmp_path):
    given = {"--interval": "0.5", "--host": "127.0.0.1", "--port": "0"}
    with running(tmp_path, *(f"{flag}={value}" for flag, value in given.items()), "--", "sleep", "60") as process:
        url = re.fullmatch(r"shmetrics: serving (http://127.0.0.1:\d+/metrics)\n", process.stderr.readline())[1]
        with urllib.request.urlopen(url, timeout=PATIENCE) as page:
            assert "shmetrics_" in page.read().decode()
        arguments = aggregator_of(process).cmdline()
        assert "--quiet" in arguments
        assert "--interval=0.5" in arguments


def test_every_argument_of_the_aggregator_is_passed_on():
    parser = argparse.ArgumentParser(add_help=False)
    serve.configure_aggregator(parser)
    values = {"interval": 2.0, "port": 1, "host": "::1"}
    flags = {action.option_strings[0]: action.dest for action in parser._actions}
    options = argparse.Namespace(**{dest: values.get(dest, "3") for dest in flags.values()})
    passed = dict(argument.split("=") for argument in serve.arguments_of_aggregator(options))
    assert passed == {flag: str(getattr(options, dest)) for flag, dest in flags.items()}


def test_a_port_that_is_taken_is_told_and_the_command_goes_on(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(tmp_path, "--port", port, "--", *script(LISTEN, "SIGTERM")) as process:
            assert "in use" in process.stderr.readline()
            assert process.stderr.readline() == (
                "shmetrics: the aggregator ended with status 1; the command goes on without it\n"
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 5


def test_an_aggregator_that_was_killed_is_followed_by_another(tmp_path):
    with running(tmp_path, "--", "sleep", "60") as process:
        first = aggregator_of(process)
        first.kill()
        assert process.stderr.readline() == "shmetrics: the aggregator was killed by SIGKILL; another starts in 5 s\n"
        assert until(lambda: aggregator_of(process)).pid != first.pid


def test_where_its_words_are_lost_the_status_is_the_commands_all_the_same():
    for ending, status in (("exit 3", 3), ("exit 0", 0)):  # after the second it has something to say
        assert run_redirected("2>/dev/full", "run", "--", "sh", "-c", ending).returncode == status
    assert run_redirected("2>/dev/full", "run", "--", "shmetrics-no-such-command").returncode == 127


def test_it_outlives_whoever_read_its_words_and_so_does_its_aggregator(tmp_path):
    with running(tmp_path, "--", *script(LISTEN, "SIGTERM")) as process:
        process.stderr.close()
        process.stderr = None
        first = aggregator_of(process)
        first.kill()  # of which it tells
        first.wait(PATIENCE)
        until(lambda: aggregator_of(process).pid != first.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5


DIE = """
import os, signal, time
from shmetrics import PerformanceMetrics
from shmetrics.hub import Hub
metrics = PerformanceMetrics()
hub = Hub.attach(metrics.name)
while not hub.has_aggregator:
    time.sleep(0.05)
if {in_a_child} and os.fork():
    os.wait()
else:
    metrics.claim()
    with metrics.request():
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("in_a_child", "status", "exit_code"), [(0, 137, -signal.SIGKILL), (1, 0, None)])
def test_a_death_that_ends_the_command_is_told_and_has_an_obituary(hub_name, in_a_child, status, exit_code):
    """Its own, of which it knows how it came; or that of a worker, with which many servers end at once."""
    done = run("run", "--name", hub_name, "--", *script(DIE.format(in_a_child=in_a_child)))
    assert done.returncode == status
    assert "while serving 1 request" in done.stderr
    with Hub.attach(hub_name) as hub:
        (obituary,) = hub.obituaries()
    assert (obituary.exit_code, obituary.in_flight) == (exit_code, 1)


ORPHAN = """
import os, signal, time
from shmetrics import PerformanceMetrics
metrics = PerformanceMetrics()
reading, writing = os.pipe()
if os.fork() == 0:
    metrics.claim()
    os.write(writing, b"ready")
    time.sleep(60)
os.read(reading, 5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_removed(name):
    """Whether a hub could be removed: not while somebody uses it."""
    try:
        remove(name)
    except HubInUseError:
        return False
    return True


@pytest.mark.parametrize("named", [True, False])
def test_workers_that_outlive_a_killed_command_are_told_of_and_keep_their_hub(tmp_path, hub_name, named):
    name = ["--name", hub_name] if named else []
    with (tmp_path / "said").open("w") as said, running(tmp_path, *name, "--", *script(ORPHAN), stderr=said) as process:
        assert process.wait(PATIENCE) == 137
        found = re.fullmatch(
            r"shmetrics: the command has ended with status 137, and left 1 worker: process (\d+); "
            r"`shmetrics stats (.*)` shows what becomes of them"
            r"(; hub '.*' stays for them, until `shmetrics gc` after their end)?\n",
            (tmp_path / "said").read_text().splitlines(keepends=True)[-1],
        )
        assert (found[2] == hub_name, found[3] is None) == (named, named)
        with Hub.attach(found[2]) as hub:
            assert [worker.pid for worker in hub.snapshot().workers if worker.alive] == [int(found[1])]
        os.kill(int(found[1]), signal.SIGKILL)
    if not named:
        until(lambda: is_removed(found[2]))


def test_killed_itself_it_leaves_the_command_and_a_hub_that_works_and_no_aggregator(tmp_path, hub_name):
    ready = tmp_path / "ready"
    code = RECORD + f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    with running(tmp_path, "--name", hub_name, "--", *script(code)) as process:
        until(ready.exists)
        aggregator = aggregator_of(process, hub_name)
        (worker,) = (child for child in psutil.Process(process.pid).children() if child.pid != aggregator.pid)
        process.kill()
        process.wait()
        until(lambda: not aggregator.is_running() or aggregator.status() == psutil.STATUS_ZOMBIE)
        assert worker.is_running()
        with Hub.attach(hub_name) as hub:
            assert (hub.statistics()["total_requests"], hub.statistics()["active_workers"]) == (1, 1)
