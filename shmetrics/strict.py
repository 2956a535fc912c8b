"""Strict mode: the same stores in the same order, on CPUs that would reorder them.

x86-64 makes the stores of one CPU visible in the order they were made, and its loads are not reordered either
(Intel SDM vol. 3, 8.2). Elsewhere (AArch64, POWER, RISC-V) the commit word could become visible before the record it
commits. There, and wherever ``SHMETRICS_STRICT=1`` says so, the writer's words are wrapped: every store of a word is
preceded by a full barrier, and readers put one between their steps. Nothing else changes, and the mode costs nothing
where it is off.
"""

import _thread
import platform
from collections.abc import Callable
from typing import Protocol

import posix_ipc

from shmetrics import settings
from shmetrics.guards import Fence


class Words(Protocol):
    """The 8-byte words of a slot: what the writer needs of a ``memoryview`` cast to "Q"."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...

    def release(self) -> None:
        """Make every further use raise ValueError."""


class FencedWords:
    """Words whose every store comes after all stores before it, on any CPU."""

    __slots__ = ("__weakref__", "_fence", "_words")

    def __init__(self, words: Words, fence: Callable[[], None]) -> None:
        self._words = words
        self._fence = fence

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._fence()
        self._words[index] = value
        self._fence()

    def release(self) -> None:
        """Make every further use raise ValueError."""
        self._words.release()

    def after_fork_in_child(self) -> None:
        """Leave the slot to the parent. Called by `forks` for words that were registered there."""
        self.release()


def is_strict() -> bool:
    """Whether to order memory explicitly: ``SHMETRICS_STRICT``, else by the CPU. ValueError for what says neither."""
    setting = settings.switch("SHMETRICS_STRICT")
    return platform.machine() not in ("x86_64", "AMD64") if setting is None else setting


def new_fence(*, strict: bool) -> Callable[[], None]:
    """What orders memory in this process: a full barrier in strict mode, else nothing at all."""
    if not strict:
        return _no_fence
    try:
        return Fence()
    except (OSError, posix_ipc.Error):  # no page of shared memory is left, or no file may be made: we go on without
        return _fence_of_locks


def _fence_of_locks() -> None:
    """A release between two acquires of a lock of our own: the C library's, or atomic and at least as strong.

    New for each call, so that neither another thread nor a signal handler meets it. Slower than `Fence`.
    """
    lock = _thread.allocate_lock()
    lock.acquire()
    lock.release()
    lock.acquire()


def _no_fence() -> None:
    """The CPU keeps the order by itself."""
