"""A profile as text: which functions ran, how much of the time, by themselves and with what they called."""

from collections.abc import Sequence
from typing import Final

from shmetrics.profiling.profile import Profile
from shmetrics.texts import duration, percent

MOST_ROWS: Final = 30
"""Functions that are listed, unless another number is given."""
_BUSIEST: Final = 5
"""Stacks that are shown whole."""


def profile_text(profile: Profile, title: str, *, rows: int = MOST_ROWS) -> str:
    """The profile on a page, what took most first."""
    samples = profile.samples
    lines = [title, _account(profile)]
    if samples:
        lines += ["", "    own  with callees  function", *_functions(profile, rows)]
        lines += ["", "the stacks that ran most, the outermost function first", *_stacks(profile)]
    return "\n".join(lines) + "\n"


def _account(profile: Profile) -> str:
    """How it came about, and how far it can be believed."""
    samples, idle = profile.samples, profile.idle
    said = [
        f"{duration(profile.seconds)} of worker time sampled at {_rate(profile)} Hz",
        f"{samples:,} sample{'' if samples == 1 else 's'}" if samples else "nothing ran",
    ]
    if idle:
        said.append(f"{idle:,} more of threads that waited")
    if profile.skipped:
        said.append(f"{profile.skipped:,} looks left out, since they would have cost too much")
    if profile.cost:
        said.append(f"sampling took {percent(profile.cost / profile.seconds)} of a processor")
    return ", ".join(said)


def _rate(profile: Profile) -> str:
    return f"{1 / profile.interval:.4g}" if profile.interval else "0"


def _functions(profile: Profile, rows: int) -> Sequence[str]:
    own, total = profile.own(), profile.total()
    ranked = sorted(total, key=lambda name: (-own.get(name, 0), -total[name], name))
    lines = [
        f"{_share(own.get(name, 0), profile)}       {_share(total[name], profile)}  {name}" for name in ranked[:rows]
    ]
    return [*lines, f"... and {len(ranked) - rows:,} more"] if len(ranked) > rows else lines


def _stacks(profile: Profile) -> Sequence[str]:
    ranked = sorted(profile.stacks.items(), key=lambda each: (-each[1], each[0]))
    return [f"{_share(samples, profile)}  {' > '.join(stack)}" for stack, samples in ranked[:_BUSIEST]]


def _share(samples: int, profile: Profile) -> str:
    return f"{100 * samples / profile.samples:5.1f} %"
