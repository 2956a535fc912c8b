"""Bottlenecks: each rule on both sides of its thresholds."""

import json

import numpy as np
import pytest

from shmetrics import bottlenecks
from shmetrics.bottlenecks import HIGH, LOW, MEDIUM, Evidence, find
from shmetrics.snapshot import RequestInFlight
from tests.forge import NOW, fleet, records, worker

SOON = 1.0
"""Seconds before now at which forged records stand."""


def evidence(*workers, **fields):
    return Evidence(fleet(*workers), **fields)


def of_stages(inference, preprocessing=0.0, quantization=0.0, count=100):
    """A worker whose requests all take these times."""
    return evidence(
        worker(
            records(
                np.full(count, NOW - SOON),
                inference_time=inference,
                preprocessing_time=preprocessing,
                quantization_time=quantization,
            ),
            window_size=count,
        )
    )


def impact(rule, found):
    bottleneck = rule(found)
    return None if bottleneck is None else bottleneck.impact


# Where the time goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.14, None), (0.16, LOW), (0.31, MEDIUM), (0.51, HIGH), (1.0, HIGH)])
@pytest.mark.parametrize("stage", ["preprocessing", "quantization"])
def test_a_stage_with_a_large_share_of_the_time(stage, share, expected):
    found = of_stages(**{"inference": 1e-4 * (1.0 - share), stage: 1e-4 * share})
    assert impact(getattr(bottlenecks, stage), found) == expected
    if expected:
        assert getattr(bottlenecks, stage)(found).share == pytest.approx(share)


@pytest.mark.parametrize(("share", "expected"), [(0.69, None), (0.71, LOW), (0.91, MEDIUM), (1.0, MEDIUM)])
def test_inference_ought_to_take_the_time(share, expected):
    assert impact(bottlenecks.inference, of_stages(1e-4 * share, 1e-4 * (1.0 - share))) == expected


def test_where_the_application_names_no_stages_it_is_said_that_all_counts_as_inference():
    assert "names no stages: name them" in bottlenecks.inference(of_stages(0.1)).recommendation
    assert "compile or quantize it" in bottlenecks.inference(of_stages(0.095, 0.005)).recommendation


@pytest.mark.parametrize(("share", "expected"), [(0.29, None), (0.31, LOW), (0.51, MEDIUM), (0.71, HIGH)])
def test_inference_weighs_more_where_the_workers_are_saturated(share, expected):
    assert impact(bottlenecks.inference, of_stages(0.1 * share, 0.1 * (1.0 - share))) == expected


def test_a_few_requests_say_nothing_of_stages():
    found = of_stages(0.0, 1.0, count=bottlenecks.FEWEST_RECORDS - 1)
    assert impact(bottlenecks.preprocessing, found) is None
    assert find(evidence()) == []
    assert find(Evidence(fleet(worker()))) == []


# Batching -------------------------------------------------------------------------------------------------------------


def batches(fixed, each, sizes, noise=0.0):
    """A worker that takes a fixed time for each batch, and a time for each sample."""
    rng, sizes = np.random.default_rng(1), np.asarray(sizes, float)
    times = (fixed + each * sizes) * rng.lognormal(0.0, noise, len(sizes)) if noise else fixed + each * sizes
    return evidence(
        worker(records(np.full(len(sizes), NOW - SOON), inference_time=times, batch_size=sizes), window_size=len(sizes))
    )


@pytest.mark.parametrize(("part", "expected"), [(0.2, None), (0.3, LOW), (0.5, MEDIUM), (0.7, HIGH)])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_batch_that_costs_much_before_its_first_sample(part, expected, noise):
    sizes = np.tile(np.arange(1, 17), 60)
    found = batches(part, (1.0 - part) / sizes.mean(), sizes, noise)
    assert impact(bottlenecks.batching, found) == expected
    if expected and not noise:
        assert bottlenecks.batching(found).weight == pytest.approx(part)


