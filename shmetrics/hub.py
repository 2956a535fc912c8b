"""A hub as any process sees it: read-only, whole, at once."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final

from shmetrics import guards, merge, naming, segment
from shmetrics.errors import HubClosedError, HubFileTypeError, HubInUseError, HubNotFoundError, HubRefusedError
from shmetrics.evidence import STUCK_AFTER, Evidence
from shmetrics.findings import find
from shmetrics.locks import ATTACHED, ROLE, ByteLock, is_locked, slot_byte
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import Obituary
from shmetrics.reader import Reader
from shmetrics.resources import Resources
from shmetrics.segment import Segment
from shmetrics.snapshot import Snapshot
from shmetrics.statistics import Statistics, comprehensive

_FIRST_TRIES: Final = 100
"""Reads that the first snapshot takes at most, where the retired area changes under each; no reapers are so busy."""


class View:
    """What can be read from a mapped segment: the part that `Hub` and `PerformanceMetrics` have in common.

    Any thread may call. Reading waits for guards for 5 ms at most and never makes a worker wait.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segment: Segment | None = segment
        self._clock, self._sleep = clock, sleep
        self._made_reader: Reader | None = None
        self._resources = Resources()
        self._last: Snapshot | None = None

    @property
    def _reader(self) -> Reader:
        """Made when somebody reads: a worker that only records needs none.

        (By no ``cached_property``: before 3.12 that has a lock, which a child of fork would find held for ever.)
        """
        if self._made_reader is None:
            self._made_reader = Reader(self.segment, clock=self._clock, sleep=self._sleep)
        return self._made_reader

    @property
    def segment(self) -> Segment:
        """The mapped segment; HubClosedError after `close`."""
        if self._segment is None:
            raise HubClosedError("this hub was closed; attach again to read it")
        return self._segment

    def snapshot(self) -> Snapshot:
        """The fleet at this instant."""
        _ = self.segment
        try:
            copy = self._reader.read()
            for _ in range(_FIRST_TRIES):
                if copy.retired is not None or self._last is not None:
                    break
                copy = self._reader.read()  # there is nothing to fall back on, and half a fleet is no answer
        except (OSError, ValueError):
            _ = self.segment  # closed meanwhile, by another thread or a signal handler: HubClosedError
            raise
        self._last = merge.snapshot(copy, self._last)
        return self._last

    def comprehensive(
        self, *, fleet: Snapshot | None = None, stuck_after: float = STUCK_AFTER, **options: Any
    ) -> Statistics:
        """`statistics.comprehensive` of a snapshot, a fresh one unless given, with each worker's CPU and memory.

        And with the `findings`, for which a request is stuck after so many seconds.
        """
        fleet = self.snapshot() if fleet is None else fleet
        figures = comprehensive(fleet, **options)
        counted = [worker for worker in fleet.workers if worker.counted]
        usages = self._resources.usages(counted)
        for row, usage in zip(figures["workers"], usages, strict=True):
            row.update(usage._asdict())
        by_slot = {worker.slot: usage for worker, usage in zip(counted, usages, strict=True)}
        evidence = Evidence(fleet, by_slot, stuck_after, self.has_aggregator)
        figures["findings"] = [asdict(finding) for finding in find(evidence)]
        return figures

    @property
    def has_aggregator(self) -> bool:
        """Whether some process holds ROLE."""
        return is_locked(self.segment.descriptor, ROLE)

    def close(self) -> None:
        """Let the mapping go."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None


class Hub:
    """A read-only view of a hub, for any process of the same user: a monitor, a script, a worker.

    Made by `Hub.attach`; usable as a context manager. Any thread may call.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    @classmethod
    def attach(cls, name: str) -> "Hub":
        """The hub of that name.

        Raises ValueError for a name that no hub can have, HubNotFoundError where there is none, and a HubRefusedError
        (HubFileTypeError, HubOwnerError, HubPermissionError, HubLayoutError, HubStaleError) that says what is wrong
        with the file under that name and what to do.
        """
        return cls(View(segment.attach(name)))

    def __repr__(self) -> str:
        return f"Hub(name={self.name!r})"

    @property
    def name(self) -> str:
        """The hub's name."""
        return self._view.segment.name

    @property
    def view(self) -> View:
        """What reads the hub, for parts of shmetrics that watch it."""
        return self._view

    def snapshot(self) -> Snapshot:
        """The fleet at this instant, as immutable data."""
        return self._view.snapshot()

    def statistics(
        self,
        *,
        detailed: bool = True,
        percentiles: bool = True,
        max_age: float | None = None,
        stuck_after: float = STUCK_AFTER,
    ) -> Statistics:
        """Every figure of the fleet, a row for each worker, findings, and the hub's health: a JSON-ready dictionary.

        ``stuck_after``: seconds after which a request in flight is a finding.
        """
        return self._view.comprehensive(
            detailed=detailed, percentiles=percentiles, max_age=max_age, stuck_after=stuck_after
        )

    def obituaries(self) -> tuple[Obituary, ...]:
        """What is known of the last workers that died without giving their slots up, the newest last: 64 at most."""
        return Obituaries(self._view.segment).read()

    def workers(self) -> list[Statistics]:
        """A row for each worker that lives, or ended less than a minute ago."""
        rows: list[Statistics] = self.statistics(detailed=False)["workers"]
        return rows

    @property
    def has_aggregator(self) -> bool:
        """Whether some process holds ROLE."""
        return self._view.has_aggregator

    def close(self) -> None:
        """Let the mapping go; reading then raises HubClosedError."""
        self._view.close()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove(name: str, *, force: bool = False) -> None:
    """Remove a hub by name: the segment and its semaphores.

    Raises HubNotFoundError where there is none, and HubInUseError while any process has it attached for recording: a
    worker, an aggregator, a server that has not forked yet. ``force`` removes it under them, and removes a file that is
    refused as a hub.
    """
    try:
        target = segment.attach(name)
    except HubNotFoundError:
        raise
    except HubRefusedError:
        path = naming.segment_path(name)
        if not force or os.lstat(path).st_uid != os.geteuid():
            raise
        try:
            os.unlink(path)
        except OSError as error:
            raise HubFileTypeError(
                f"{path} is not a file and cannot be removed here ({error}); remove it by hand"
            ) from None
        guards.unlink_all(f"{naming.segment_file(name)}.")
        return
    try:
        with ByteLock(target.descriptor, ATTACHED) as removal:  # so that nobody attaches it from here on
            in_use_by = users(target, attached=not removal.try_acquire())
            if in_use_by and not force:
                raise HubInUseError(
                    f"hub {name!r} is in use by {' and '.join(in_use_by)}; stop the server and `shmetrics serve` "
                    f"first, or use --force: they then go on unseen, and workers that start later make a new hub"
                )
            if not segment.unlink(name, target.instance):
                raise HubInUseError(
                    f"hub {name!r} is being removed by another process, which stands still; end that one"
                )
    finally:
        target.close()


def live_workers(target: Segment) -> int:
    """How many workers have a slot and live, by their kernel locks alone."""
    return sum(is_locked(target.descriptor, slot_byte(slot)) for slot in range(target.layout.max_workers))


def users(target: Segment, *, attached: bool | None = None) -> list[str]:
    """Who uses a hub, in words; none when it may be removed.

    ``attached``: whether another process has it attached for recording, where the caller knows.
    """
    if attached is None:
        attached = is_locked(target.descriptor, ATTACHED)
    live = live_workers(target)
    found = [f"{live} live worker{'s' if live != 1 else ''}"] if live else []
    if is_locked(target.descriptor, ROLE):
        found.append("an aggregator")
    return found or (["a process that has not recorded yet"] if attached else [])
