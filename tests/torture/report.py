"""What one torture came to, for people and for programs."""

from dataclasses import asdict, dataclass, field

BROKEN = {
    "lost": "acknowledged records that are gone",
    "decreases": "totals that went down",
    "torn": "rows that mix two records",
    "invented": "counts beyond what was acknowledged, or one more",
    "unequal": "sums and sketches that disagree with the count",
    "corrupt": "slots that no correct writer leaves so",
    "overposted": "guards released by who did not hold them",
    "late": "calls above their bound",
    "blocked_writes": "context switches of writers waiting in record",
    "hangs": "processes that came no further",
    "crashes": "processes that ended with an exception",
    "leftovers": "locks, slots and semaphores nobody cleans up",
}
"""Every kind of broken promise; each is a field of Report that must be 0."""


@dataclass
class Report:
    """Counts and worst times of one torture. Times in milliseconds; `BROKEN` says what the promises' fields mean."""

    seed: int
    seconds: float = 0.0
    deaths: int = 0
    deaths_at_failpoints: int = 0
    deaths_by_step: dict = field(default_factory=dict)
    stops: int = 0
    records: int = 0
    reads: int = 0
    stale: int = 0
    lost: int = 0
    decreases: int = 0
    torn: int = 0
    invented: int = 0
    unequal: int = 0
    corrupt: int = 0
    overposted: int = 0
    late: int = 0
    blocked_writes: int = 0
    hangs: int = 0
    crashes: int = 0
    leftovers: int = 0
    worst_claim_ms: float = 0.0
    worst_read_ms: float = 0.0
    worst_read_blocked_ms: float = 0.0
    worst_guard_wait_ms: float = 0.0
    broken_after: float | None = None
    examples: dict = field(default_factory=dict)

    @property
    def good(self):
        """Whether every promise held."""
        return not any(getattr(self, kind) for kind in BROKEN)

    @property
    def verdict(self):
        """One line: what was broken, if anything."""
        if self.good:
            return "every promise held"
        broken = ", ".join(f"{kind} {getattr(self, kind)}" for kind in BROKEN if getattr(self, kind))
        return f"BROKEN after {self.broken_after:.1f} s: {broken}"

    @property
    def first_broken(self):
        """Which kinds of promise were broken, and the first example."""
        broken = ", ".join(kind for kind in BROKEN if getattr(self, kind))
        return broken + "".join(f" {detail}" for detail in list(self.examples.values())[:1])

    def as_dict(self):
        """Everything, ready for JSON."""
        return {**asdict(self), "good": self.good}

    def table(self):
        """Everything, one line a figure."""
        by_step = ", ".join(f"{step} {count:,}" for step, count in sorted(self.deaths_by_step.items()))
        lines = [
            f"seed {self.seed}, {self.seconds:.0f} s",
            "",
            _line("deaths", self.deaths, "processes killed"),
            _line("at failpoints", self.deaths_at_failpoints, by_step),
            _line("stops", self.stops, "processes stopped somewhere for a while, and continued"),
            _line("records", self.records, "acknowledged"),
            _line("reads", self.reads, "by the monitor, each checked"),
            _line("stale", self.stale, "reads that had to show an earlier state of something"),
            "",
            *(_line(kind.replace("_", " "), getattr(self, kind), meaning) for kind, meaning in BROKEN.items()),
            "",
            _line("worst claim", self.worst_claim_ms, "wall time"),
            _line("worst read", self.worst_read_ms, "wall time, queueing for a CPU included"),
            _line("worst blocked", self.worst_read_blocked_ms, "a read waiting for others, whatever for"),
            _line("worst guards", self.worst_guard_wait_ms, "a read sleeping because of guards, all together"),
            "",
            *(f"first {kind}: {detail}" for kind, detail in self.examples.items()),
            f"verdict: {self.verdict}",
        ]
        return "\n".join(lines)


def _line(name, value, meaning):
    number = f"{value:,.2f} ms" if isinstance(value, float) else f"{value:,}   "
    return f"{name:<15}{number:>16}  {meaning}".rstrip()
