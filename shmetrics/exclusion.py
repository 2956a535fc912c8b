"""In-process exclusion for the writer: one token, taken and given back by two atomic list operations.

A lock would be the obvious choice, but ``with lock`` alone adds a good part of what a whole write costs
(`shmetrics bench write-cost` has both). Popping the only element of a list is atomic in CPython, with and without the
GIL, is cheaper, cannot be replaced by a framework that patches the threading module, and never blocks: whoever finds
the list empty has a decision to make, and makes it here, off the fast path.

Why could the token be out?

1. *This very thread has it.* A signal handler, a GC callback or a destructor runs in the middle of a write and writes
   itself. Waiting would be a deadlock. The new write is queued instead, and the interrupted one performs it before it
   returns. We know by looking at our own stack: the interrupted write is on it.
2. *Another thread has it.* It is inside a write, for a microsecond or for the length of a fold. We wait, yielding, so
   that a write which has returned is in shared memory and survives a SIGKILL; a queued one would not.
3. *Nobody has it.* A signal handler raised where the write could not know whether it has the token (CPython 3.10), or
   a second one while the write that the first had ended was about to give it back. Then no thread has a write on its
   stack except waiters, which can be seen as well (`stacks`). The token is made anew when, over half a second, nothing
   was written, the token was never there, and not one of many looks found a holder; and only if no other waiter has
   done so meanwhile.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Final, TypeVar

from shmetrics import stacks

_Function = TypeVar("_Function", bound=Callable[..., Any])

_holders: Final[set[CodeType]] = set()
_LOOKS: Final = 25
_LOOK_INTERVAL: Final = 0.02
"""Looks for a holder, and the seconds between two, before the token is taken for lost."""
_SPIN: Final = 0.001
"""Seconds for which a waiter only yields; then it sleeps a little each time."""


def takes_token(function: _Function) -> _Function:
    """Mark a method that takes the token of ``self.token``; it is known by its code from then on, at no cost."""
    _holders.add(function.__code__)
    return function


def token_was_out(error: BaseException) -> bool:
    """Whether an exception caught by a write is the pop's own: raised in that very frame, not by a handler's."""
    return isinstance(error, IndexError) and error.__traceback__ is not None and error.__traceback__.tb_next is None


class WriteToken:
    """The token of one writer. ``take()`` raises IndexError when it is out; ``give(None)`` puts it back.

    Any thread, signal handler or greenlet of the process may call. A child of fork starts with a fresh one.
    """

    def __init__(self) -> None:
        self._token: list[None] = [None]
        self._minting = threading.Lock()
        self._mints = 0
        self.take: Callable[[], None] = self._token.pop
        self.give: Callable[[None], None] = self._token.append

    def wait(self, progress: Callable[[], object], *, above: int = 1) -> bool:
        """After a failed ``take``: True when it is worth trying again, False when this very thread has the token.

        ``progress``: returns something that is different after every write. ``above``: how many frames above this one
        is the write that could not take the token.
        """
        # An interrupted write that itself waits counts too: it performs what we queue when its turn has come.
        if self._is_on_stack(sys._getframe(above + 1)):
            return False
        start = time.monotonic()
        next_look, looks, seen, mints = start + _LOOK_INTERVAL, 0, progress(), self._mints
        while not self._token:
            now = time.monotonic()
            time.sleep(0 if now < start + _SPIN else _SPIN / 4)
            if now < next_look:
                continue
            next_look = now + _LOOK_INTERVAL
            found, last_seen, seen = _has_holder(), seen, progress()
            looks = 0 if found or seen != last_seen else looks + 1
            if looks == _LOOKS:
                self._mint(mints)
                looks, mints = 0, self._mints
        return True

    def _mint(self, mints: int) -> None:
        """Make the token anew, unless another waiter did so since this one started to look."""
        with self._minting:
            if self._mints == mints:
                self._mints += 1
                self._token[:] = [None]

    def _is_on_stack(self, frame: FrameType | None) -> bool:
        """Whether a write with this token is among a frame of this thread and its callers."""
        while frame is not None:
            if frame.f_code in _holders and frame.f_locals["self"].token is self:
                return True
            frame = frame.f_back
        return False


def _has_holder() -> bool:
    """Whether a write that could have the token is on any thread's stack: it may be another writer's."""
    return any(_holds(calls) for _, calls in stacks.walker()(sys.maxsize, None, ()))


def _holds(calls: Iterable[tuple[CodeType, object]]) -> bool:
    """Whether a write that does not wait for the token is among the calls of a thread, the innermost first."""
    waiting = False
    for code, _ in calls:
        if code is WriteToken.wait.__code__:
            waiting = True
        elif code in _holders:
            if not waiting:
                return True
            waiting = False
    return False
