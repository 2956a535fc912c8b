"""Looking at live workers for as long as a report takes: what its flame graphs are drawn of."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from shmetrics.metrics import PerformanceMetrics
from shmetrics.profiling.asking import Answer, ask, targets
from shmetrics.profiling.profile import Profile, merged
from shmetrics.profiling.sampler import RATE
from shmetrics.profiling.wire import LONGEST, SHORTEST, Request


class Seen(NamedTuple):
    """What was found of a fleet."""

    profile: Profile | None
    """Of all workers that were looked at; None where none was."""
    notes: tuple[str, ...]
    """Who is not in it, as sentences."""


NOTHING: Final = Seen(None, ())
"""Where nobody looked."""


def look(metrics: PerformanceMetrics, seconds: float) -> Seen:
    """Have all live workers of a hub sampled for so long, at once; 0 is not at all.

    Workers that do not answer, or not to the end, are in the notes. ValueError when it is too long, or below 0;
    TypeError when it is no number.
    """
    try:
        is_possible = 0.0 <= seconds <= LONGEST  # whatever kind of number it is, numpy's say
    except TypeError:
        raise TypeError(f"seconds must be a number from 0 to {LONGEST:g}, not {seconds!r}") from None
    if not is_possible:
        raise ValueError(f"seconds must be from 0 to {LONGEST:g}, not {seconds!r}")
    if seconds == 0.0:
        return NOTHING
    return seen(ask(targets(metrics.snapshot(), metrics.instance), Request(max(seconds, SHORTEST), RATE, idle=False)))


def seen(answers: Sequence[Answer]) -> Seen:
    """What the answers of workers that were asked come to."""
    parts = [part for answer in answers for part in answer.parts]
    problems = [answer.problem for answer in answers if answer.problem]
    return Seen(merged(parts) if parts else None, _notes(len(answers), problems))


def _notes(asked: int, problems: Sequence[str]) -> tuple[str, ...]:
    if not asked:
        return ("No worker was live, so none was sampled.",)
    if not problems:
        return ()
    return (f"Of {asked:,} workers {len(problems):,} could not be sampled to the end: {problems[0]}.",)
