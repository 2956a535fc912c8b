"""Collapsed stacks: a line for each, ``app:main;app:predict;numpy 60``. What flamegraph.pl and most other tools read.

https://www.brendangregg.com/flamegraphs.html. A semicolon or a line break in a name would be taken for the format's.
"""

from collections import Counter

from shmetrics.profiling.profile import Profile


def collapsed(profile: Profile) -> str:
    """The profile, the stack with most samples first."""
    lines: Counter[str] = Counter()
    for stack, samples in profile.stacks.items():
        lines[";".join(map(_safe, stack))] += samples
    return "".join(f"{line} {samples}\n" for line, samples in lines.most_common())


def _safe(name: str) -> str:
    return " ".join(name.replace(";", ",").split()) or "?"
