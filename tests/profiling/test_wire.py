"""What worker and asker say to one another, and what neither takes from the other."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmetrics.profiling import wire
from shmetrics.profiling.counts import Counts
from shmetrics.profiling.frames import Frame
from shmetrics.profiling.wire import Accepted, Part, Refused, Request, WireError

FRAMES = [Frame("(deeper)"), Frame("app:unused"), Frame("app:run"), Frame("numpy.linalg:solve", "numpy")]
COUNTS = Counts(FRAMES, {(2, 3): 97, (2,): 3}, seconds=1.0, idle=3, skipped=1, cost=0.004)


def part(**changes):
    return json.dumps({**json.loads(wire.encode_part(COUNTS, last=False)), **changes}).encode()


def test_what_is_asked_for_arrives():
    request = Request(10.0, 250.0, True)
    assert wire.decode_request(wire.encode_request(request)) == request


def test_answers_arrive():
    assert wire.decode_answer(wire.encode_accepted()) == Accepted()
    for why in wire.REFUSALS:
        assert wire.decode_answer(wire.encode_refused(why)) == Refused(why)


def test_what_was_found_arrives_with_the_frames_that_it_has_alone():
    found = wire.decode_answer(wire.encode_part(COUNTS, last=True))
    assert isinstance(found, Part)
    assert found.last
    assert found.counts == Counts([FRAMES[2], FRAMES[3]], {(0, 1): 97, (0,): 3}, 1.0, 3, 1, 0.004)
    assert found.counts.profile(0.01) == COUNTS.profile(0.01)
    assert b"unused" not in wire.encode_part(COUNTS, last=True)


def test_every_line_is_one():
    counts = Counts([Frame("app:\n\x1b[2J")], {(0,): 1})
    line = wire.encode_part(counts, last=False)
    assert line.count(b"\n") == 1
    found = wire.decode_answer(line)
    assert found.counts.frames == [Frame("app:??[2J")]  # nor does it drive a terminal


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": None},
        {"frames": [["app:run"]]},
        {"frames": [["app:run", None]]},
        {"frames": [["x" * 201, ""]]},
        {"frames": [["app:run", ""]] * 60_001},
        {"stacks": {}},
        {"stacks": [[[0], 1]] * 10_001},
        {"stacks": [[[0, 1]]]},
        {"stacks": [[[], 1]]},
        {"stacks": [[[2], 1]]},
        {"stacks": [[[-1], 1]]},
        {"stacks": [[[True], 1]]},
        {"stacks": [[[0] * 301, 1]]},
        {"stacks": [[[0], 0]]},
        {"stacks": [[[0], 1.5]]},
        {"stacks": [[[0], 1 << 50]]},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": "1"},
        {"idle": -1},
        {"idle": False},
        {"skipped": None},
        {"cost": []},
        {"last": 1},
    ],
)
def test_what_no_worker_says_is_refused(changes):
    with pytest.raises(WireError):
        wire.decode_answer(part(**changes))


@pytest.mark.parametrize(
    "line", [b"", b"nonsense", b"[]", b"3", b"[" * 100_000, b"\xff\xfe", b'{"refused": "because"}']
)
def test_what_is_no_answer_is_refused(line):
    with pytest.raises(WireError):
        wire.decode_answer(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["frames", "stacks", "seconds", "idle", "skipped", "cost", "last", "accepted", "refused"]), JSON)
def test_whatever_stands_in_an_answer_it_is_taken_or_refused(key, value):
    try:
        found = wire.decode_answer(part(**{key: value}))
    except WireError:
        return
    if isinstance(found, Part):
        profile = found.counts.profile(0.01)
        assert profile.samples >= 0


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_asked_it_is_taken_or_refused(line):
    with suppress(WireError):
        wire.decode_request(line)
