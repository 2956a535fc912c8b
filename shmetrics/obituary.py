"""An obituary: what is known of a worker that died, as one entry of the hub's list. Pure.

Whoever reaps a worker that did not give its slot up writes one (`obituaries`), as JSON in an entry of fixed size
(``layout.OBITUARY``). What is read was possibly written by anybody, so it becomes a checked `Obituary`, or nothing.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from shmetrics.board import RequestInFlight
from shmetrics.folded import Rows
from shmetrics.layout import OBITUARY
from shmetrics.texts import counted, duration, printable

RECORDS: Final = 8
"""The last records of a worker that its obituary keeps."""
REQUESTS: Final = 16
"""The oldest requests in flight that it keeps."""
PAYLOAD: Final = OBITUARY.size_of("payload")

_LOWEST, _HIGHEST = -64, 255
_MOST: Final = 1 << 53
"""What a serial number or a count can be at most."""
ORDERLY: Final = (None, 0, -signal.SIGTERM, -signal.SIGINT)
"""Exit codes that say nothing, or that the process was asked to end."""
_ABORTED: Final = " (it aborted, or ran into gunicorn's --timeout)"
_SHOWN: Final = 3
_COLUMNS: Final = ("inference_time", "batch_size", "preprocessing_time", "quantization_time")


@dataclass(frozen=True)
class Obituary:
    """One worker that died. Times are in seconds before its death was noticed, unless their name says otherwise."""

    serial: int
    """Obituaries are numbered from 1 in the order in which they were written."""
    slot: int
    generation: int
    pid: int
    role: str
    exit_code: int | None
    """As `subprocess` has it: an exit status, or minus the signal that ended it; None when nobody could tell."""
    oom_kills: int
    """Processes that the kernel killed for want of memory at about that time: what may have ended it."""
    noticed: float
    """Monotonic."""
    noticed_at: float
    """Since the epoch."""
    age: float
    """Since it took its slot."""
    silent: float
    """Since it last recorded, folded or claimed, or began a request that it still served."""
    believed: bool
    """Whether its counts could be; where they could not they are 0, and there are no records."""
    requests: int
    errors: int
    cache_hits: int
    cache_misses: int
    rss_bytes: int | None
    """Resident memory when an aggregator last looked; None when none ever did."""
    in_flight: int
    requests_in_flight: tuple[dict[str, Any], ...]
    """``label`` and ``age`` of the oldest."""
    last_records: tuple[dict[str, Any], ...]
    """``age`` and the four measurements of each, oldest first; null for what is no finite number."""

    @property
    def is_news(self) -> bool:
        """Whether it is worth telling of: it crashed; or it was asked to end, or nobody knows, and lost requests."""
        return self.exit_code not in ORDERLY or (self.in_flight > 0 and self.exit_code != 0)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for machines; ``signal`` names the one that ended it."""
        document = asdict(self)
        del document["noticed"]
        return document | {"signal": signal_name(self.exit_code), "how": how(self)}


def ending_word(exit_code: int) -> int:
    """An exit code as a slot's notes and an obituary's entry keep it; 0, nobody knows, for one that cannot be."""
    return exit_code - _LOWEST + 1 if _LOWEST <= exit_code <= _HIGHEST else 0


def exit_code_of(word: int) -> int | None:
    """What an ending word says; None when it says nothing."""
    return word + _LOWEST - 1 if 1 <= word <= _HIGHEST - _LOWEST + 1 else None


def signal_name(exit_code: int | None) -> str | None:
    """The name of the signal that an exit code stands for, None for an exit status."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"  # a real-time signal


def payload_of(
    facts: dict[str, Any], requests: Sequence[RequestInFlight], rows: Sequence[Any] | Rows, noticed: float
) -> bytes:
    """The JSON of an entry: `facts`, and with them the requests in flight and the last records, as many as fit."""
    in_flight = [
        {"label": request.label, "age": _number(max(0.0, noticed - request.started_at))}
        for request in requests[:REQUESTS]
    ]
    records = [
        {"age": _number(noticed - row["time"]), **{name: _number(row[name]) for name in _COLUMNS}}
        for row in rows[-RECORDS:]
    ]
    while True:
        document = {**facts, "requests_in_flight": in_flight, "last_records": records}
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        if len(text) <= PAYLOAD:
            return text
        longer = in_flight if len(in_flight) > len(records) else records
        del longer[len(longer) // 2 :]  # the newest requests, and the newest records: they fit as a rule


def _number(value: Any) -> float | None:
    """To the microsecond, so that it is short; None for what JSON cannot say."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None


