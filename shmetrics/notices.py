"""What a process has to tell people about a hub: each kind of trouble once, as a warning in the log.

By logging, which unlike the warnings module cannot be made to raise into a request.
"""

import logging
import os
from contextlib import suppress
from typing import Final

_log: Final = logging.getLogger("shmetrics")


class Notices:
    """One process's notices about one hub. Any thread may call."""

    def __init__(self, hub: str) -> None:
        self._hub = hub
        self._given: set[str] = set()

    def have_given(self, kind: str) -> bool:
        """Whether something of this kind was said."""
        return kind in self._given

    def is_new(self, kind: str) -> bool:
        """Whether nothing of this kind was said so far; from now on something was."""
        if self.have_given(kind):
            return False
        self._given.add(kind)
        return True

    def say(self, message: str) -> None:
        """Log it. The user's own handlers and filters run here, in the middle of somebody's request."""
        with suppress(Exception):
            _log.warning("hub %r, pid %d: %s", self._hub, os.getpid(), message)
