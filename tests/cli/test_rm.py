import os

import pytest

from shmetrics import PerformanceMetrics, naming
from shmetrics.aggregator import Aggregator
from shmetrics.cli import main
from tests.cli import run, strict_json


def files_of(name):
    """The segment and the semaphores of a hub."""
    file = naming.segment_file(name)
    return [entry for entry in os.listdir(naming.SHM_DIR) if entry == file or entry.startswith(f"sem.{file}.")]


@pytest.fixture
def used(hub_name):
    """The name of a hub in which this process records."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.1)
        yield hub_name


@pytest.fixture
def unused(hub_name):
    """The name of a hub in which some process recorded once."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.1)
    return hub_name


def test_segment_and_semaphores_are_removed(unused):
    assert len(files_of(unused)) == 2
    done = run("rm", unused)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"removed {unused}\n", "")
    assert files_of(unused) == []


def test_it_refuses_while_a_worker_lives(used, capsys):
    before = files_of(used)
    assert main(["rm", used]) == 1
    assert (
        f"hub {used!r} is in use by 1 live worker; stop the server and `shmetrics serve` first"
        in capsys.readouterr().err
    )
    assert files_of(used) == before


def test_it_refuses_while_an_aggregator_lives(make_segment, hub_name, capsys):
    with Aggregator(make_segment()) as aggregator:
        aggregator.try_lead()
        assert main(["rm", hub_name]) == 1
    assert "is in use by an aggregator" in capsys.readouterr().err


def test_force_removes_it_under_a_live_worker(used, capsys):
    assert main(["rm", "--force", used]) == 0
    assert capsys.readouterr().out == f"removed {used}\n"
    assert files_of(used) == []


def test_the_variable_of_force(used, monkeypatch):
    monkeypatch.setenv("SHMETRICS_FORCE", "1")
    assert main(["rm", used]) == 0


@pytest.mark.parametrize(("name", "reason"), [("t-nobody-made-this", "no hub named"), ("../passwd", "a-z, 0-9")])
def test_a_name_that_is_none_is_status_1_with_the_reason(name, reason, capsys):
    assert main(["rm", name]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert reason in said.err


def test_one_of_several_that_fails_makes_status_1_and_the_others_are_removed(unused, capsys):
    assert main(["rm", "t-nobody-made-this", unused, "Not A Name"]) == 1
    said = capsys.readouterr()
    assert said.out == f"removed {unused}\n"
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["shmetrics", "shmetrics"]


def test_json_says_what_was_removed_and_what_was_not(unused, capsys):
    assert main(["rm", "--json", unused, "t-nobody-made-this"]) == 1
    answer = strict_json(capsys.readouterr().out)
    assert answer["removed"] == [unused]
    assert list(answer["failed"]) == ["t-nobody-made-this"]


def test_a_file_that_is_refused_as_a_hub_stays_without_force(unused, capsys):
    os.chmod(naming.segment_path(unused), 0o644)
    assert main(["rm", unused]) == 1
    assert "has mode 0644" in capsys.readouterr().err
    os.chmod(naming.segment_path(unused), 0o600)


def test_force_removes_a_file_that_is_refused_as_a_hub_and_its_semaphores(unused):
    os.chmod(naming.segment_path(unused), 0o644)
    assert main(["rm", "--force", unused]) == 0
    assert files_of(unused) == []


def test_force_on_what_cannot_be_removed_is_status_1_with_the_reason(hub_name):
    """A directory under a hub's name."""
    path = naming.segment_path(hub_name)
    os.mkdir(path)
    try:
        done = run("rm", "--force", hub_name)
    finally:
        os.rmdir(path)
    assert done.returncode == 1
    assert hub_name in done.stderr
    assert "Traceback" not in done.stderr
