"""The workers one by one: what each does, and what the operating system says of its process.

The label is ``worker``, the slot's number, never the pid: slots are few and are taken again, so a thousand restarts
make no new series. A counter that starts anew under the same number is what Prometheus takes for a restart, which it
is.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from shmetrics.exporters.prometheus.ready import Ready, gauge, remembered
from shmetrics.layout import GENERATIONS
from shmetrics.resources import process_figures
from shmetrics.snapshot import Snapshot, WorkerSnapshot
from shmetrics.statistics import recent_rates

_LABELS: Final = ("worker", "generation")
"""The second is of what is counted for each generation of objects."""
_COUNTERS: Final = {
    "requests_total": ("Requests of this worker.", ""),
    "errors_total": ("Failed requests of this worker.", ""),
    "gc_collections": ("Garbage collections of this worker, up to its last fold.", ""),
    "gc_objects_collected": ("Objects that they freed.", ""),
    "gc_objects_uncollectable": ("Objects that they could not free.", ""),
    "gc_seconds": ("Time spent in them; of workers that measure it.", "seconds"),
    "cpu_seconds_total": ("CPU time of the process, user and system.", "seconds"),
}
_GAUGES: Final = {
    "busy_ratio": ("Part of the last 10 seconds spent serving.", "ratio"),
    "busy_1m_ratio": ("Part of the last minute spent serving.", "ratio"),
    "in_flight_requests": ("Requests being served now.", ""),
    "oldest_in_flight_seconds": ("How long the oldest of those has been; 0 when there is none.", "seconds"),
    "start_time_seconds": ("When the worker took its slot.", "seconds"),
    "resident_memory_bytes": ("Memory the process has resident.", "bytes"),
    "virtual_memory_bytes": ("Address space of the process.", "bytes"),
    "threads": ("Threads of the process.", ""),
    "open_fds": ("Open file descriptors of the process.", ""),
}
"""By the name behind the prefix: the help text and the unit."""

_GARBAGE: Final = ("gc_collections", "gc_objects_collected", "gc_objects_uncollectable", "gc_seconds")
"""As `snapshot.Garbage` has them."""

_Slots = tuple[int, ...]
"""Of which worker each number is; of numbers of each generation, that many are of each."""


def families(snapshot: Snapshot, epoch: float, prefix: str) -> Iterator[Metric]:
    """A sample for each live worker in each. ``epoch``: the wall time of the monotonic clock's zero, in seconds."""
    prefix = f"{prefix}shmetrics_"
    workers = [worker for worker in snapshot.workers if worker.alive]
    slots = _slots(workers)
    yield from _work(workers, slots, snapshot.taken_at, epoch, f"{prefix}worker_")
    yield from _busy(workers, slots, snapshot.taken_at, prefix)
    yield from _garbage(workers, f"{prefix}worker_")
    yield from _usage(workers, f"{prefix}worker_")


def _slots(workers: Iterable[WorkerSnapshot]) -> _Slots:
    return tuple([worker.slot for worker in workers])


def _work(workers: Sequence[WorkerSnapshot], slots: _Slots, now: float, epoch: float, prefix: str) -> Iterator[Metric]:
    created = [float(math.floor(epoch + worker.claimed_at)) for worker in workers]
    oldest = [now - worker.in_flight[0].started_at if worker.in_flight else 0.0 for worker in workers]
    requests, errors = ([getattr(worker.counters, name) for worker in workers] for name in ("requests", "errors"))
    yield _counter(prefix, "requests_total", slots, requests, created=created)
    yield _counter(prefix, "errors_total", slots, errors, created=created)
    yield _gauge(prefix, "in_flight_requests", slots, [worker.in_flight_count for worker in workers])
    yield _gauge(prefix, "oldest_in_flight_seconds", slots, oldest)
    yield _gauge(prefix, "start_time_seconds", slots, created)


def _busy(workers: Sequence[WorkerSnapshot], slots: _Slots, now: float, prefix: str) -> Iterator[Metric]:
    """How busy each worker is, and all of them are on average: what to scale by."""
    rates = recent_rates(workers, now)
    for name, fractions, text in (
        ("busy_ratio", [each.busy_fraction for each in rates], "10 seconds"),
        ("busy_1m_ratio", [each.busy_fraction_1m for each in rates], "minute"),
    ):
        yield _gauge(f"{prefix}worker_", name, slots, fractions)
        mean = sum(fractions) / len(fractions) if fractions else 0.0
        about = f"Mean part of the last {text} that a live worker served."
        yield gauge(f"{prefix}{name}", about, mean, "ratio")


def _garbage(workers: Sequence[WorkerSnapshot], prefix: str) -> Iterator[Metric]:
    """Of each generation; the seconds only where the worker measures them."""
    known = [(worker.slot, worker.garbage) for worker in workers if worker.garbage_counts]
    timed = [(slot, garbage) for slot, garbage in known if any(garbage.seconds)]
    for at, name in enumerate(_GARBAGE):
        shown = timed if name == "gc_seconds" else known
        numbers = [number for _, garbage in shown for number in garbage[at]]
        yield _counter(prefix, name, tuple([slot for slot, _ in shown]), numbers, labels=_LABELS)


def _usage(workers: Sequence[WorkerSnapshot], prefix: str) -> Iterator[Metric]:
    """What the kernel knows; a worker whose process cannot be seen from here (another PID namespace) has no sample."""
    looks = zip(workers, process_figures(workers), strict=True)
    seen = [(worker, figures) for worker, figures in looks if figures is not None]
    slots = _slots(worker for worker, _ in seen)
    yield _counter(prefix, "cpu_seconds_total", slots, [figures.cpu_seconds for _, figures in seen])
    yield _gauge(prefix, "resident_memory_bytes", slots, [figures.rss_bytes for _, figures in seen])
    yield _gauge(prefix, "virtual_memory_bytes", slots, [figures.virtual_bytes for _, figures in seen])
    yield _gauge(prefix, "threads", slots, [figures.threads for _, figures in seen])
    counted = [(worker, figures.open_fds) for worker, figures in seen if figures.open_fds is not None]
    slots = _slots(worker for worker, _ in counted)
    yield _gauge(prefix, "open_fds", slots, [count for _, count in counted])


def _counter(
    prefix: str,
    name: str,
    slots: _Slots,
    numbers: Sequence[float],
    *,
    created: Sequence[float] | None = None,
    labels: Sequence[str] = _LABELS[:1],
) -> Metric:
    """``created``: of each series, when it began; where that is shown."""

    def build() -> Metric:
        text, unit = _COUNTERS[name]
        family = CounterMetricFamily(prefix + name, text, labels=labels, unit=unit)
        generations = range(GENERATIONS) if labels == _LABELS else [None]
        keys = [(slot, generation) for slot in slots for generation in generations]
        for at, (key, value) in enumerate(zip(keys, numbers, strict=True)):
            family.add_metric(
                [str(each) for each in key if each is not None], value, None if created is None else created[at]
            )
        return family

    shown = numbers
    if created is not None:
        shown = [number for both in zip(numbers, created, strict=True) for number in both]
    return Ready(remembered((_counter, prefix, name, slots), build), shown, build)


def _gauge(prefix: str, name: str, slots: _Slots, numbers: Sequence[float]) -> Metric:
    def build() -> Metric:
        text, unit = _GAUGES[name]
        family = GaugeMetricFamily(prefix + name, text, labels=_LABELS[:1], unit=unit)
        for slot, value in zip(slots, numbers, strict=True):
            family.add_metric([str(slot)], value)
        return family

    return Ready(remembered((_gauge, prefix, name, slots), build), numbers, build)
