"""Counter, Gauge, Histogram, Summary, Info and Enum with the constructors and methods of prometheus_client's.

An application moves by changing one import: `docs/migration.md`. The values are in a hub, so every page shows the whole
fleet. Any thread, greenlet or signal handler may change a metric; nothing here raises for want of room.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NoReturn

from prometheus_client import REGISTRY, CollectorRegistry

from shmetrics import custom
from shmetrics.exporters.prometheus.around import ExceptionCounter, InprogressTracker, Timer
from shmetrics.exporters.prometheus.wrapper import Wrapper
from shmetrics.families import bounds

GaugeMode = Literal[
    "all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"
]
"""How prometheus_client calls the ways in which gauges merge."""
_MODES: Final = {"all": "per_worker", "min": "min", "max": "max", "sum": "sum", "mostrecent": "last"}
_MERGES: Final = _MODES | {f"live{mode}": f"live_{merge}" for mode, merge in _MODES.items()}

Exemplar = Mapping[str, str] | None


class Counter(Wrapper):
    """Counts what only grows, over the whole fleet."""

    _kind = "counter"
    _suffix = "_total"

    def inc(self, amount: float = 1, exemplar: Exemplar = None) -> None:
        """Add ``amount``: finite and not negative (ValueError). ``exemplar``: labels that tell of which request."""
        self._bound.inc(amount, exemplar or None)

    def reset(self) -> NoReturn:
        """Refused: RuntimeError."""
        raise RuntimeError(
            f"{self} cannot be reset: it is the sum of all workers, and Prometheus must not see it fall. Give what "
            f"restarts a label of its own and remove() its series, or measure with a Gauge"
        )

    def count_exceptions(
        self, exception: type[BaseException] | tuple[type[BaseException], ...] = Exception
    ) -> ExceptionCounter:
        """Count exceptions of these types that leave a block or a function: a context manager and decorator."""
        return ExceptionCounter(self._bound.inc, exception)


class Gauge(Wrapper):
    """A value that goes up and down. ``multiprocess_mode`` says how the workers' values become one."""

    _kind = "gauge"

    def __init__(  # noqa: PLR0917  as prometheus_client's
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: CollectorRegistry | None = REGISTRY,
        *,
        multiprocess_mode: GaugeMode = "all",
    ) -> None:
        if multiprocess_mode not in _MERGES:
            raise ValueError(f"invalid multiprocess mode {multiprocess_mode!r}; choose one of {', '.join(_MERGES)}")
        self._merge = _MERGES[multiprocess_mode]
        self._sets_only = multiprocess_mode.endswith("mostrecent")
        super().__init__(name, documentation, labelnames, namespace, subsystem, unit, registry)

    def _shape(self) -> dict[str, Any]:
        return {"merge": self._merge}

    def set(self, value: float) -> None:
        """The value is ``value`` now, in this worker."""
        self._bound.set(value)

    def inc(self, amount: float = 1) -> None:
        """Add to this worker's value. RuntimeError where the most recent of all workers' is what counts."""
        self._add(amount, "inc")

    def dec(self, amount: float = 1) -> None:
        """Subtract from this worker's value; see `inc`."""
        self._add(-amount, "dec")

    def _add(self, amount: float, what: str) -> None:
        if self._sets_only:
            raise RuntimeError(f"{what} must not be used with the mostrecent mode, which {self} has")
        self._bound.inc(amount)

    def set_to_current_time(self) -> None:
        """The value is the time now, in seconds since the epoch."""
        self.set(time.time())

    def track_inprogress(self) -> InprogressTracker:
        """Count a block or a function while it runs: a context manager and decorator."""
        _ = self._bound.inc  # a ValueError here and now, where labels are missing
        return InprogressTracker(self.inc, self.dec)

    def time(self) -> Timer:
        """Set to the seconds that a block or a function took: a context manager and decorator."""
        return Timer(self, "set")

    def set_function(self, f: object) -> NoReturn:
        """Refused: RuntimeError."""
        raise RuntimeError(
            f"{self} cannot take its value from a function, which other processes could not call; set() it when it "
            f"changes, or register a collector of your own that calls {f!r}"
        )


class Histogram(Wrapper):
    """Counts values by size, over the whole fleet."""

    _kind = "histogram"
    DEFAULT_BUCKETS: ClassVar[tuple[float, ...]] = (*custom.DEFAULT_BUCKETS, float("inf"))

    def __init__(  # noqa: PLR0917  as prometheus_client's
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: CollectorRegistry | None = REGISTRY,
        *,
        buckets: Sequence[float | str] = DEFAULT_BUCKETS,
    ) -> None:
        self._buckets = bounds(buckets)
        super().__init__(name, documentation, labelnames, namespace, subsystem, unit, registry)

    def _shape(self) -> dict[str, Any]:
        return {"buckets": self._buckets}

    def observe(self, amount: float, exemplar: Exemplar = None) -> None:
        """Count one value. ``exemplar``: labels that tell of which request it is."""
        self._bound.observe(amount, exemplar or None)

    def time(self) -> Timer:
        """Observe the seconds that a block or a function takes: a context manager and decorator."""
        return Timer(self, "observe")


class Summary(Wrapper):
    """Counts values and adds them up, over the whole fleet."""

    _kind = "summary"

    def observe(self, amount: float) -> None:
        """Count one value."""
        self._bound.observe(amount)

    def time(self) -> Timer:
        """Observe the seconds that a block or a function takes: a context manager and decorator."""
        return Timer(self, "observe")


class Info(Wrapper):
    """Texts about the fleet: the last that any worker said."""

    _kind = "info"
    _suffix = "_info"

    def info(self, val: Mapping[str, str]) -> None:
        """It says ``val`` now. ValueError for None, for keys that are labels of the metric or cannot be labels."""
        if any(text is None for text in val.values()):
            raise ValueError(f"{self} cannot say None: {dict(val)}")
        self._bound.info(val)


class Enum(Wrapper):
    """Which of its states something is in: the last that any worker set, the first of them before."""

    _kind = "enum"

    def __init__(  # noqa: PLR0917  as prometheus_client's
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: CollectorRegistry | None = REGISTRY,
        *,
        states: Sequence[str] | None = None,
    ) -> None:
        if not states:
            raise ValueError(f"enum {name!r} needs states")
        self._states = tuple(states)
        super().__init__(name, documentation, labelnames, namespace, subsystem, unit, registry)

    def _shape(self) -> dict[str, Any]:
        return {"states": self._states}

    def state(self, state: str) -> None:
        """It is in ``state`` now, one of its states (ValueError)."""
        self._bound.state(state)
