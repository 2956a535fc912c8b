"""Bottlenecks: what holds the fleet up, as a list of rules, each one small function over the evidence. Pure.

To add a rule, write a function from `Evidence` to a `Bottleneck` or None, put it into `RULES` and its threshold into
docs/trends.md. A rule says nothing where there is too little to judge by.

Times are those of the window (docs/statistics.md): the last records of every worker that lives or ended just now.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import trends
from shmetrics.layout import MEASURES
from shmetrics.snapshot import Snapshot, WorkerSnapshot
from shmetrics.statistics import BUSY_SECONDS, STABILITY_SECONDS, PerSecond, busy_fraction
from shmetrics.window import Window, window_of

HIGH: Final = "high"
MEDIUM: Final = "medium"
LOW: Final = "low"
_ORDER: Final = (HIGH, MEDIUM, LOW)

FEWEST_RECORDS: Final = 30
"""Records in the window that a judgement of times needs."""
STAGE_LIMITS: Final = (0.5, 0.3, 0.15)
"""Preprocessing and quantization: share of total time from which their impact is high, medium, low."""
INFERENCE_LIMITS: Final = (math.inf, 0.9, 0.7)
"""The same of inference, which ought to take the time; and where the workers are saturated."""
INFERENCE_LIMITS_SATURATED: Final = (0.7, 0.5, 0.3)
BATCHING_LIMITS: Final = (0.6, 0.4, 0.25)
"""Part of the inference time of the mean batch that does not depend on its size."""
CACHE_LIMITS: Final = (0.5, 0.2, 0.1)
"""Share of lookups that miss."""
ERROR_LIMITS: Final = (0.05, 0.01, 0.001)
"""Errors per request."""
BUSY_LIMITS: Final = (0.95, 0.85, 0.7)
"""Busy fraction of the mean worker."""
IMBALANCE_LIMITS: Final = (3.0, 2.0, 1.5)
"""Load of the busiest worker over that of the mean one; or a worker's median latency over the fleet's."""
CPU_LIMITS: Final = (0.95, 0.85, 0.7)
"""Of the CPUs that this machine may use."""
MEMORY_LIMITS: Final = (0.5, 0.2, 0.05)
"""Growth of the mean worker's memory in an hour, relative to what it is."""
MEMORY_SECONDS: Final = 3600.0
"""How far back memory is looked at, and of how many seconds each value is."""
MEMORY_STEP: Final = 60.0


