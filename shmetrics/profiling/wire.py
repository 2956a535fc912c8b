"""What is said between `shmetrics profile` and a worker: one JSON object a line. Pure.

    asked                   {"shmetrics": 1, "seconds": 10.0, "rate": 100.0, "idle": false}
    answered at once        {"accepted": true}  or  {"refused": "busy"}
    then every second       {"frames": [["app:predict", ""], ["numpy.linalg:solve", "numpy"]],
                             "stacks": [[[0, 1], 97]], "seconds": 1.0, "idle": 3, "skipped": 0, "cost": 0.004,
                             "last": false}

Neither side believes the other: what does not have this form, or is out of all proportion, is a WireError.
"""

import json
from typing import Any, Final, NamedTuple

from shmetrics.profiling.counts import Counts
from shmetrics.profiling.frames import Frame
from shmetrics.texts import visible

VERSION: Final = 1
LONGEST_REQUEST: Final = 4096
"""Bytes of a line that asks."""
LONGEST_ANSWER: Final = 16 << 20
"""Bytes of a line that answers; a second of a busy worker is some ten thousand."""
LONGEST: Final = 3600.0
SHORTEST: Final = 0.01
"""Seconds that can be asked for: at most, at least."""
RATES: Final = (1.0, 1000.0)
"""Looks a second that can be asked for: from, to."""

BUSY: Final = "busy"
STRANGER: Final = "stranger"
UNCLEAR: Final = "unclear"
REFUSALS: Final = (BUSY, STRANGER, UNCLEAR)
"""Why a worker refuses: it is being profiled; the other is of another user; it does not understand."""

_MOST: Final = 1 << 40
_MOST_FRAMES: Final = 60_000
_MOST_STACKS: Final = 10_000
_DEEPEST: Final = 300
_LONGEST_NAME: Final = 200


class WireError(Exception):
    """What came is nothing that the other side says; the text says what is wrong with it."""


class Request(NamedTuple):
    """What a worker is asked for."""

    seconds: float
    rate: float
    idle: bool
    """Whether threads that wait count as those that run."""


class Accepted(NamedTuple):
    """The worker begins."""


class Refused(NamedTuple):
    """The worker does not."""

    why: str
    """One of REFUSALS."""


class Part(NamedTuple):
    """What the worker found since it last said so."""

    counts: Counts
    last: bool


def address(instance: int, pid: int, start_ticks: int) -> bytes:
    """Where a worker of a hub listens: an abstract Unix socket (unix(7)), which is no file and ends with the process.

    The start of the process is in it, so nobody reaches another process that got the same number.
    """
    return f"\0shmetrics.profile.{instance:016x}.{pid}.{start_ticks}".encode()


def encode_request(request: Request) -> bytes:
    """As a line."""
    return _line({"shmetrics": VERSION, **request._asdict()})


def encode_accepted() -> bytes:
    """As a line."""
    return _line({"accepted": True})


def encode_refused(why: str) -> bytes:
    """As a line."""
    return _line({"refused": why})


def encode_part(counts: Counts, *, last: bool) -> bytes:
    """As a line, with those frames alone that its stacks have."""
    places: dict[int, int] = {}
    stacks = [
        [[places.setdefault(number, len(places)) for number in numbers], samples]
        for numbers, samples in counts.stacks.items()
    ]
    return _line(
        {
            "frames": [list(counts.frames[number]) for number in places],
            "stacks": stacks,
            "seconds": counts.seconds,
            "idle": counts.idle,
            "skipped": counts.skipped,
            "cost": counts.cost,
            "last": last,
        }
    )


def decode_request(line: bytes) -> Request:
    """What is asked for; WireError when that makes no sense."""
    found = _object(line)
    if found.get("shmetrics") != VERSION:
        raise WireError(f"version {found.get('shmetrics')!r}, where {VERSION} was wanted")
    return Request(
        _number(found.get("seconds"), SHORTEST, LONGEST), _number(found.get("rate"), *RATES), _truth(found.get("idle"))
    )


def decode_answer(line: bytes) -> Accepted | Refused | Part:
    """What a worker says; WireError when no worker says that."""
    found = _object(line)
    if found.get("accepted") is True:
        return Accepted()
    if "refused" in found:
        if found["refused"] not in REFUSALS:
            raise WireError("an unknown refusal")
        return Refused(found["refused"])
    frames = [_frame(each) for each in _list(found.get("frames"), _MOST_FRAMES)]
    counts = Counts(
        frames,
        seconds=_number(found.get("seconds"), 0.0, _MOST),
        idle=_whole(found.get("idle"), 0, _MOST),
        skipped=_whole(found.get("skipped"), 0, _MOST),
        cost=_number(found.get("cost"), 0.0, _MOST),
    )
    for each in _list(found.get("stacks"), _MOST_STACKS):
        numbers, samples = _list(each, 2, 2)
        stack = tuple(_whole(number, 0, len(frames) - 1) for number in _list(numbers, _DEEPEST, 1))
        counts.stacks[stack] = counts.stacks.get(stack, 0) + _whole(samples, 1, _MOST)
    return Part(counts, _truth(found.get("last")))


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise WireError("no JSON") from None
    if not isinstance(found, dict):
        raise WireError("no JSON object")
    return found


def _list(value: Any, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise WireError(f"no list of {least} to {most:,} elements where there must be one")
    return value


def _number(value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise WireError(f"no number from {least:g} to {most:g} where there must be one")
    return float(value)


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise WireError(f"no whole number from {least} to {most} where there must be one")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireError("neither true nor false where one of them must be")
    return value


def _frame(value: Any) -> Frame:
    name, package = _list(value, 2, 2)
    for each in (name, package):
        if not isinstance(each, str) or len(each) > _LONGEST_NAME:
            raise WireError(f"no name of at most {_LONGEST_NAME} characters where there must be one")
    return Frame(visible(name), visible(package))
