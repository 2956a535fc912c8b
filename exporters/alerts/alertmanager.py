"""Prometheus' Alertmanager, by its API v2: groups, routes, silences and repeats alerts of many sources.

https://prometheus.io/docs/alerting/latest/alerts_api/ says what a client does, and Prometheus' own notifier how:
alerts that fire are sent again and again, each time with an ``endsAt`` some time ahead, so that they end by
themselves should the client die; one that is over is sent with the ``endsAt`` at which it was. Labels tell alerts
apart, the severity among them: an alert that becomes critical is another one, and the warning ends.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.outbox import ROOM, Backoff, OutboxFigures, started
from shmetrics.exporters.alerts.posting import TIMEOUT, check_headers, check_url, host_of, post

RESEND: Final = 60.0
"""Seconds between two sends of an alert that fires."""
_VALID: Final = 4
"""An alert stays for so many times RESEND without being sent again, as in Prometheus' notifier."""

_log: Final = logging.getLogger("shmetrics")

_Labels = tuple[tuple[str, str], ...]


class Alertmanager:
    """Follows what fires, and sends it from a daemon thread of its own. Any thread may call.

    ``url``: where Alertmanager is, ``http://localhost:9093``; ``source_url``: where its links back lead. While it
    cannot be reached everything waits: of what fires the present state, of what is over the last `room` alerts.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "alertmanager",
        headers: Mapping[str, str] | None = None,
        source_url: str = "",
        resend: float = RESEND,
        timeout: float = TIMEOUT,
        room: int = ROOM,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._url = check_url(url).rstrip("/") + "/api/v2/alerts"
        self._headers = check_headers(headers or {})
        self._source_url = source_url
        self._resend, self._timeout, self._room = resend, timeout, room
        self._backoff = Backoff() if backoff is None else backoff
        self._clock, self._wall = clock, wall
        self._sent = self._failed = self._lost = self._failures = 0
        self._failing_since: float | None = None
        self._last_error = ""
        self.begin()

    def begin(self) -> None:
        """Start anew, in a child of fork."""
        self._changed = threading.Condition()
        self._active: dict[_Labels, Alert] = {}
        self._ended: dict[_Labels, tuple[Alert, float]] = {}
        self._is_new = self._closing = False
        self._thread: threading.Thread | None = None

    def follow(self, active: Sequence[Alert]) -> None:
        """What fires now. What did and does no more is over."""
        now = {labels_of(alert): alert for alert in active}
        with self._changed:
            gone = {labels: alert for labels, alert in self._active.items() if labels not in now}
            self._is_new |= bool(gone) or bool(now.keys() - self._active.keys())
            for labels, alert in gone.items():
                self._ended[labels] = (alert, self._wall())
            for labels in now:
                self._ended.pop(labels, None)
            while len(self._ended) > self._room:
                del self._ended[next(iter(self._ended))]
                self._lost += 1
            self._active = now
            if self._is_new:
                self._start()

    def _start(self) -> None:
        self._closing = False
        if self._thread is None:
            self._thread = started(self._run, self.name)
        self._changed.notify_all()

    @property
    def figures(self) -> OutboxFigures:
        """How it is doing. ``queued``: alerts of whose begin or end it was not told yet."""
        with self._changed:
            waiting = len(self._ended) + (len(self._active) if self._is_new else 0)
            return OutboxFigures(
                self.name, waiting, self._sent, self._failed, self._lost, self._failing_since, self._last_error
            )

    def hurry(self) -> None:
        """Tell what is new in one more try, and end: `close` without waiting for it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, patience: float) -> None:
        """Tell what is new, for so many seconds at most, and stop.

        What still fires is not said to be over: whoever watches next goes on with it, and else it ends by itself.
        """
        self.hurry()
        if self._thread is not None:
            self._thread.join(patience)

    def _run(self) -> None:
        due = self._clock()
        while True:
            with self._changed:
                wait = max(0.0, due - self._clock()) if self._active or self._failures else None
                self._changed.wait_for(lambda: self._closing or (self._is_new and not self._failures), wait)
                if self._closing and not (self._is_new or self._ended):
                    self._thread = None
                    return
                active, ended = list(self._active.values()), dict(self._ended)
                self._is_new = False
            try:
                self._post(active, ended)
            except Exception as error:  # noqa: BLE001  what is active must be sent again, whatever went wrong once
                due = self._clock() + self._note_failure(error)
                with self._changed:
                    self._is_new = True
                    if self._closing:  # that was the last try
                        self._lost += len(self._ended)
                        self._thread = None
                        return
            else:
                due = self._clock() + self._resend
                self._note_success(ended, len(active) + len(ended))

    def _post(self, active: Sequence[Alert], ended: Mapping[_Labels, tuple[Alert, float]]) -> None:
        until = self._wall() + _VALID * self._resend
        batch = [self._content(alert, until) for alert in active]
        batch += [self._content(alert, when) for alert, when in ended.values()]
        if batch:
            post(self._url, json.dumps(batch).encode(), self._headers, self._timeout)

    def _content(self, alert: Alert, ends: float) -> dict[str, Any]:
        annotations = {"summary": alert.message, "value": f"{alert.current_value:g}", **alert.annotations}
        if alert.threshold is not None:
            annotations["threshold"] = f"{alert.threshold:g}"
        return {
            "labels": dict(labels_of(alert)),
            "annotations": {name: _text(value) for name, value in annotations.items()},
            "startsAt": rfc3339(alert.started_at),
            "endsAt": rfc3339(max(ends, alert.started_at)),
            "generatorURL": self._source_url,
        }

    def _note_failure(self, error: Exception) -> float:
        """Count it; seconds until the next try."""
        with self._changed:
            self._failed += 1
            self._failures += 1
            self._last_error = f"{type(error).__name__}: {error}"
            if self._failing_since is None:
                self._failing_since = self._clock()
                _log.warning("alerts to %s at %s failed: %s", self.name, host_of(self._url), error)
            return self._backoff.delay(self._failures, random.random())

    def _note_success(self, ended: Mapping[_Labels, tuple[Alert, float]], count: int) -> None:
        with self._changed:
            for labels, sent in ended.items():
                if self._ended.get(labels) == sent:
                    del self._ended[labels]
            self._sent += count
            self._failures, self._failing_since = 0, None


def labels_of(alert: Alert) -> _Labels:
    """What tells an alert apart for Alertmanager: the rule, the severity, the hub, and its labels.

    A label of a custom metric that has one of these names gets ``exported_`` before it, as Prometheus does it.
    """
    own = {"alertname": alert.type, "severity": alert.severity, "hub": alert.hub}
    labels = {f"exported_{name}" if name in own else name: value for name, value in alert.labels.items()} | own
    return tuple(sorted((name, _text(value)) for name, value in labels.items() if value))


def rfc3339(seconds: float) -> str:
    """An instant as Alertmanager wants it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