@dataclass(frozen=True)
class Evidence:
    """What the rules look at."""

    snapshot: Snapshot
    cpu_percents: Sequence[float] = ()
    """Of each live worker of which it is known, of one CPU."""
    cpus: int = 1
    """How many the workers may use."""
    memory: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Times (monotonic seconds) and bytes of the mean worker over the last hour, where there is a history."""
    live: Sequence[WorkerSnapshot] = field(init=False)
    window: Window = field(init=False)

    def __post_init__(self) -> None:
        workers = self.snapshot.workers
        object.__setattr__(self, "live", [worker for worker in workers if worker.alive])
        object.__setattr__(self, "window", window_of(worker for worker in workers if worker.counted))

    def measure(self, name: str) -> NDArray[np.float64]:
        """A measure of every valid record of the window."""
        values: NDArray[np.float64] = self.window.measures[MEASURES.index(name)]
        return values

    def of_age(self, seconds: float) -> list[WorkerSnapshot]:
        """Live workers that have been there for so long."""
        return [worker for worker in self.live if self.snapshot.taken_at - worker.claimed_at >= seconds]

    @property
    def busy(self) -> float:
        """The busy fraction of the mean live worker, but for those too young to have one."""
        fractions = [busy_fraction(worker, self.snapshot.taken_at) for worker in self.of_age(BUSY_SECONDS)]
        return sum(fractions) / len(fractions) if fractions else 0.0

    @property
    def cpu(self) -> float | None:
        """CPUs that the workers use, over those that they may; None where it is not known of any."""
        return sum(self.cpu_percents) / (100.0 * self.cpus) if self.cpu_percents else None


@dataclass(frozen=True)
class Bottleneck:
    """A finding."""

    component: str
    impact: str
    """HIGH, MEDIUM or LOW."""
    weight: float
    """From 0 to 1: ranks findings of the same impact. For stages, the share of total time."""
    evidence: str
    """What was seen, in a sentence."""
    recommendation: str
    share: float | None = None
    """Of total time, where the finding is about that."""

    def as_dict(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return {
            "component": self.component,
            "impact": self.impact,
            "share": self.share,
            "evidence": self.evidence,
            "recommendation": self.recommendation,
        }


def find(evidence: Evidence) -> list[Bottleneck]:
    """What every rule found, the worst first."""
    found = [bottleneck for rule in RULES if (bottleneck := rule(evidence)) is not None]
    return sorted(found, key=lambda each: (_ORDER.index(each.impact), -each.weight))


# Where the time goes --------------------------------------------------------------------------------------------------


def preprocessing(evidence: Evidence) -> Bottleneck | None:
    """Preprocessing takes a large share of total time."""
    return _stage(
        evidence,
        "preprocessing",
        STAGE_LIMITS,
        "Prepare inputs in other threads or processes while the model runs, vectorise it, and cache what repeats.",
    )


def quantization(evidence: Evidence) -> Bottleneck | None:
    """Quantization takes a large share of total time."""
    return _stage(
        evidence,
        "quantization",
        STAGE_LIMITS,
        "Quantize weights once, when the model is loaded, and use static calibration rather than dynamic ranges.",
    )


def inference(evidence: Evidence) -> Bottleneck | None:
    """Inference takes nearly all of total time: nothing else is worth making faster first.

    It ought to, so the impact is high only where the workers are saturated.
    """
    is_divided = any(evidence.measure(f"{stage}_time").any() for stage in ("preprocessing", "quantization"))
    return _stage(
        evidence,
        "inference",
        INFERENCE_LIMITS_SATURATED if evidence.busy >= BUSY_LIMITS[1] else INFERENCE_LIMITS,
        "The model itself is what takes the time: compile or quantize it, use a smaller one, or larger batches."
        if is_divided
        else "Whatever the application does counts as inference, since it names no stages: name them "
        '(`with metrics.stage("preprocessing")`) to see what takes the time.',
    )


def _stage(evidence: Evidence, stage: str, limits: Sequence[float], recommendation: str) -> Bottleneck | None:
    total = float(evidence.measure("total_time").sum())
    if evidence.window.count < FEWEST_RECORDS or total <= 0.0:
        return None
    spent = float(evidence.measure(f"{stage}_time").sum())
    share = min(1.0, spent / total)
    mean = 1e3 * spent / evidence.window.count
    said = f"{100.0 * share:.0f} % of total time, {mean:.3g} ms a request"
    return _graded(stage, share, limits, said, recommendation, share=share)


def batching(evidence: Evidence) -> Bottleneck | None:
    """A batch costs much before its first sample: inference time = fixed + each * batch size, by least squares over
    the median time of each batch size. Needs three sizes, the largest at least twice the smallest.
    """
    sizes, times = evidence.measure("batch_size"), evidence.measure("inference_time")
    known = sizes > 0.0
    distinct, which = np.unique(sizes[known], return_inverse=True)
    if np.count_nonzero(known) < FEWEST_RECORDS or len(distinct) < 3 or distinct[-1] < 2.0 * distinct[0]:
        return None
    medians = np.array([np.median(times[known][which == at]) for at in range(len(distinct))])
    weights = np.sqrt(np.bincount(which))
    each, fixed = np.polyfit(distinct, medians, 1, w=weights)
    mean = float(sizes[known].mean())
    predicted = fixed + each * mean
    if fixed <= 0.0 or each < 0.0 or predicted <= 0.0:
        return None
    part = float(fixed / predicted)
    return _graded(
        "batching",
        part,
        BATCHING_LIMITS,
        f"{1e3 * fixed:.3g} ms of the {1e3 * predicted:.3g} ms of a batch of {mean:.3g} do not depend on its size, "
        f"and a sample more costs {1e3 * each:.3g} ms",
        f"Collect requests into larger batches: of {2.0 * mean:.3g} rather than {mean:.3g}, a sample would take "
        f"{100.0 * (1.0 - (fixed / (2.0 * mean) + each) * mean / predicted):.0f} % less time.",
    )


# What goes wrong ------------------------------------------------------------------------------------------------------


def cache(evidence: Evidence) -> Bottleneck | None:
    """Many lookups miss."""
    window = evidence.window
    lookups = window.cache_hits + window.cache_misses
    if lookups < FEWEST_RECORDS:
        return None
    missed = window.cache_misses / lookups
    return _graded(
        "cache",
        missed,
        CACHE_LIMITS,
        f"{100.0 * missed:.0f} % of {lookups:,} lookups miss",
        "Make the cache larger, let entries live longer, or share one between workers; look at how keys are made.",
    )


def errors(evidence: Evidence) -> Bottleneck | None:
    """Requests fail."""
    window = evidence.window
    if window.requests < FEWEST_RECORDS:
        return None
    rate = min(1.0, window.errors / window.requests)
    said = "1 error" if window.errors == 1 else f"{window.errors:,} errors"
    return _graded(
        "errors",
        rate,
        ERROR_LIMITS,
        f"{said} in {window.requests:,} requests, {100.0 * rate:.2g} %",
        "Look at what fails in the server's log first: failed requests take time, and are often tried again.",
    )


# How the workers are --------------------------------------------------------------------------------------------------


def saturation(evidence: Evidence) -> Bottleneck | None:
    """Workers are busy nearly all the time, so requests wait: with random arrivals the wait grows as 1 / (1 - busy)."""
    busy, cpu, count = evidence.busy, evidence.cpu, len(evidence.live)
    waits = cpu is not None and cpu * evidence.cpus < 0.5 * busy * count
    return _graded(
        "saturation",
        busy,
        BUSY_LIMITS,
        f"{count} worker{'s are' if count != 1 else ' is'} busy {100.0 * busy:.0f} % of the time, over the last "
        f"{BUSY_SECONDS:.0f} s",
        "Workers wait for something else than the CPU (a device, a network, a lock) while they serve: add workers or "
        "threads, or make what they wait for faster."
        if waits
        else "Add workers where there are CPUs left, else machines; until then shed load rather than queue it.",
    )


def imbalance(evidence: Evidence) -> Bottleneck | None:
    """One worker serves far more than the mean of all, or takes far longer: its median against the median of all."""
    workers = evidence.of_age(STABILITY_SECONDS)
    if len(workers) < 2:
        return None
    now = evidence.snapshot.taken_at
    load = np.array(
        [PerSecond(worker.folded, now, now - worker.claimed_at).rate(float(STABILITY_SECONDS)) for worker in workers]
    )
    medians = np.array([_median_latency(worker) for worker in workers])
    timed = medians[medians > 0.0]
    found = []
    if load.mean() * STABILITY_SECONDS >= FEWEST_RECORDS:
        busiest = workers[int(load.argmax())]
        ratio = float(load.max() / load.mean())
        said = f"worker {busiest.pid} in slot {busiest.slot} serves {ratio:.1f} times as much as the mean worker"
        found.append((ratio, said, "Look at how connections are shared out: keep-alive, SO_REUSEPORT, a sticky proxy."))
    if len(timed) >= 2:
        slowest = workers[int(medians.argmax())]
        ratio = float(medians.max() / np.median(timed))
        said = f"worker {slowest.pid} in slot {slowest.slot} takes {ratio:.1f} times as long as the others"
        found.append((ratio, said, "Look at that worker: its CPU, its memory, its device; restart it if it stays so."))
    if not found:
        return None
    ratio, said, recommendation = max(found)
    return _graded("worker imbalance", ratio, IMBALANCE_LIMITS, said, recommendation, weight=1.0 - 1.0 / ratio)


def _median_latency(worker: WorkerSnapshot) -> float:
    """Of its window's total times; 0.0 of too few."""
    window = window_of([worker])
    return float(np.median(window.measures[-1])) if window.count >= FEWEST_RECORDS else 0.0


