"""What a sampler has counted, as it comes: with every function by its number. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from shmetrics.profiling.frames import Frame, folded
from shmetrics.profiling.profile import Profile, Stack


@dataclass
class Counts:
    """What a sampler found since it was last asked, with functions by their number in a table of frames."""

    frames: list[Frame]
    stacks: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Samples of each stack, outermost frame first."""
    seconds: float = 0.0
    idle: int = 0
    skipped: int = 0
    cost: float = 0.0

    def profile(self, interval: float, expanded: Collection[str] = ()) -> Profile:
        """As a profile; ``expanded``: libraries whose functions are told apart."""
        stacks: dict[Stack, int] = {}
        for numbers, samples in self.stacks.items():
            stack = folded([self.frames[number] for number in numbers], expanded)
            stacks[stack] = stacks.get(stack, 0) + samples
        return Profile(stacks, interval, self.seconds, self.idle, self.skipped, self.cost)
