"""Samples: the hub's own seconds, and merging neighbours."""

import numpy as np
import pytest

from shmetrics.layout import SECONDS
from shmetrics.samples import Samples, per_second
from tests.forge import NOW, fleet, records, worker

SECOND = int(NOW)


def seconds(*counts, **columns):
    """The samples of a fleet with so many requests in each of the seconds before this one, the last one last."""
    times = np.repeat(np.arange(SECOND - len(counts), SECOND) + 0.5, counts)
    return per_second(fleet(worker(records(times, **columns), window_size=100_000)))


def test_each_full_second_is_a_sample():
    samples = seconds(3, 1, 2)
    assert samples.requests.tolist() == samples.records.tolist() == [3.0, 1.0, 2.0]
    assert samples.seconds.tolist() == [1.0, 1.0, 1.0]
    assert samples.times.tolist() == [SECOND - 2, SECOND - 1, SECOND]
    assert samples.latency_sum.tolist() == pytest.approx([0.3, 0.1, 0.2])
    assert samples.span == 3.0


def test_the_second_that_has_not_ended_is_left_out():
    assert len(per_second(fleet(worker(records([SECOND + 0.1]))))) == 0


def test_seconds_without_a_request_are_samples_and_those_before_the_first_are_not():
    samples = seconds(0, 0, 2, 0, 0, 1, 0)
    assert samples.requests.tolist() == [2.0, 0.0, 0.0, 1.0, 0.0]


def test_errors_are_those_of_their_second():
    samples = seconds(2, 2, errors=[1, 1, 1, 3])
    assert samples.errors.tolist() == [1.0, 2.0]


def test_no_more_than_asked_for_and_than_there_is():
    snapshot = fleet(worker(records(np.arange(SECOND - 400, SECOND) + 0.5), window_size=1000))
    assert len(per_second(snapshot)) == SECONDS - 1
    assert len(per_second(snapshot, 60.0)) == 60
    assert len(per_second(snapshot, 86400.0)) == SECONDS - 1


def test_an_empty_hub_has_none():
    samples = per_second(fleet())
    assert (len(samples), samples.span) == (0, 0.0)
    assert len(samples.merged(5)) == 0


def test_neighbours_merge_and_the_oldest_are_left_out_where_the_number_does_not_divide():
    samples = seconds(9, 1, 2, 3, 4)
    merged = samples.merged(2)
    assert merged.requests.tolist() == [3.0, 7.0]
    assert merged.seconds.tolist() == [2.0, 2.0]
    assert merged.times.tolist() == [SECOND - 2, SECOND]
    assert isinstance(merged, Samples)