def test_the_advice_on_batches_is_arithmetic():
    found = bottlenecks.batching(batches(0.010, 0.001, np.tile([5.0, 10.0, 15.0], 20)))
    assert found.evidence.startswith("10 ms of the 20 ms of a batch of 10 do not depend on its size")
    assert "batches: of 20 rather than 10, a sample would take 25 % less time" in found.recommendation


def test_batches_of_few_sizes_say_nothing():
    for sizes in ([1.0] * 100, [1.0, 2.0] * 50, [10.0, 11.0, 12.0] * 30, [1.0, 2.0, 3.0]):
        assert impact(bottlenecks.batching, batches(1.0, 0.001, sizes)) is None


def test_batches_that_get_cheaper_with_size_are_not_fitted():
    """A measurement that contradicts the model is no evidence."""
    assert impact(bottlenecks.batching, batches(1.0, -0.01, np.tile(np.arange(1, 17), 6))) is None


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("misses", "expected"), [(9, None), (10, LOW), (20, MEDIUM), (50, HIGH)])
def test_lookups_that_miss(misses, expected):
    rows = records(np.full(100, NOW - SOON))
    found = evidence(worker(rows, counters={"cache_hits": 100 - misses, "cache_misses": misses}))
    assert impact(bottlenecks.cache, found) == expected


def test_a_few_lookups_say_nothing():
    assert impact(bottlenecks.cache, evidence(worker(counters={"cache_misses": 29}))) is None


@pytest.mark.parametrize(("errors", "expected"), [(0, None), (1, LOW), (10, MEDIUM), (50, HIGH)])
def test_requests_that_fail(errors, expected):
    rows = records(np.full(1000, NOW - SOON))
    found = evidence(worker(rows, window_size=1000, counters={"errors": errors}))
    assert impact(bottlenecks.errors, found) == expected


# How the workers are --------------------------------------------------------------------------------------------------


def serving(busy, slot=0, **fields):
    """A worker that was busy for this part of each of the last seconds."""
    times = np.arange(NOW - 12.0, NOW)  # nine and a half of the last ten seconds have a record
    return worker(records(times, inference_time=busy / 0.95), slot=slot, **fields)


@pytest.mark.parametrize(("busy", "expected"), [(0.65, None), (0.75, LOW), (0.87, MEDIUM), (0.97, HIGH)])
def test_workers_that_are_always_busy(busy, expected):
    assert impact(bottlenecks.saturation, evidence(serving(busy), serving(busy, slot=1))) == expected


def test_a_request_under_way_is_busy_too():
    stuck = worker(in_flight=(RequestInFlight(NOW - 60.0, 0),))
    assert impact(bottlenecks.saturation, evidence(stuck)) == HIGH


def test_a_worker_that_has_just_come_says_nothing_of_saturation():
    assert impact(bottlenecks.saturation, evidence(serving(1.0, claimed_at=NOW - 5.0))) is None


def test_what_to_do_depends_on_whether_the_cpu_is_what_is_busy():
    workers = serving(0.97), serving(0.97, slot=1)
    computing = bottlenecks.saturation(evidence(*workers, cpu_percents=(96.0, 96.0), cpus=4))
    waiting = bottlenecks.saturation(evidence(*workers, cpu_percents=(5.0, 5.0), cpus=4))
    assert "Add workers where there are CPUs left" in computing.recommendation
    assert "wait for something else than the CPU" in waiting.recommendation


def loaded(slot, rate, latency=0.01, **fields):
    """A worker with so many requests in each second of the last two minutes."""
    times = np.repeat(np.arange(NOW - 120.0, NOW - 0.5), rate)
    return worker(records(times, inference_time=latency), slot=slot, window_size=len(times), **fields)


@pytest.mark.parametrize(("rate", "expected"), [(10, None), (20, LOW), (40, MEDIUM), (400, HIGH)])
def test_a_worker_that_serves_far_more_than_the_others(rate, expected):
    workers = [loaded(slot, 10) for slot in range(3)]
    found = evidence(*workers, loaded(3, rate, pid=77))
    assert impact(bottlenecks.imbalance, found) == expected
    if expected:
        assert "worker 77 in slot 3 serves" in bottlenecks.imbalance(found).evidence


