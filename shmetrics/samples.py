"""Samples: traffic over time, second by second or coarser, which is what trends are judged by. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shmetrics.layout import SECONDS
from shmetrics.snapshot import Snapshot


@dataclass(frozen=True)
class Samples:
    """What happened in one span of time after the other: arrays of float64, each of shape (n,), oldest first."""

    times: NDArray[np.float64]
    """When each span ended: monotonic seconds."""
    seconds: NDArray[np.float64]
    """How long each was."""
    requests: NDArray[np.float64]
    errors: NDArray[np.float64]
    records: NDArray[np.float64]
    """Requests whose measurements were numbers."""
    latency_sum: NDArray[np.float64]
    """Seconds of total_time of these."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> float:
        """Seconds from the beginning of the first to the end of the last."""
        return float(self.times[-1] - self.times[0] + self.seconds[0]) if len(self) else 0.0

    def where(self, chosen: NDArray[np.bool_]) -> "Samples":
        """Some of them. ``chosen``: shape (n,)."""
        return Samples(
            self.times[chosen], self.seconds[chosen], self.requests[chosen], self.errors[chosen], self.records[chosen],
            self.latency_sum[chosen],
        )  # fmt: skip

    def merged(self, count: int) -> "Samples":
        """Every `count` neighbours as one; at the old end some are left out where the number does not divide."""
        whole = len(self) // count * count

        def rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return values[len(self) - whole :].reshape(-1, count)

        sums = (rows(each).sum(axis=1) for each in (self.seconds, self.requests, self.errors, self.records,
                                                    self.latency_sum))  # fmt: skip
        return Samples(rows(self.times)[:, -1], *sums)


def per_second(snapshot: Snapshot, seconds: float = SECONDS) -> Samples:
    """The last `seconds` full seconds of the fleet, 300 at most, from the first of them that had a request on.

    Seconds without a request are there, with zeros. Requests with bad measurements are not counted, and an error is
    told of in the second of the first request that is recorded after it.
    """
    folded, present = snapshot.folded, math.floor(snapshot.taken_at)
    age = present - folded.second.astype(np.int64)
    known = (folded.requests > 0) & (age >= 1) & (age <= min(seconds, SECONDS - 1))
    length = int(age[known].max(initial=0))
    place = length - age[known]

    def column(values: NDArray[np.generic]) -> NDArray[np.float64]:
        filled = np.zeros(length)
        filled[place] = values[known]
        return filled

    requests = column(folded.requests)
    times = np.arange(present - length + 1, present + 1, dtype=np.float64)
    return Samples(times, np.ones(length), requests, column(folded.second_errors), requests, column(folded.latency_sum))
