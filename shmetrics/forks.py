"""What must happen in the child of a fork, in one place.

A forked child inherits locks it does not own, a slot that is its parent's, and in-process locks that another thread of
the parent may have held at that instant. Objects with such state register here and get ``after_fork_in_child()`` called
before any other code runs in the child.
"""

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """What a registered object offers."""

    def after_fork_in_child(self) -> None:
        """Drop what is the parent's; called in the child, with only one thread alive."""


_registered: dict[int, "weakref.ref[ForkAware]"] = {}


def register(aware: ForkAware) -> None:
    """Call ``aware.after_fork_in_child()`` in every child forked from now on, for as long as the object lives."""
    key = id(aware)
    _registered[key] = weakref.ref(aware, lambda _: _registered.pop(key, None))


def _after_fork_in_child() -> None:
    for reference in list(_registered.values()):
        aware = reference()
        if aware is not None:
            aware.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