@pytest.mark.parametrize(("latency", "expected"), [(0.014, None), (0.016, LOW), (0.021, MEDIUM), (0.031, HIGH)])
def test_a_worker_that_takes_far_longer_than_the_others(latency, expected):
    workers = [loaded(slot, 10) for slot in range(3)]
    found = evidence(*workers, loaded(3, 10, latency, pid=77))
    assert impact(bottlenecks.imbalance, found) == expected
    if expected:
        assert "worker 77 in slot 3 takes" in bottlenecks.imbalance(found).evidence


def test_young_dead_or_lonely_workers_say_nothing_of_balance():
    assert impact(bottlenecks.imbalance, evidence(loaded(0, 10))) is None
    young = loaded(1, 400, claimed_at=NOW - 30.0)
    dead = loaded(2, 400, alive=False, ended_at=NOW - 1.0)
    assert impact(bottlenecks.imbalance, evidence(loaded(0, 10), young, dead)) is None


@pytest.mark.parametrize(("percent", "expected"), [(60.0, None), (75.0, LOW), (90.0, MEDIUM), (99.0, HIGH)])
def test_workers_that_use_all_cpus_there_are(percent, expected):
    found = evidence(cpu_percents=(percent, percent), cpus=2)
    assert impact(bottlenecks.cpu, found) == expected
    assert impact(bottlenecks.cpu, evidence(cpus=2)) is None


@pytest.mark.parametrize(("growth", "expected"), [(0.02, None), (0.1, LOW), (0.3, MEDIUM), (0.8, HIGH), (-0.5, None)])
def test_memory_that_grows(growth, expected):
    rng, times = np.random.default_rng(2), np.arange(0.0, 3600.0, 60.0)
    size = 1e9 * (1.0 + growth * (times / 3600.0 - 0.5)) + rng.normal(0.0, 1e6, len(times))
    assert impact(bottlenecks.memory_growth, evidence(memory=(times, size))) == expected


def test_memory_that_is_what_it_was_or_hardly_known_says_nothing():
    rng, times = np.random.default_rng(3), np.arange(0.0, 3600.0, 60.0)
    assert impact(bottlenecks.memory_growth, evidence(memory=(times, 1e9 + rng.normal(0.0, 3e8, 60)))) is None
    assert impact(bottlenecks.memory_growth, evidence(memory=(times[:5], 1e9 * times[:5]))) is None
    assert impact(bottlenecks.memory_growth, evidence()) is None


# All of them ----------------------------------------------------------------------------------------------------------


def test_the_worst_come_first():
    rows = records(np.full(100, NOW - SOON), inference_time=1e-4, preprocessing_time=0.8e-4)
    counters = {"errors": 2, "cache_hits": 10, "cache_misses": 90}
    found = find(evidence(worker(rows, counters=counters), cpu_percents=(97.0,)))
    assert [each.component for each in found] == ["CPU", "cache", "preprocessing", "errors"]
    assert [each.impact for each in found] == [HIGH, HIGH, MEDIUM, MEDIUM]


def test_a_finding_is_json_ready_and_says_what_to_do():
    for found in find(of_stages(0.1, 0.2)):
        as_dict = found.as_dict()
        assert list(as_dict) == ["component", "impact", "share", "evidence", "recommendation"]
        json.dumps(as_dict, allow_nan=False)
        assert as_dict["recommendation"].endswith(".")


def test_records_that_cannot_be_are_left_out():
    good = records(np.full(100, NOW - SOON), inference_time=1e-4)
    bad = records(np.full(100, NOW - SOON), inference_time=np.nan, preprocessing_time=1e9)
    whole = evidence(worker(np.concatenate([good, bad]), window_size=200))
    assert impact(bottlenecks.preprocessing, whole) is None


def test_every_rule_has_its_threshold_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parent.parent / "docs" / "trends.md").read_text()
    for rule in bottlenecks.RULES:
        assert f"`{rule.__name__}`" in page, rule.__name__
