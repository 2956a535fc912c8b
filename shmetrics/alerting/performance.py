"""PerformanceAlerting: watches a fleet from within any process, and calls handlers."""

import difflib
import hashlib
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final

from shmetrics import forks
from shmetrics.alerting import thresholds
from shmetrics.alerting.alert import Alert
from shmetrics.alerting.dispatch import Dispatch, Follower
from shmetrics.alerting.health import AlertingHealth
from shmetrics.alerting.outbox import Backoff
from shmetrics.alerting.rules import COOLDOWN, SEVERITIES, Rule
from shmetrics.alerting.silences import Silence
from shmetrics.alerting.tripwire import POLL, Tripwire
from shmetrics.alerting.watch import Watch, wires_of
from shmetrics.errors import HubClosedError
from shmetrics.hub import Hub, View
from shmetrics.locks import ByteLock, watch_byte
from shmetrics.metrics import PerformanceMetrics

INTERVAL: Final = 1.0
"""Seconds between two looks, where nothing calls for one before."""
_REMEMBERED: Final = 1000
_PATIENCE: Final = 5.0

_log: Final = logging.getLogger("shmetrics")

Handler = Callable[[dict[str, Any]], object]


class PerformanceAlerting:
    """Judges the figures of the whole fleet, and calls handlers when they are bad, worse, or good again.

    Args:
        metrics: `PerformanceMetrics`, or a `Hub`.
        alert_thresholds: any of ``error_rate_threshold``, ``latency_p95_threshold`` (seconds of total_time),
            ``throughput_min_threshold`` (requests per second) and ``cache_hit_rate_threshold``; `thresholds` says what
            each means and how severe its breach is.
        alert_window_size: they are judged over the last so many measurements of the fleet; see `recent`.
        cooldown_period: seconds between two announcements of one type of alert.
        rules: further rules (`Rule`), of which the thresholds are the simplest kind.
        silences: when nobody is to be told of what (`Silence`).
        interval: seconds between two looks. An error, a slow request or a cache miss that may matter to a rule is
            looked at at once (`tripwire`).
        min_samples: measurements that a threshold needs before it is judged; 10 by default, or `alert_window_size`
            where that is less.
        once_per_fleet: of all processes that monitor one hub by the same rules, let one call its handlers: the first;
            when it ends, another. False: each calls its own.
        clock: monotonic seconds.

    Raises:
        ValueError: a threshold or rule cannot be, or there is none; the message says what to write instead.

    Any thread may call any method. `start_monitoring` starts a daemon thread; a child of fork is not monitoring until
    it says so itself. Each handler has a thread and a queue of its own: one that raises, hangs or is slow keeps neither
    the monitoring nor another handler waiting.

    """

    def __init__(
        self,
        metrics: PerformanceMetrics | Hub,
        alert_thresholds: Mapping[str, float] | None = None,
        alert_window_size: int = thresholds.WINDOW,
        cooldown_period: float = COOLDOWN,
        *,
        rules: Sequence[Rule] = (),
        silences: Sequence[Silence] = (),
        interval: float = INTERVAL,
        min_samples: int | None = None,
        once_per_fleet: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_whole("alert_window_size", alert_window_size, 1, 1_000_000)
        _check_seconds("cooldown_period", cooldown_period, least=0.0)
        _check_seconds("interval", interval, least=0.001)
        if min_samples is not None:
            _check_whole("min_samples", min_samples, 0, 1_000_000)
        all_rules = (
            *thresholds.rules_of(
                alert_thresholds or {}, window=alert_window_size, cooldown=cooldown_period, min_samples=min_samples
            ),
            *rules,
        )
        if not all_rules:
            raise ValueError("nothing to watch for: give alert_thresholds, such as {'error_rate_threshold': 0.05}, or "
                             "rules")  # fmt: skip
        self._metrics = metrics
        self._view: View = metrics.view
        self._interval = interval
        self._once_per_fleet = once_per_fleet
        self._clock = clock
        self._silences = tuple(silences)
        self._watch = Watch(all_rules, self._silences)
        self._dispatch = Dispatch()
        self._remembered: deque[Alert] = deque(maxlen=_REMEMBERED)
        self._renew()
        forks.register(self)

    def _renew(self) -> None:
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._role: ByteLock | None = None

    # Telling people ---------------------------------------------------------------------------------------------------

    def register_handler(self, severity: str, handler: Handler) -> None:
        """Call ``handler(alert)`` for every alert of this severity: ``"critical"``, ``"warning"`` or ``"info"``.

        ``alert`` is a dictionary of its own: `Alert.as_dict`. That an alert is over is an info. ValueError for other
        severities, TypeError for what cannot be called.
        """
        if severity not in SEVERITIES:
            meant = difflib.get_close_matches(str(severity).lower(), SEVERITIES, 1)
            hint = f"did you mean {meant[0]!r}?" if meant else f"there are {', '.join(SEVERITIES)}"
            raise ValueError(f"there is no severity {severity!r}; {hint}")
        if not callable(handler):
            raise TypeError(f"a handler is called with the alert; {handler!r} cannot be called")
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        backoff = getattr(handler, "backoff", None)
        self._dispatch.register(handler, name, (severity,), backoff=backoff if isinstance(backoff, Backoff) else None)  # type: ignore[arg-type]  # a handler may ask for a dict, and is given one

    def add_follower(self, follower: Follower) -> None:
        """Tell a receiver after each look what fires: `shmetrics.exporters.alerts.Alertmanager`."""
        self._dispatch.add_follower(follower)

    def silence(self, rule: str, seconds: float, *, reason: str = "", now: Callable[[], float] = time.time) -> None:
        """Tell nobody of the alerts of a rule, or of those that a pattern (``High*``) fits, for so many seconds."""
        _check_seconds("seconds", seconds, least=0.0)
        moment = now()
        known = [silence for silence in self._silences if silence.end is None or silence.end > moment]
        self._silences = (*known, Silence(rule=rule, end=moment + seconds, reason=reason))
        with self._looking:
            self._watch.engine.silences = self._silences

    # Monitoring -------------------------------------------------------------------------------------------------------

    def start_monitoring(self) -> None:
        """Look at the fleet from now on, in a daemon thread; harmless when it does already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._monitor, args=(self._stop,), name="shmetrics-alerting", daemon=True
        )
        self._thread.start()

    def stop_monitoring(self, timeout: float = _PATIENCE) -> None:
        """Look once more, then stop, and let handlers finish; nobody is waited for longer than `timeout` seconds."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(timeout)
        self._dispatch.close(timeout)

    def check(self) -> list[dict[str, Any]]:
        """Look at the fleet now, call handlers, and return what was announced. Needs no monitoring.

        HubClosedError when the hub was closed.
        """
        with self._looking:
            snapshot = self._view.snapshot()
            alerts = self._watch.look(snapshot, lambda: self._view.comprehensive(fleet=snapshot))
            self._remembered.extend(alerts)
            self._dispatch.announce(alerts)
            if self._dispatch.has_followers:
                self._dispatch.follow(self._watch.active(silenced=False))
        return [alert.as_dict() for alert in alerts]

    def _monitor(self, stop: threading.Event) -> None:
        """The monitoring thread."""
        role = self._role = ByteLock(self._view.segment.descriptor, self._byte()) if self._once_per_fleet else None
        try:
            wire: Tripwire | None = None
            wires = wires_of(self._watch.engine.rules)
            early = False
            while True:
                stopping = stop.is_set()
                if role is None or (role.held if stopping else self._leads(role)):
                    if wire is None and wires:
                        wire = Tripwire(self._view.segment, wires, self._clock)
                    self._look(wire, early=early)
                if stopping:
                    return
                early = self._wait(stop, wire)
        except HubClosedError:
            _log.info("hub closed; monitoring of process %d ends", os.getpid())
        finally:
            if role is not None:
                role.release()

    def _look(self, wire: Tripwire | None, *, early: bool) -> None:
        start = self._clock()
        if wire is not None:
            wire.arm()
        try:
            self.check()
        except HubClosedError:
            raise
        except (OSError, ValueError) as error:  # no descriptors left, say; the next look may succeed
            _log.warning("hub %r could not be looked at: %s", self._view.segment.name, error)
        if wire is not None and early:
            wire.rest(self._clock() - start)

    def _wait(self, stop: threading.Event, wire: Tripwire | None) -> bool:
        """Until the next look is due; whether that is before its time. `stop` ends it at once."""
        deadline = self._clock() + self._interval
        while (left := deadline - self._clock()) > 0.0:
            if stop.wait(min(POLL, left) if wire is not None else left):
                return False
            if wire is not None and wire.tripped():
                return True
        return False

    def _leads(self, role: ByteLock) -> bool:
        try:
            return role.held or role.try_acquire()
        except OSError:  # no descriptor is left to lock with; the next try may find one
            return False

    def _byte(self) -> int:
        digest = hashlib.sha256(repr(self._watch.engine.rules).encode("utf-8", "backslashreplace")).digest()
        return watch_byte(int.from_bytes(digest[:5], "big"))

    # What there was ---------------------------------------------------------------------------------------------------

    @property
    def is_monitoring(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that calls handlers."""
        return self.is_monitoring and (not self._once_per_fleet or (self._role is not None and self._role.held))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, those of the thresholds first."""
        return self._watch.engine.rules

    def active_alerts(self) -> list[dict[str, Any]]:
        """What fires as of the last look, announced or not."""
        with self._looking:
            return [alert.as_dict() for alert in self._watch.active()]

    def recent_alerts(self) -> list[dict[str, Any]]:
        """The last announcements of this process, the oldest first; 1,000 at most."""
        return [alert.as_dict() for alert in tuple(self._remembered)]

    @property
    def health(self) -> AlertingHealth:
        """How the monitoring itself is doing."""
        with self._looking:
            return AlertingHealth(self._watch, self._dispatch)

    def get_alert_summary(self) -> dict[str, Any]:
        """What this process announced, JSON-ready.

        ``total_alerts``, and of these ``critical_alerts``, ``warning_alerts`` and ``info_alerts`` (those that are over
        among them); ``most_frequent_alert``, the type that fired most often, or None; ``alerts_by_type``;
        ``active_alerts``, how many fire now; ``silenced`` and ``suppressed``: not announced because of a silence or the
        cooldown; ``handlers``: for each how many alerts it was sent, failed at, lost, and has waiting; ``last_alert``.
        """
        with self._looking:
            counts, by_type = self._watch.engine.counts, self._watch.engine.by_type
            by_severity = {f"{severity}_alerts": counts[severity] for severity in SEVERITIES}
            return {
                "total_alerts": sum(by_severity.values()),
                **by_severity,
                "most_frequent_alert": by_type.most_common(1)[0][0] if by_type else None,
                "alerts_by_type": dict(by_type),
                "active_alerts": len(self._watch.active()),
                "silenced": counts["silenced"],
                "suppressed": counts["cooldown"],
                "handlers": [asdict(figures) for figures in self._dispatch.figures],
                "last_alert": self._remembered[-1].as_dict() if self._remembered else None,
                "monitoring": self.is_monitoring,
            }

    def __enter__(self) -> "PerformanceAlerting":
        self.start_monitoring()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_monitoring()

    def after_fork_in_child(self) -> None:
        """Start anew: the threads are the parent's, what was queued is the parent's to deliver. Called by `forks`."""
        self._watch = Watch(
            self._watch.engine.rules, self._silences
        )  # the parent may have been in the middle of a look
        self._remembered.clear()
        self._renew()
        self._dispatch.begin()


def _check_whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most:,}, not {value!r}")


def _check_seconds(name: str, value: float, *, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise ValueError(f"{name} must be seconds, {least:g} or more, not {value!r}")