def cpu(evidence: Evidence) -> Bottleneck | None:
    """The workers use nearly all CPUs there are."""
    used = evidence.cpu
    if used is None:
        return None
    return _graded(
        "CPU",
        min(1.0, used),
        CPU_LIMITS,
        f"workers use {used * evidence.cpus:.1f} of {evidence.cpus} CPUs",
        "Use fewer threads for each worker than there are CPUs for it, a faster model, or more CPUs.",
    )


def memory_growth(evidence: Evidence) -> Bottleneck | None:
    """The mean worker's memory grows, by Mann-Kendall and Theil-Sen over the last hour: needs a history."""
    if evidence.memory is None:
        return None
    times, size = evidence.memory
    if len(size) < trends.FEWEST:
        return None
    test, level = trends.mann_kendall(times, size), float(np.median(size))
    if test.p_value >= trends.SIGNIFICANCE or level <= 0.0:
        return None
    growth = test.slope * MEMORY_SECONDS / level
    return _graded(
        "memory growth",
        growth,
        MEMORY_LIMITS,
        f"the mean worker has {size[-1] / 2**20:,.0f} MiB and grows by {test.slope * 3600.0 / 2**20:,.1f} MiB an hour",
        "Look for what is kept between requests (caches without a bound, tracebacks, gradients); until it is found, "
        "let workers end after so many requests, as gunicorn's max_requests does.",
        weight=min(1.0, max(0.0, growth)),
    )


RULES: Final[tuple[Callable[[Evidence], Bottleneck | None], ...]] = (
    preprocessing,
    inference,
    quantization,
    batching,
    cache,
    errors,
    saturation,
    imbalance,
    cpu,
    memory_growth,
)


def _graded(
    component: str,
    value: float,
    limits: Sequence[float],
    evidence: str,
    recommendation: str,
    *,
    share: float | None = None,
    weight: float | None = None,
) -> Bottleneck | None:
    """A finding of the impact whose limit the value reaches; None below all."""
    for impact, limit in zip(_ORDER, limits, strict=True):
        if value >= limit:
            return Bottleneck(component, impact, value if weight is None else weight, evidence, recommendation, share)
    return None
