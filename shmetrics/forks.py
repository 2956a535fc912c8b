"""What must happen around a fork, in one place.

A forked child inherits locks it does not own, a slot that is its parent's, and in-process locks that another thread of
the parent may have held at that instant. Objects with such state register here and get ``after_fork_in_child()`` called
before any other code runs in the child.

That leaves one gap: a descriptor opened by one thread while another forks, before its object could register it.
`epoch` closes it: who registers a descriptor looks at the epoch before and after, and starts anew when there was a fork
in between.
"""

import os
import time
import weakref
from typing import Final, Protocol

_PATIENCE: Final = 0.01


class ForkedError(Exception):
    """This is a child, forked by a signal handler in the middle of a write, which the parent completes. Internal."""


class ForkAware(Protocol):
    """What a registered object offers."""

    def after_fork_in_child(self) -> None:
        """Drop what is the parent's; called in the child, with only one thread alive."""


_registered: Final[dict[int, "weakref.ref[ForkAware]"]] = {}
_in_progress: Final[list[None]] = []
_started = 0


def register(aware: ForkAware) -> None:
    """Call ``aware.after_fork_in_child()`` in every child forked from now on, for as long as the object lives."""
    key = id(aware)
    _registered[key] = weakref.ref(aware, lambda _: _registered.pop(key, None))


def epoch() -> int:
    """A number that changes with every fork of this process or of its ancestors.

    Returns while no fork is under way in another thread, or after 10 ms: the caller itself may be a before-fork hook.
    """
    deadline = time.monotonic() + _PATIENCE
    while _in_progress and time.monotonic() < deadline:
        time.sleep(0)
    return _started


def _before_fork() -> None:
    global _started  # noqa: PLW0603  the module is the singleton
    _in_progress.append(None)
    _started += 1


def _after_fork_in_parent() -> None:
    _in_progress.pop()


def _after_fork_in_child() -> None:
    _in_progress.clear()
    failures = []
    for reference in list(_registered.values()):
        aware = reference()
        if aware is not None:
            try:
                aware.after_fork_in_child()
            except Exception as failure:  # noqa: BLE001  the others must let go of what is the parent's all the same
                failures.append(failure)
    if failures:
        raise failures[0]  # which the interpreter prints; a fork cannot fail any more


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
