"""Data for reports, of known figures: what a page must show of it can be said beforehand."""

import numpy as np

from shmetrics import sketch
from shmetrics.exporters.profiles.report_data import (
    Breakdown,
    Bucket,
    Component,
    FunctionReport,
    ReportData,
    SlowCall,
    WorkerRow,
)
from shmetrics.profiling.profile import Profile

NOW = 1_790_000_000.0
SPLIT = {"feature_extraction": 0.3, "model_inference": 0.6, "post_processing": 0.1}

PROFILE = Profile(
    {
        ("app:serve", "app:predict", "torch"): 60,
        ("app:serve", "app:predict", "features:extract", "numpy"): 25,
        ("app:serve", "app:predict", "features:extract"): 5,
        ("app:serve", "app:encode"): 10,
    },
    interval=0.01,
    seconds=1.0,
)


def sketched(values):
    """What a sketch has of some values."""
    counts = np.bincount(sketch.bucket_index(np.asarray(values)), minlength=sketch.SIZE)
    bounds = [0.0, *sketch.upper_bounds()]
    return [Bucket(float(bounds[at]), float(bounds[at + 1]), int(counts[at])) for at in np.flatnonzero(counts)]


def a_function(name="predict", calls=1000, mean=0.05, **changes):
    """A function in four workers, the third of which is slow; errors are in the first."""
    values = np.random.default_rng(1).lognormal(np.log(mean), 0.4, calls)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    seconds = float(values.sum())
    workers = [
        WorkerRow(
            slot, 100 + slot, calls // 4, 3 * (slot == 0), seconds / 4 * (2.0 if slot == 2 else 1.0), p50, p95, p99
        )
        for slot in range(4)
    ]
    fields = {
        "name": name,
        "calls": calls,
        "errors": 3,
        "seconds": seconds,
        "own": seconds,
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "p50": p50,
        "p90": p90,
        "p95": p95,
        "p99": p99,
        "buckets": sketched(values),
        "breakdowns": [
            Breakdown("stages", [Component(part, share * seconds) for part, share in SPLIT.items()], "Of every call.")
        ],
        "workers": [*workers, WorkerRow(None, None, 40, 0, 2.0)],
        "slowest": [SlowCall(0.4, NOW - 60, 2, 102), SlowCall(0.8, NOW - 30, 0, 100, "TimeoutError", "batch of 8")],
        "profile": PROFILE,
    }
    return FunctionReport(**{**fields, **changes})


def a_report(*functions, **changes):
    """Of two functions, or of those given."""
    functions = functions or (a_function(), a_function("tokenize", calls=400, mean=0.001, profile=None))
    fields = {
        "hub": "resnet",
        "made_at": NOW,
        "since": NOW - 7200,
        "live_workers": 4,
        "workers_seen": 9,
        "functions": functions,
        "profile": PROFILE,
    }
    return ReportData(**{**fields, **changes})
