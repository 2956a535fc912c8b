"""Which workers stand out among those that ran a function. Pure."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from shmetrics.exporters.profiles.report_data import WorkerRow
from shmetrics.stragglers import LEAST_WORKERS, OUTLIER, modified_z

_LEAST_CALLS: Final = 10
"""Of a worker, before its mean says anything."""
_ALIKE: Final = 0.05
"""Workers whose means differ by less are alike."""
_SLOWER: Final = 1.5
_MORE_ERRORS: Final = 3.0
"""Times the median of all workers."""
_LEAST_ERRORS: Final = 5


def marks(rows: Sequence[WorkerRow]) -> list[str]:
    """For each worker what stands out, in words; empty where nothing does, or where there are too few to compare."""
    found = ["" for _ in rows]
    judged = [index for index, row in enumerate(rows) if row.slot is not None and row.calls >= _LEAST_CALLS]
    if len(judged) < LEAST_WORKERS:
        return found
    means = [rows[index].seconds / rows[index].calls for index in judged]
    errors = [rows[index].errors / rows[index].calls for index in judged]
    usual_errors = median(errors)
    timed = all(mean > 0.0 for mean in means)
    scores = modified_z([math.log(mean) for mean in means], [_ALIKE] * len(means)) if timed else [0.0] * len(means)
    usual = median(means)
    for index, mean, score, rate in zip(judged, means, scores, errors, strict=True):
        words = []
        if score > OUTLIER and mean >= _SLOWER * usual:
            words.append(f"{mean / usual:.1f} times slower")
        if rows[index].errors >= _LEAST_ERRORS and rate > max(_MORE_ERRORS * usual_errors, 0.01):
            words.append(f"{rate:.0%} errors")
        found[index] = ", ".join(words)
    return found
