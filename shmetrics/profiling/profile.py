"""A profile: how often each stack of calls was found running. Pure.

It is a sample and not a count: a stack that was found in 60 of 100 looks ran for about 60 % of the time, give or take
the square root of that. Each sample stands for one `interval` of one thread, so the samples of a profile can be more
than the looks that were taken (several threads ran) or fewer (they waited; that is counted in `idle`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Stack = tuple[str, ...]
"""Frames, outermost first: ``"module:function"`` for one's own code, the name of the package for a library's."""


@dataclass(frozen=True)
class Profile:
    """What a sampler saw; add several up with `merged`."""

    stacks: Mapping[Stack, int]
    """Samples of each stack that was found running."""
    interval: float
    """Seconds that one sample stands for: the mean time from look to look."""
    seconds: float
    """How long was sampled, of all workers together."""
    idle: int = 0
    """Samples of threads that waited: for a lock, a connection, a child, a timer."""
    skipped: int = 0
    """Looks that were left out, since they would have cost more than the sampler may take."""
    cost: float = 0.0
    """Seconds of processor time that sampling itself took."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stacks", MappingProxyType(dict(self.stacks)))

    @property
    def samples(self) -> int:
        """Samples of threads that ran."""
        return sum(self.stacks.values())

    def own(self) -> dict[str, int]:
        """For each frame, the samples in which it was the one that ran; most first. They add up to `samples`."""
        counts: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            counts[stack[-1]] += samples
        return dict(counts.most_common())

    def total(self) -> dict[str, int]:
        """For each frame, the samples in which it, or what it called, ran; most first. Recursion counts once."""
        counts: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            for frame in dict.fromkeys(stack):
                counts[frame] += samples
        return dict(counts.most_common())

    def under(self, frame: str) -> "Profile":
        """The part that ran in `frame` and what it called: its stacks begin with the outermost call of it."""
        stacks: Counter[Stack] = Counter()
        for stack, samples in self.stacks.items():
            if frame in stack:
                stacks[stack[stack.index(frame) :]] += samples
        return Profile(stacks, self.interval, self.seconds)


def merged(profiles: Iterable[Profile]) -> Profile:
    """The profiles of several workers, or of the same at several times, as one.

    A sampler that slowed down has fewer samples, each of which stands for more time. So that each worker has its share
    of the whole, the samples of the slower count that many times, to the nearest whole number.
    """
    parts = [profile for profile in profiles if profile.interval > 0]
    interval = min((profile.interval for profile in parts), default=0.0)
    stacks: Counter[Stack] = Counter()
    idle = 0
    for profile in parts:
        weight = round(profile.interval / interval)
        for stack, samples in profile.stacks.items():
            stacks[stack] += samples * weight
        idle += profile.idle * weight
    return Profile(
        stacks,
        interval,
        seconds=sum(profile.seconds for profile in parts),
        idle=idle,
        skipped=sum(profile.skipped for profile in parts),
        cost=sum(profile.cost for profile in parts),
    )