def parse(entry: Any) -> Obituary | None:
    """What a private copy of an entry says; None where it says nothing that can be."""
    serial, length = int(entry["serial"]), int(entry["length"])
    if not (0 < serial < _MOST and 0 < length <= PAYLOAD):
        return None
    try:
        known = json.loads(bytes(entry["payload"])[:length])
        json.dumps(known, allow_nan=False).encode()
        return Obituary(
            serial=serial,
            slot=_count(int(entry["slot"])),
            generation=_count(int(entry["generation"])),
            pid=_count(int(entry["pid"])),
            exit_code=exit_code_of(int(entry["ending"])),
            role=printable(_text(known["role"]).encode()),
            oom_kills=_count(known["oom_kills"]),
            noticed=_time(known["noticed"]),
            noticed_at=_time(known["noticed_at"]),
            age=_time(known["age"]),
            silent=_time(known["silent"]),
            believed=known["believed"] is True,
            requests=_count(known["requests"]),
            errors=_count(known["errors"]),
            cache_hits=_count(known["cache_hits"]),
            cache_misses=_count(known["cache_misses"]),
            rss_bytes=None if known["rss_bytes"] is None else _count(known["rss_bytes"]),
            in_flight=_count(known["in_flight"]),
            requests_in_flight=tuple(
                {"label": printable(_text(request["label"]).encode()), "age": _time(request["age"])}
                for request in known["requests_in_flight"]
            ),
            last_records=tuple(
                {name: _number_or_none(record[name]) for name in ("age", *_COLUMNS)} for record in known["last_records"]
            ),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(f"{value!r} is no count")
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0.0 <= value < _MOST:
        raise ValueError(f"{value!r} is no time")
    return float(value)


def _number_or_none(value: Any) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"{value!r} is no number")
    return None if value is None else float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


# For people -----------------------------------------------------------------------------------------------------------


def how(obituary: Obituary) -> str:
    """How it ended: "was killed by SIGKILL"."""
    code = obituary.exit_code
    if code is None:
        ended = "ended, how is not known"
    elif code < 0:
        ended = f"was killed by {signal_name(code)}{_ABORTED if code == -signal.SIGABRT else ''}"
    else:
        ended = f"exited with status {code}"
    return f"{ended} ({oom_remark(obituary)})" if obituary.oom_kills else ended


def oom_remark(obituary: Obituary) -> str:
    """What the kernel says of memory: a strong hint, no proof that it was this process."""
    kills = "a process" if obituary.oom_kills == 1 else f"{obituary.oom_kills:,} processes"
    return f"at about that time the kernel killed {kills} for want of memory"


def way(obituary: Obituary) -> str:
    """How it ended, in a word or two: "SIGKILL", "status 3", "unknown"."""
    if obituary.exit_code is None:
        return "unknown"
    return signal_name(obituary.exit_code) or f"status {obituary.exit_code}"


def work(obituary: Obituary) -> str:
    """What it was serving: "1 request: GET /predict for 3.2 s"."""
    count, shown = obituary.in_flight, obituary.requests_in_flight[:_SHOWN]
    text = counted(count, "request")
    if not shown:
        return text
    more = ", ..." if count > len(shown) else ""
    return (
        f"{text}: "
        + ", ".join(f"{each['label'] or 'one'} for {lasting(obituary, each['age'])}" for each in shown)
        + more
    )


def lasting(obituary: Obituary, seconds: float) -> str:
    """How long something went on that its death ended; at most, where nobody knows when that was."""
    return f"{'up to ' if obituary.exit_code is None else ''}{duration(seconds)}"


def sentence(obituary: Obituary, now: float) -> str:
    """Who, how, when and over what, at the monotonic time `now`."""
    serving = f" while serving {work(obituary)}" if obituary.in_flight else ""
    when = f"{duration(max(0.0, now - obituary.noticed))} ago"
    if obituary.exit_code is None:
        when = f"(noticed {when}, last seen {duration(obituary.silent)} before)"
    return f"worker {obituary.pid} in slot {obituary.slot} {how(obituary)} {when}{serving}"
