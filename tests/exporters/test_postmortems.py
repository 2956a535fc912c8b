"""Post-mortem files: one for each worker that died, whole, written once, and never more than a bounded number."""

import json
import os

import pytest

from shmetrics.errors import OutputError
from shmetrics.exporters.postmortems import Postmortems
from tests.forge import obituary

NOTICED = 1_700_000_000.0
NAME = "resnet-20231114T221320Z-slot3-generation7.json"


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "var" / "postmortems"


def dead(at=0, **fields):
    known = {"serial": at + 1, "slot": 3, "generation": 7 + at, "noticed_at": NOTICED + at}
    return obituary(**{**known, **fields})


def test_a_file_says_what_the_obituary_says_and_of_which_hub(directory):
    paths = Postmortems(str(directory), "resnet").write([dead()])
    assert paths == [str(directory / NAME)]
    assert json.loads((directory / NAME).read_text()) == {"hub": "resnet", **json.loads(json.dumps(dead().as_json()))}


def test_each_is_written_once_also_by_the_next_aggregator(directory):
    first = Postmortems(str(directory), "resnet")
    assert len(first.write([dead(0), dead(1)])) == 2
    assert len(first.write([dead(0), dead(1), dead(2)])) == 1
    assert Postmortems(str(directory), "resnet").write([dead(0), dead(1), dead(2)]) == []


def test_one_of_which_more_was_said_later_is_written_again(directory):
    files = Postmortems(str(directory), "resnet")
    files.write([dead(exit_code=None)])
    assert files.write([dead(exit_code=-9)]) == [str(directory / NAME)]
    assert json.loads((directory / NAME).read_text())["signal"] == "SIGKILL"


def test_the_oldest_go_and_nothing_else_does(directory):
    files = Postmortems(str(directory), "resnet", kept=3)
    other = directory / "resnet-notes.json"
    other.write_text("{}")
    neighbour = directory / NAME.replace("resnet", "resnet-2")
    neighbour.write_text("{}")
    for at in range(10):
        files.write([dead(at)])
    names = sorted(path.name for path in directory.iterdir())
    assert len(names) == 5
    assert {other.name, neighbour.name} <= set(names)
    assert names[0] == "resnet-2-20231114T221320Z-slot3-generation7.json"
    assert names[1].startswith("resnet-20231114T221327Z")


def test_a_directory_that_cannot_be_made_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the directory"):
        Postmortems(str(tmp_path / "file" / "below"), "resnet")


def test_what_cannot_be_written_is_complained_of_and_tried_again(directory):
    files = Postmortems(str(directory), "resnet")
    os.rmdir(directory)
    assert files.write([dead()]) == []
    assert "cannot write" in files.complaint
    os.mkdir(directory)
    assert files.write([dead()]) == [str(directory / NAME)]
    assert files.complaint is None
