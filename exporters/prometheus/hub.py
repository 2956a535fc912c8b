"""The hub's health as families, all named ``shmetrics_...``."""

from collections.abc import Iterator

from prometheus_client.core import InfoMetricFamily, Metric

import shmetrics
from shmetrics.exporters.prometheus.names import writable
from shmetrics.exporters.prometheus.ready import counter, gauge
from shmetrics.snapshot import Snapshot


def families(snapshot: Snapshot, created: float, prefix: str) -> Iterator[Metric]:
    """How full the hub is, and what went wrong. ``created``: when it was made, seconds since the epoch."""
    health, prefix = snapshot.health, f"{prefix}shmetrics_"
    about = {"hub": writable(snapshot.name), "version": shmetrics.__version__}
    yield InfoMetricFamily(f"{prefix}hub", "Which hub this is, and whose code reads it.", value=about)
    yield gauge(f"{prefix}hub_start_time_seconds", "When the hub was made.", created, "seconds")
    yield gauge(f"{prefix}hub_bytes", "Shared memory the hub takes, from its start.", health.bytes, "bytes")
    for name, value, text in (
        ("slots", health.slots_total, "Worker processes that can record at once."),
        ("slots_live", health.slots_live, "Slots of live workers."),
        ("slots_dead", health.slots_dead, "Slots of workers that ended and were not reaped yet."),
        ("window_size", snapshot.window_size, "Records of each worker in the window."),
        ("catalog_blocks", health.catalog_total, "Blocks for custom metrics and their series."),
        (
            "catalog_blocks_used",
            health.catalog_used,
            "Blocks that are taken: one by each metric and series, as a rule.",
        ),
        ("cells", health.cells_total, "Cells for the values of custom metrics, in each slot."),
        ("cells_used", health.cells_used, "Cells that are taken."),
        ("stale", int(health.stale), "1 when the whole page shows an earlier instant, because the hub was too busy."),
        ("stale_slots", health.stale_slots, "Workers that are shown as they were an instant ago."),
        ("corrupt_parts", len(health.corrupt), "Parts of the hub that cannot be believed and are left out."),
        ("unlinked", int(health.unlinked), "1 when the hub was removed, so that no new process can find it."),
    ):
        yield gauge(prefix + name, text, value)
    for name, value, text in (
        ("workers_seen_total", snapshot.workers_seen, "Worker processes that ever took a slot."),
        (
            "workers_died_total",
            snapshot.obituaries[-1].serial if snapshot.obituaries else 0,
            "Workers that ended without giving their slot up: crashed, or killed.",
        ),
        ("dropped_records_total", snapshot.counters.dropped, "Records of workers that found no slot."),
        ("refused_series_total", health.refused_series, "Times that a custom series found no room."),
        ("invalid_records_total", int(snapshot.folded.invalid), "Requests with a NaN, infinite or negative figure."),
        ("corrupt_slots_reaped_total", health.corrupt_reaped, "Dead slots freed unread: they could not be believed."),
    ):
        yield counter(prefix + name, text, value, created)


def hidden_families(count: int, prefix: str) -> Metric:
    """How many families are missing on this page because their name is taken, or cannot be written."""
    return gauge(f"{prefix}shmetrics_hidden_families", "Families left out: name taken or not legal.", count)
