"""The orderly end of a child of multiprocessing, in one place.

Such a child runs no atexit functions, unless it was spawned: it runs the finalizers of `multiprocessing.util`, which
forgets those of its parent when the child starts and calls what `register_after_fork` was given. So there is one
finalizer for each child, put in place then, or at import in a child that was spawned. It comes last, after those that
may still record. A process that is killed, or ends by ``os._exit``, runs nothing; its slot is reaped.
"""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing import util
from typing import Any, Final

_PRIORITY: Final = -100
"""Below every finalizer of multiprocessing's own, and zero, which programs mostly give theirs."""

_functions: Final[list[Callable[[bool], None]]] = []


def register(function: Callable[[bool], None]) -> None:
    """Call it at the end of each child of multiprocessing: with whether other threads of the child may go on.

    (They are joined only afterwards.) Ordinary processes are not concerned: those have atexit and `weakref.finalize`.
    """
    _functions.append(function)


def _end() -> None:
    if multiprocessing.parent_process() is not None:
        others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
        for function in _functions:
            function(bool(others))


def _arm(_module: Any = None) -> None:
    util.Finalize(None, _end, exitpriority=_PRIORITY)


util.register_after_fork(_end, _arm)
_arm()
