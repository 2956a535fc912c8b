import os

import pytest

from shmetrics import PerformanceMetrics, naming
from shmetrics.aggregator import Aggregator
from shmetrics.cli import main
from tests.cli import strict_json


@pytest.fixture
def refused(hub_name):
    """The name of a file that stands where a hub should, and is none."""
    path = naming.segment_path(hub_name)
    with open(path, "wb") as file:
        file.write(b"something else")
    os.chmod(path, 0o600)
    yield hub_name
    if os.path.exists(path):
        os.unlink(path)


def row_of(capsys, name):
    """The row of one hub; others may be there."""
    assert main(["ls", "--json"]) == 0
    (row,) = [row for row in strict_json(capsys.readouterr().out) if row["name"] == name]
    return row


def line_of(capsys, name):
    assert main(["ls"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if f"{name} " in f"{line} "]
    return line


def test_json_row_of_a_hub(make_segment, hub_name, capsys):
    size = make_segment().layout.size
    row = row_of(capsys, hub_name)
    assert row.pop("age") >= 0.0
    assert row == {
        "name": hub_name,
        "workers": 0,
        "slots": 4,
        "requests": 0,
        "aggregator": False,
        "bytes": size,
    }


def test_live_workers_and_their_requests_are_counted(hub_name, capsys):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.1)
        row = row_of(capsys, hub_name)
    assert (row["workers"], row["requests"]) == (1, 1)


def test_a_worker_that_ended_is_not_live_and_its_requests_stay(hub_name, capsys):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.1)
    row = row_of(capsys, hub_name)
    assert (row["workers"], row["requests"]) == (0, 1)


def test_an_aggregator_is_shown(make_segment, hub_name, capsys):
    with Aggregator(make_segment()) as aggregator:
        aggregator.try_lead()
        assert row_of(capsys, hub_name)["aggregator"] is True


def test_people_see_a_line_for_each_hub(make_segment, hub_name, capsys):
    make_segment().close()
    assert line_of(capsys, hub_name).split()[:4] == [hub_name, "0/4", "0", "no"]


def test_a_refused_file_is_shown_with_its_reason(refused, capsys):
    line = line_of(capsys, f"! {refused}:")
    assert f"holds only 14 bytes, too few for a hub; remove it with `shmetrics rm --force {refused}`" in line


def test_json_of_a_refused_file_has_its_reason(refused, capsys):
    row = row_of(capsys, refused)
    assert row.keys() == {"name", "error"}
    assert "too few for a hub" in row["error"]


def test_people_are_told_when_there_is_no_hub(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(naming, "SHM_DIR", str(tmp_path))
    assert main(["ls"]) == 0
    assert capsys.readouterr().out.startswith("no hubs; ")


def test_json_of_no_hub_is_an_empty_list(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(naming, "SHM_DIR", str(tmp_path))
    assert main(["ls", "--json"]) == 0
    assert strict_json(capsys.readouterr().out) == []
