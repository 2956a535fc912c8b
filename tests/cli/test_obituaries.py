"""`shmetrics obituaries`: who died, for people and machines."""

import os

import pytest

from shmetrics import Hub, PerformanceMetrics, segment, slots
from shmetrics.cli import main
from tests.cli import run, run_on_terminal, strict_json, until, writing_to
from tests.processes import in_forked_child
from tests.test_forks import Child
from tests.test_obituaries import serve


@pytest.fixture
def hub(make_segment, hub_name):
    make_segment()
    return hub_name


def die(name, label="GET /predict"):
    """Let a worker be killed in the middle of a request; returns its pid."""
    target = segment.attach(name, writable=True)
    with Child(lambda: serve(target, label)) as child:
        child.make_zombie()
        slots.reap(target)
        pid = child.pid
    target.close()
    return pid


def test_each_is_a_line_with_what_it_was_serving_the_newest_last(hub, capsys):
    first, second = die(hub), die(hub, "POST /train")
    assert main(["obituaries", hub]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["noticed", "slot", "pid", "ended", "by", "age", "requests", "errors", "memory"]
    assert [f"  {pid}  " in line for pid, line in zip((first, second), lines, strict=True)] == [True, True]
    assert all("SIGKILL" in line for line in lines)
    assert "  while serving 1 request: GET /predict for " in lines[0]
    assert "  while serving 1 request: POST /train for " in lines[1]


def test_a_hub_without_any_says_so(hub, capsys):
    assert main(["obituaries", hub]) == 0
    assert capsys.readouterr().out == f"no worker of hub {hub!r} has died without giving its slot up\n"


def test_a_worker_that_gave_its_slot_up_wants_no_obituary(hub, capsys):
    def work():
        with PerformanceMetrics(name=hub, max_workers=4, max_series=16) as metrics:
            metrics.update_inference(0.1)

    in_forked_child(work)
    with Hub.attach(hub) as reading:
        assert reading.snapshot().health.slots_dead == 1
    assert main(["obituaries", hub]) == 0
    assert capsys.readouterr().out == f"no worker of hub {hub!r} has died without giving its slot up\n"


def test_the_dead_that_nobody_has_noticed_are_counted(hub, capsys):
    target = segment.attach(hub, writable=True)
    with Child(lambda: serve(target)) as child:
        child.make_zombie()
        assert main(["obituaries", hub]) == 0
        unwritten = capsys.readouterr().out
        assert main(["obituaries", hub, "--json"]) == 0
        assert capsys.readouterr().out == "[]\n"
        slots.reap(target)
    target.close()
    assert unwritten.startswith("dead workers that have no obituary yet: 1; `shmetrics serve ")
    assert main(["obituaries", hub]) == 0
    assert "no obituary yet" not in capsys.readouterr().out


def test_on_a_terminal_what_it_was_serving_has_a_line_of_its_own(hub):
    die(hub, "GET /a/path/that/is/long/enough")
    _, row, *served = run_on_terminal("obituaries", hub, NO_COLOR="1", COLUMNS="80").splitlines()
    assert "SIGKILL" in row
    assert max(len(row), *map(len, served)) <= 80
    assert " ".join("".join(served).split()).startswith("while serving 1 request: GET /a/path/that/is/long/enough for")


def test_json_has_all_that_is_known(hub):
    pid = die(hub)
    done = run("obituaries", hub, "--json")
    (each,) = strict_json(done.stdout)
    assert (each["pid"], each["exit_code"], each["signal"], each["requests"]) == (pid, -9, "SIGKILL", 300)
    assert each["requests_in_flight"][0]["label"] == "GET /predict"
    assert len(each["last_records"]) == 8


def test_stats_names_the_dead(hub):
    pid = die(hub)
    done = run("stats", hub)
    assert f"! worker {pid} in slot 0 was killed by SIGKILL " in done.stdout
    (finding,) = strict_json(run("stats", hub, "--json").stdout)["findings"]
    assert (finding["kind"], finding["level"], finding["pid"]) == ("dead_worker", "problem", pid)


def test_the_aggregator_tells_of_a_death_once_with_the_memory_it_had_and_leaves_a_file(hub, tmp_path):
    output, files = tmp_path / "output", tmp_path / "postmortems"
    target = segment.attach(hub, writable=True)
    arguments = ("serve", hub, "--interval", "0.05", "--postmortem-dir", str(files))
    with writing_to(output, *arguments), Child(lambda: serve(target)) as child:
        until(lambda: "  1 live  " in output.read_text())
        until(lambda: target.slots["notes"]["rss_bytes"][0] > 2**20)
        child.make_zombie()
        until(lambda: "was killed by SIGKILL" in output.read_text())
        seen = output.read_text().count("  0 live  ")
        until(lambda: output.read_text().count("  0 live  ") > seen + 3)
        assert output.read_text().count(f"! worker {child.pid} in slot 0 was killed by SIGKILL") == 1
    target.close()
    (file,) = files.iterdir()
    assert f"wrote {file}" in output.read_text()
    document = strict_json(file.read_text())
    assert (document["hub"], document["signal"]) == (hub, "SIGKILL")
    assert document["rss_bytes"] > 2**20


def test_a_directory_that_cannot_be_made_ends_the_aggregator_with_a_reason(hub, tmp_path):
    done = run("serve", hub, "--postmortem-dir", "/dev/null/x")
    assert done.returncode == 1
    assert "cannot make the directory" in done.stderr


def test_a_worker_that_ends_by_itself_is_told_with_its_status(hub, capsys):
    target = segment.attach(hub, writable=True)
    pid = os.fork()
    if not pid:
        serve(target)
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    slots.reap(target)
    os.waitpid(pid, 0)
    assert main(["obituaries", hub]) == 0
    assert "status 3" in capsys.readouterr().out
    target.close()
