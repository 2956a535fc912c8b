"""A flame graph's frames: where each one lies, and which are left out so that a page stays small. Pure."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from shmetrics.profiling.profile import Profile

MOST_DEPTH: Final = 120
"""Frames from the root to a leaf at most."""
ROOT: Final = "all"
_LEAST_REST: Final = 0.001
"""Of the whole width: what is left out of a frame's callees and is wider is drawn as one frame."""


@dataclass(frozen=True)
class Frame:
    """One box: `start` and `samples` are its place and width, where the root is as wide as it has samples."""

    name: str
    depth: int
    start: int
    samples: int
    own: int
    """Of them, those in which no callee ran."""
    rest: bool = False
    """It stands for several that were left out."""


@dataclass(frozen=True)
class FlameGraph:
    """Frames of a profile, each before those it called; the root, which is all samples, comes first."""

    frames: tuple[Frame, ...]
    depth: int
    left_out: int
    """Frames that are not drawn."""

    @property
    def samples(self) -> int:
        """Of the whole."""
        return self.frames[0].samples


@dataclass(slots=True)
class _Node:
    name: str
    depth: int
    samples: int = 0
    own: int = 0
    callees: dict[str, "_Node"] = field(default_factory=dict)


def flame_graph(profile: Profile, most: int) -> FlameGraph:
    """The frames of `profile` with the most samples, `most` at most, and a frame or so for what is left out of each."""
    root, nodes = _tree(profile)
    kept = _largest(root, most)
    frames = tuple(_placed(root, kept))
    return FlameGraph(frames, max(frame.depth for frame in frames) + 1, nodes - len(kept))


def _tree(profile: Profile) -> tuple[_Node, int]:
    """All stacks as one tree, and how many frames it has."""
    root = _Node(ROOT, 0)
    nodes = 1
    for stack, samples in profile.stacks.items():
        node = root
        node.samples += samples
        for name in stack:
            callee = node.callees.get(name)
            if callee is None:
                callee = node.callees[name] = _Node(name, node.depth + 1)
                nodes += 1
            node = callee
            node.samples += samples
        node.own += samples
    return root, nodes


def _largest(root: _Node, most: int) -> set[int]:
    """Which nodes are drawn, by identity: the widest. No callee is wider than its caller, so callers come first."""
    kept: set[int] = set()
    order = count()  # of equally wide ones the first found; nodes themselves have no order
    waiting = [(-root.samples, next(order), root)]
    while waiting and len(kept) < most:
        _, _, node = heapq.heappop(waiting)
        kept.add(id(node))
        if node.depth < MOST_DEPTH - 1:
            for callee in node.callees.values():
                heapq.heappush(waiting, (-callee.samples, next(order), callee))
    return kept


def _placed(root: _Node, kept: set[int]) -> Iterator[Frame]:
    """Each frame before its callees, which lie under it from its left, the widest first."""
    least = root.samples * _LEAST_REST
    waiting: list[tuple[_Node, int]] = [(root, 0)]
    while waiting:
        node, start = waiting.pop()
        yield Frame(node.name, node.depth, start, node.samples, node.own)
        callees = sorted(node.callees.values(), key=lambda callee: (-callee.samples, callee.name))
        drawn = [callee for callee in callees if id(callee) in kept]
        rest = sum(callee.samples for callee in callees if id(callee) not in kept)
        after = start + sum(callee.samples for callee in drawn)
        if rest > least:
            name = f"({len(callees) - len(drawn):,} more)"
            yield Frame(name, node.depth + 1, after, rest, rest, rest=True)
        for callee in reversed(drawn):
            after -= callee.samples
            waiting.append((callee, after))
