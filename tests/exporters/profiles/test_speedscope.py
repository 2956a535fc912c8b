"""Files for speedscope: as its schema has them (https://www.speedscope.app/file-format-schema.json)."""

import json

import pytest

from shmetrics.exporters.profiles.speedscope import speedscope
from shmetrics.profiling import Profile

ONE = Profile({("app:main", "app:run"): 60, ("app:main",): 40}, 0.01, 1.0)
OTHER = Profile({("app:main", 'app:"quoted"\n'): 7}, 0.02, 1.0)


def check_against_schema(document):
    """What the schema asks of a file with sampled profiles: each property that it requires, and its type."""
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(document) <= {"$schema", "name", "exporter", "activeProfileIndex", "profiles", "shared"}
    assert all(isinstance(document[key], str) for key in ("name", "exporter"))
    frames = document["shared"]["frames"]
    assert set(document["shared"]) == {"frames"}
    for frame in frames:
        assert set(frame) <= {"name", "file", "line", "col"}
        assert isinstance(frame["name"], str)
    for profile in document["profiles"]:
        assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert profile["type"] == "sampled"
        assert profile["unit"] in {"bytes", "microseconds", "milliseconds", "nanoseconds", "none", "seconds"}
        assert isinstance(profile["name"], str)
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(isinstance(weight, int | float) for weight in profile["weights"])
        assert all(isinstance(at, int) and 0 <= at < len(frames) for stack in profile["samples"] for at in stack)
        assert profile["endValue"] - profile["startValue"] == pytest.approx(sum(profile["weights"]))
    assert 0 <= document["activeProfileIndex"] < len(document["profiles"])


@pytest.mark.parametrize("profiles", [{"one": ONE}, {"all": OTHER, "one": ONE}, {"none": Profile({}, 0.01, 1.0)}])
def test_a_file_is_what_the_schema_wants(profiles):
    check_against_schema(json.loads(speedscope(profiles, "hub resnet")))


def test_stacks_are_frames_outermost_first_and_weigh_their_seconds():
    document = json.loads(speedscope({"one": ONE, "other": OTHER}, "hub resnet"))
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert names == ["app:main", "app:run", 'app:"quoted"\n']
    one, other = document["profiles"]
    assert (one["samples"], one["weights"]) == ([[0, 1], [0]], pytest.approx([0.6, 0.4]))
    assert (other["samples"], other["weights"]) == ([[0, 2]], pytest.approx([0.14]))
    assert [profile["name"] for profile in document["profiles"]] == ["one", "other"]
