"""The doorbell: one named semaphore per hub, by which anybody wakes the aggregator before its next tick.

The aggregator that leads makes it; without one there is no bell and nobody to wake, and ringing does nothing.
"""

import time
from collections.abc import Callable
from typing import Final

from shmetrics import guards, naming
from shmetrics.segment import Segment

_POLL: Final = 0.02
_MOST_RINGS: Final = 64
"""Rings at the same instant may count twice; more than this nobody rang."""


def _name(segment: Segment) -> str:
    return guards.bell_name(naming.semaphore_prefix(segment.name, segment.instance))


def ring(segment: Segment) -> bool:
    """Wake the aggregator, if there is one. Any process may call; it never waits. Two rings may count as one."""
    bell = guards.open_existing(_name(segment))
    if bell is None:
        return False
    with bell:
        if bell.value == 0:
            bell.release()
    return True


class Doorbell:
    """The listener's side; made by the holder of ROLE alone."""

    def __init__(self, segment: Segment) -> None:
        self._name = _name(segment)
        self._bell = None if segment.is_unlinked else guards.create(self._name, segment.fresh_semaphore)
        if self._bell is not None:
            self._bell.try_acquire()  # nobody has rung yet

    def wait(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        until: Callable[[], bool] | None = None,
    ) -> bool:
        """Sleep for `seconds`, or until somebody rings; whether somebody did.

        A poll, fifty times a second: ``sem_timedwait`` counts on the wall clock, which may be set back.
        ``until``: is asked at each poll, and ends the wait as a ring does.
        """
        deadline = clock() + seconds
        if self._bell is not None and self._bell.value > _MOST_RINGS:  # overwritten: it would ring without end
            self._bell.close()
            self._bell = None
        while (left := deadline - clock()) > 0.0:
            if (self._bell is not None and self._bell.try_acquire()) or (until is not None and until()):
                return True
            sleep(min(_POLL, left))
        return self._bell is not None and self._bell.try_acquire()

    def close(self, *, remove: bool = True) -> None:
        """Stop listening; ``remove=False`` leaves the bell to whoever still listens (the parent of a forked child)."""
        bell, self._bell = self._bell, None
        if bell is not None:
            if remove:
                guards.unlink(self._name)
            bell.close()
