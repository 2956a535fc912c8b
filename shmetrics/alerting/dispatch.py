"""Who is told of what: handlers and receivers, each behind a queue of its own."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.outbox import ROOM, Announcement, Backoff, Outbox, OutboxFigures
from shmetrics.alerting.rules import SEVERITIES


class Follower(Protocol):
    """A receiver that wants to know what fires at every look, not only what is new: Alertmanager."""

    @property
    def figures(self) -> OutboxFigures:
        """How it is doing."""

    def follow(self, active: Sequence[Alert]) -> None:
        """What fires now and is not silenced. Never waits."""

    def hurry(self) -> None:
        """Begin to close; waits for nothing."""

    def close(self, patience: float) -> None:
        """Send what there is to send, for so many seconds at most."""

    def begin(self) -> None:
        """Start anew, in a child of fork."""


class Dispatch:
    """Hands alerts on. One thread announces; any may register, or ask for `figures`."""

    def __init__(self) -> None:
        self._outboxes: tuple[tuple[frozenset[str], bool, Outbox], ...] = ()
        self._followers: tuple[Follower, ...] = ()

    def register(
        self,
        send: Callable[[Announcement], object],
        name: str,
        severities: Collection[str] = SEVERITIES,
        *,
        resolved: bool = False,
        backoff: Backoff | None = None,
        room: int = ROOM,
    ) -> Outbox:
        """Call ``send(alert)`` for alerts of these severities, in a thread of its own.

        ``resolved``: also when one of these is over; those announcements are infos, which not everybody wants.
        """
        outbox = Outbox(name, send, backoff=backoff, room=room)
        self._outboxes = (*self._outboxes, (frozenset(severities), resolved, outbox))
        return outbox

    def add_follower(self, follower: Follower) -> None:
        """Let it follow what fires."""
        self._followers = (*self._followers, follower)

    @property
    def has_followers(self) -> bool:
        """Whether somebody wants to know what fires at every look."""
        return bool(self._followers)

    def announce(self, alerts: Sequence[Alert]) -> None:
        """Queue each for everybody whom it concerns. Never waits."""
        for alert in alerts:
            for severities, resolved, outbox in self._outboxes:
                ended = alert.state == "resolved" and resolved and alert.highest_severity in severities
                if alert.severity in severities or ended:
                    outbox.put(alert.as_dict())

    def follow(self, active: Sequence[Alert]) -> None:
        """Tell the followers what fires."""
        for follower in self._followers:
            follower.follow(active)

    @property
    def figures(self) -> list[OutboxFigures]:
        """How each handler and receiver is doing."""
        return [outbox.figures for _, _, outbox in self._outboxes] + [each.figures for each in self._followers]

    def close(self, patience: float) -> None:
        """Deliver what is queued, for so many seconds at most; all do so at the same time."""
        deadline = time.monotonic() + patience
        everybody: list[Outbox | Follower] = [*(outbox for _, _, outbox in self._outboxes), *self._followers]
        for each in everybody:
            each.hurry()
        for each in everybody:
            each.close(max(0.0, deadline - time.monotonic()))

    def begin(self) -> None:
        """Start anew, in a child of fork: what is queued is the parent's to deliver."""
        for _, _, outbox in self._outboxes:
            outbox.begin()
        for follower in self._followers:
            follower.begin()
