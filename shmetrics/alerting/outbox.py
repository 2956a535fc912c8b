"""An outbox: the bounded queue in front of one handler or receiver, and the thread that empties it.

Whoever watches the fleet puts an alert in and goes on. So a handler that raises, hangs or is slow stops nobody but
itself: each has an outbox of its own. When one is full its oldest alert is lost, and counted: what is new matters
more.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

ROOM: Final = 1000
"""Alerts that wait at most."""

_log: Final = logging.getLogger("shmetrics")

Announcement = Mapping[str, Any]
"""What `Alert.as_dict` gives."""


class RefusedError(Exception):
    """The receiver will not take this alert, however often it is sent. Raised by whoever sends."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next try: longer each time, and by chance, so that a crowd does not march in step.

    Exponential with "equal jitter": M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    first: float = 1.0
    most: float = 60.0

    def delay(self, failures: int, chance: float) -> float:
        """Seconds after so many failures, 1 or more; ``chance``: from 0 to 1."""
        wait = min(self.most, self.first * 2.0 ** min(failures - 1, 60))
        return float(wait * (0.5 + chance / 2.0))


@dataclass(frozen=True)
class OutboxFigures:
    """How an outbox is doing."""

    name: str
    queued: int
    """Alerts that wait, the one being sent included."""
    sent: int
    failed: int
    """Tries that failed."""
    lost: int
    """Alerts that were never sent: refused, given up, or pushed out of a full queue."""
    failing_since: float | None
    """Monotonic time of the first failure since the last success; None while all is well."""
    last_error: str


def started(run: Callable[[], None], name: str) -> threading.Thread | None:
    """A daemon thread that runs; None where the system has no thread left, which the next alert asks for again."""
    thread = threading.Thread(target=run, name=f"shmetrics-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _log.warning("alerts to %s, pid %d: wait until there is a thread for them: %s", name, os.getpid(), error)
        return None
    return thread


class Outbox:
    """Calls ``send(alert)`` for each alert put in, one after the other, in a daemon thread of its own.

    ``backoff``: how to try again after a failure; without it each alert is tried once. Any thread may call.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Announcement], object],
        *,
        room: int = ROOM,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._send = send
        self._room = room
        self._backoff = backoff
        self._clock = clock
        self._chance = chance
        self._sent = self._failed = self._lost = self._failures = 0
        self._failing_since: float | None = None
        self._last_error = ""
        self.begin()

    def begin(self) -> None:
        """Start anew with an empty queue: at first, and in a child of fork, whose parent has what was queued."""
        self._changed = threading.Condition()
        self._queue: deque[Announcement] = deque()
        self._sending = self._closing = self._given_up = False
        self._thread: threading.Thread | None = None

    def put(self, alert: Announcement) -> None:
        """Send it, in a moment. Never waits for the receiver."""
        with self._changed:
            if len(self._queue) >= self._room:
                self._queue.popleft()
                self._lost += 1
                self._say("is full; the oldest alert is lost", once=self._lost == 1)
            self._queue.append(alert)
            self._closing = self._given_up = False
            if self._thread is None:
                self._thread = started(self._run, self.name)
            self._changed.notify_all()

    @property
    def figures(self) -> OutboxFigures:
        """How it is doing."""
        with self._changed:
            return OutboxFigures(
                self.name,
                len(self._queue) + self._sending,
                self._sent,
                self._failed,
                self._lost,
                self._failing_since,
                self._last_error,
            )

    def hurry(self) -> None:
        """Wait for no second try any more, and end once the queue is empty: `close` without waiting for it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, patience: float) -> None:
        """Send what is queued, for so many seconds at most, with one more try for each; what is left then is lost.

        It can be used again.
        """
        self.hurry()
        thread = self._thread
        if thread is None or thread is threading.current_thread():  # a handler may stop the monitoring
            return
        thread.join(patience)
        with self._changed:
            left = len(self._queue) + self._sending
            self._queue.clear()
            self._given_up = True
            self._changed.notify_all()
            if left:
                self._lost += left
                self._say(f"took too long; {left} alerts are lost")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    self._thread = None
                    return
                alert = self._queue.popleft()
                self._sending = True
            try:
                self._deliver(alert)
            finally:
                with self._changed:
                    self._sending = False

    def _deliver(self, alert: Announcement) -> None:
        """Until it is sent, refused or given up."""
        failures = 0
        while not self._given_up:
            try:
                self._send(alert)
            except RefusedError as error:
                self._note_failure(error, lost=True)
                return
            except BaseException as error:  # noqa: BLE001  whatever the user's handler raises stops nobody
                failures += 1
                backoff = None if self._closing else self._backoff
                self._note_failure(error, lost=backoff is None)
                if backoff is None:
                    return
                with self._changed:
                    pause = backoff.delay(failures, self._chance())
                    self._changed.wait_for(lambda: self._given_up or self._closing, pause)
            else:
                with self._changed:
                    self._sent += 1
                    if self._failing_since is not None:
                        self._failing_since = None
                        if self._failures > 1:
                            self._say("takes alerts again")
                    self._failures = 0
                return

    def _note_failure(self, error: BaseException, *, lost: bool) -> None:
        with self._changed:
            self._failed += 1
            self._failures += 1
            self._lost += lost
            self._last_error = f"{type(error).__name__}: {error}"
            if self._failing_since is None:
                self._failing_since = self._clock()
            self._say(f"failed: {self._last_error}", once=self._failures == 1)

    def _say(self, what: str, *, once: bool = True) -> None:
        """Tell the log; of a row of failures the first only."""
        if once:
            _log.warning("alerts to %s, pid %d: %s", self.name, os.getpid(), what)
