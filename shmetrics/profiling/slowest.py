"""The slowest calls of a function: what each process remembers, and what is left of it for the others. Pure.

A process remembers its ten slowest calls of each function, with their parts. Of those that were its slowest ever when
they ended it also leaves an exemplar in the hub: the latest for each bucket, while there is room among the exemplars of
a worker, and to be seen by all, also after its death. So who asks gets the calls of this process, and the very slowest
of every other.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shmetrics.families import Exemplar

REMEMBERED: Final = 10
"""Slowest calls of each function that a process remembers, and that are shown of a fleet."""


class SlowCall(NamedTuple):
    """One call that was slow."""

    seconds: float
    at: float
    """When it ended, in seconds since the epoch."""
    pid: int | None
    error: str = ""
    """The name of the exception that it raised."""
    parts: tuple[tuple[str, float], ...] = ()
    """Seconds of its parts, as far as they are known."""
    slot: int | None = None
    """The worker's; None for one whose slot another has, and while that is not asked for."""


def labels(call: SlowCall) -> dict[str, str]:
    """Those of its exemplar."""
    return {"pid": str(call.pid), **({"error": call.error[:80]} if call.error else {})}


def slowest(
    remembered: Iterable[SlowCall], exemplars: Iterable[Exemplar], slots: Mapping[int, int]
) -> tuple[SlowCall, ...]:
    """The slowest that are known, the slowest first. ``slots``: of the workers, by pid."""
    known = {(call.pid, call.seconds): call for call in map(_of_exemplar, exemplars)}
    known |= {(call.pid, call.seconds): call for call in remembered}
    ordered = sorted(known.values(), key=lambda call: -call.seconds)
    return tuple(call._replace(slot=slots.get(call.pid or 0)) for call in ordered[:REMEMBERED])


def inserted(remembered: Sequence[SlowCall], call: SlowCall) -> tuple[SlowCall, ...]:
    """The slowest with another one, the slowest first."""
    return tuple(sorted((*remembered, call), key=lambda each: -each.seconds)[:REMEMBERED])


def _of_exemplar(exemplar: Exemplar) -> SlowCall:
    pid = exemplar.labels.get("pid", "")
    known = int(pid) if pid.isascii() and pid.isdigit() and len(pid) < 20 else None
    return SlowCall(exemplar.value, exemplar.time, known, exemplar.labels.get("error", ""))
