"""An alert as people and programs get it: plain data, JSON-ready. Pure."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["firing", "resolved"]


@dataclass(frozen=True)
class Alert:
    """What is announced: that a rule fires, fires still, is more severe now, or that it is over.

    Handlers and receivers get ``as_dict()``, whose keys are these names.
    """

    type: str
    """The rule's name."""
    severity: str
    """critical, warning or info; that an alert is over is an info."""
    state: State
    message: str
    current_value: float
    threshold: float | None
    """What the value is held against: the rule's, or a finding's own."""
    timestamp: float
    """When this was found, seconds since the epoch."""
    hub: str
    labels: dict[str, str]
    """The rule's own, and which worker or series it is about."""
    annotations: dict[str, str] = field(default_factory=dict)
    started_at: float = 0.0
    """When it began to fire, seconds since the epoch."""
    ended_at: float | None = None
    """When it was over; None while it fires."""
    highest_severity: str = ""
    """The most urgent it ever was."""
    samples: float | None = None
    """Requests or lookups that the value rests on."""

    @property
    def fingerprint(self) -> str:
        """The same for everything that is said of one alert, in every process: hub, type and labels."""
        text = repr((self.hub, self.type, sorted(self.labels.items())))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """All of it, and its fingerprint: strings, finite numbers, None and dictionaries of strings."""
        return asdict(self) | {"fingerprint": self.fingerprint}
