"""How a worker ended, as the arbiter knows while it calls the hook `child_exit`.

gunicorn hands the hook no status. Its arbiter has it, though: ``wpid, status = os.waitpid(-1, os.WNOHANG)`` in
``Arbiter.reap_workers``, which calls the hook, in every release from 20.1 to 27. So it is read there, in the frame of a
caller, which changes nothing for anybody; and where that frame is not as expected, the answer is that it is not known.

What else there is either disturbs or comes too late: to replace ``os.waitpid``, or the arbiter's method, is to stand in
the way of every reaping; to look at zombies without reaping them (``WNOWAIT``) would need a hook before gunicorn's own
waitpid; what gunicorn logs differs from release to release.
"""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

_FARTHEST: Final = 16
"""Frames looked at: the user's hook may be chained around ours, by us or by others."""


def status_of(server: Any, worker: Any) -> int | None:
    """The wait status of a worker that was just reaped, as from `os.waitpid`; None when it is not known.

    To be called within the hook `child_exit`, with its arguments.
    """
    frame = sys._getframe(1)
    for _ in range(_FARTHEST):
        if frame.f_code.co_name == "reap_workers":
            known = frame.f_locals
            status = known.get("status")
            ours = known.get("self") is server and known.get("wpid") == worker.pid and isinstance(status, int)
            return status if ours else None
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


class Reports:
    """What is to be reported, one after the other, though the arbiter may interrupt itself.

    Before release 24 it reaps workers, and so calls the hook, in the handler of SIGCHLD, and another may come at any
    instruction. Who is interrupted reports what came meanwhile; all that the interrupting call does is to leave it.
    """

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._token = [None]  # taken by pop, which is one instruction

    def add(self, *what: Any) -> None:
        """Report it, unless this call interrupts another, which then does."""
        self._waiting.append(what)
        while self._waiting:  # looked at again after the token is back: what came before that was left to us
            try:
                token = self._token.pop()
            except IndexError:
                return
            try:
                while self._waiting:
                    self._report(*self._waiting.popleft())
            finally:
                self._token.append(token)
