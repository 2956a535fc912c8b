"""A finding, and the evidence that rules judge: what `findings` and `stragglers` have in common. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from shmetrics.snapshot import Snapshot, Usage, WorkerSnapshot

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing to know: how bad it is, about whom, and in words what was found and what to do."""

    kind: str
    level: Level
    text: str
    subject: str = ""
    """Of `shmetrics doctor`: what it is about, "hub resnet" say."""
    worker: int | None = None
    """The slot of the worker it is about."""
    pid: int | None = None
    value: float | None = None
    """What was found, in the rule's own measure."""
    threshold: float | None = None
    """From where on that is a finding."""


STUCK_AFTER: Final = 10.0
"""Seconds for which a request may be served, unless somebody says otherwise."""


@dataclass(frozen=True)
class Evidence:
    """What rules judge: the fleet at one instant, and what the operating system says of its workers, by slot."""

    fleet: Snapshot
    usages: Mapping[int, Usage] = field(default_factory=dict)
    stuck_after: float = STUCK_AFTER
    has_aggregator: bool = False
    """Whether some process reaps the dead at once."""

    @property
    def live(self) -> list[WorkerSnapshot]:
        """The live workers."""
        return [worker for worker in self.fleet.workers if worker.alive]

    def state(self, worker: WorkerSnapshot) -> str | None:
        """The kernel's state of a worker's process (proc(5)), where it is known."""
        usage = self.usages.get(worker.slot)
        return None if usage is None else usage.state

    def age(self, worker: WorkerSnapshot) -> float:
        """Seconds since a worker took its slot."""
        return self.fleet.taken_at - worker.claimed_at


Rule = Callable[[Evidence], Iterator[Finding]]


def about(worker: WorkerSnapshot, kind: str, level: Level, text: str, *, value: float, threshold: float) -> Finding:
    """A finding about one worker; ``text`` goes on after its name."""
    return Finding(
        kind,
        level,
        f"worker {worker.pid} in slot {worker.slot} {text}",
        worker=worker.slot,
        pid=worker.pid,
        value=value,
        threshold=threshold,
    )
