"""The workers one by one: what each does, and what the operating system says of its process.

The label is ``worker``, the slot's number, never the pid: slots are few and are taken again, so a thousand restarts
make no new series. A counter that starts anew under the same number is what Prometheus takes for a restart, which it
is. What only the process itself can know (its garbage collector, its thread pools) is not here.
"""

import math
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from shmetrics.resources import process_figures
from shmetrics.snapshot import Snapshot, WorkerSnapshot
from shmetrics.statistics import busy_fraction

_LABELS: Final = ("worker",)


def families(snapshot: Snapshot, epoch: float, prefix: str) -> Iterator[Metric]:
    """A sample for each live worker in each. ``epoch``: the wall time of the monotonic clock's zero, in seconds."""
    prefix = f"{prefix}shmetrics_worker_"
    workers = [worker for worker in snapshot.workers if worker.alive]
    yield from _work(workers, snapshot.taken_at, epoch, prefix)
    yield from _usage(workers, prefix)


def _work(workers: list[WorkerSnapshot], now: float, epoch: float, prefix: str) -> Iterator[Metric]:
    requests = CounterMetricFamily(f"{prefix}requests_total", "Requests of this worker.", labels=_LABELS)
    errors = CounterMetricFamily(f"{prefix}errors_total", "Failed requests of this worker.", labels=_LABELS)
    busy = GaugeMetricFamily(
        f"{prefix}busy_ratio", "Part of the last 10 seconds spent serving, 0 to 1.", labels=_LABELS, unit="ratio"
    )
    in_flight = GaugeMetricFamily(f"{prefix}in_flight_requests", "Requests being served now.", labels=_LABELS)
    oldest = GaugeMetricFamily(
        f"{prefix}oldest_in_flight_seconds",
        "How long the oldest of those has been; 0 when there is none.",
        labels=_LABELS,
        unit="seconds",
    )
    start = GaugeMetricFamily(
        f"{prefix}start_time_seconds", "When the worker took its slot.", labels=_LABELS, unit="seconds"
    )
    for worker in workers:
        label, created = [str(worker.slot)], float(math.floor(epoch + worker.claimed_at))
        requests.add_metric(label, worker.counters.requests, created)
        errors.add_metric(label, worker.counters.errors, created)
        busy.add_metric(label, busy_fraction(worker, now))
        in_flight.add_metric(label, len(worker.in_flight))
        oldest.add_metric(label, now - min((request.started_at for request in worker.in_flight), default=now))
        start.add_metric(label, created)
    yield from (requests, errors, busy, in_flight, oldest, start)


def _usage(workers: list[WorkerSnapshot], prefix: str) -> Iterator[Metric]:
    """What the kernel knows; a worker whose process cannot be seen from here (another PID namespace) has no sample."""
    cpu = CounterMetricFamily(
        f"{prefix}cpu_seconds_total", "CPU time of the process, user and system.", labels=_LABELS, unit="seconds"
    )
    gauges = {
        field: GaugeMetricFamily(prefix + name, text, labels=_LABELS, unit=unit)
        for field, name, text, unit in (
            ("rss_bytes", "resident_memory_bytes", "Memory the process has resident.", "bytes"),
            ("virtual_bytes", "virtual_memory_bytes", "Address space of the process.", "bytes"),
            ("threads", "threads", "Threads of the process.", ""),
            ("open_fds", "open_fds", "Open file descriptors of the process.", ""),
        )
    }
    for worker in workers:
        figures = process_figures(worker)
        if figures is None:
            continue
        label = [str(worker.slot)]
        cpu.add_metric(label, figures.cpu_seconds)
        for field, family in gauges.items():
            value = getattr(figures, field)
            if value is not None:
                family.add_metric(label, value)
    yield from (cpu, *gauges.values())
