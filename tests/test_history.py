"""The history: windows, percentiles and series from differences of totals, at several resolutions."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from shmetrics import sketch
from shmetrics.history import TIERS, History
from shmetrics.layout import MEASURES, RECORD
from tests.forge import NOW, fleet, records, worker
from tests.ticks import Feed

SMALL = ((1.0, 8, 512), (10.0, 6, 512), (60.0, 5, 512))
NAMES = (
    *("requests", "errors", "rate", "error_rate", "latency_mean", "latency_max"),
    *("p50", "p95", "p99", "busy", "workers", "rss"),
)


@pytest.fixture
def history():
    return History(SMALL)


@pytest.fixture
def feed(history):
    return Feed(history)


# Windows --------------------------------------------------------------------------------------------------------------


def test_nothing_was_seen_before_the_first_snapshot(history):
    window = history.window(60.0)
    assert (window.requests, window.errors, window.cache_hits, window.cache_misses, window.seconds) == (0, 0, 0, 0, 0.0)
    assert (window.rate, window.error_rate, window.cache_hit_rate, window.percentile("total_time", 99.0)) == (0,) * 4
    assert len(history.series("rate", 60.0, 1.0).values) == 0
    assert len(history.samples(60.0, 1.0)) == 0


def test_what_was_there_at_the_first_snapshot_is_not_of_any_window(history, feed):
    feed.tick(100, requests=50)
    assert history.window(60.0).requests == 0
    feed.tick(101, requests=3)
    assert history.window(60.0).requests == 3


def test_a_window_has_the_counts_of_its_seconds(history, feed):
    for second in range(100, 108):
        feed.tick(second, requests=second, errors=2, hits=3, misses=1)
    window = history.window(3.0)
    assert (window.requests, window.errors, window.cache_hits, window.cache_misses) == (107 + 106 + 105, 6, 9, 3)
    assert window.seconds == 3.0
    assert window.rate == pytest.approx(106.0)
    assert window.error_rate == pytest.approx(6 / 318)
    assert window.cache_hit_rate == 0.75


def test_a_longer_window_than_there_is_history_says_what_it_covers(history, feed):
    for second in range(100, 105):
        feed.tick(second, requests=10)
    assert (history.window(60.0).requests, history.window(60.0).seconds) == (40, 4.0)


def test_a_window_is_right_in_the_middle_of_a_bin(history, feed):
    """Ten seconds and minutes are not over yet, and count."""
    for second in range(100, 128):
        feed.tick(second, requests=1)
    assert history.window(25.0).requests == pytest.approx(25, abs=5)
    assert history.window(25.0).rate == pytest.approx(1.0)
    assert (history.window(200.0).requests, history.window(200.0).seconds) == (27, 27.0)


@pytest.mark.parametrize("pause", [0.05, 0.4, 1.0, 1.013, 1.37, 7.0, 61.0])
def test_whatever_the_pace_nothing_is_lost_and_rates_are_right(pause):
    history = History()
    feed = Feed(history)
    ticks = max(40, int(100 / pause) if pause < 1 else 0)
    for at in range(ticks + 1):
        feed.tick(100.0 + at * pause, requests=10 if at else 0)
    whole = history.window(7 * 86400.0)
    assert whole.requests == 10 * ticks
    assert whole.seconds == pytest.approx(ticks * pause)
    for seconds in (10.0, 60.0, 300.0):
        assert history.window(seconds).rate == pytest.approx(10 / pause)
    assert history.series("rate", 600.0, 1.0).values == pytest.approx(10 / pause)


def test_a_window_shorter_than_the_pace_has_the_last_bin(history, feed):
    for at in range(4):
        feed.tick(100.0 + 60.0 * at, requests=6)
    assert (history.window(10.0).requests, history.window(10.0).seconds) == (6, 60.0)


def test_errors_without_requests_are_a_rate_of_one(history, feed):
    feed.tick(100)
    feed.tick(101, errors=3)
    assert history.window(10.0).error_rate == 1.0
    assert history.series("error_rate", 8.0, 1.0).values.tolist() == [1.0]


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(history, seconds):
    with pytest.raises(ValueError, match="seconds must be seconds, above 0 and finite, not"):
        history.window(seconds)
    with pytest.raises(ValueError, match="step must be seconds, above 0 and finite, not"):
        history.series("rate", 10.0, seconds)


# Percentiles ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hour():
    """An hour of 20 requests a second whose latency doubles meanwhile, and the raw records."""
    history, rng, rows = History(), np.random.default_rng(7), []
    feed = Feed(history)
    feed.tick(1000)
    for second in range(1000, 4600):
        batch = records(
            np.sort(second + rng.random(20)),
            inference_time=rng.lognormal(-4.0, 1.0, 20) * (1 + (second - 1000) / 3600),
            batch_size=rng.integers(1, 65, 20),
            preprocessing_time=1e-5 + rng.exponential(0.002, 20),
            quantization_time=np.where(rng.random(20) < 0.5, rng.uniform(0.0, 0.01, 20), 0.0),
        )
        rows.append(batch)
        feed.tick(second + 1, rows=batch)
    return history, np.concatenate(rows)


@pytest.mark.parametrize("seconds", [1.0, 10.0, 60.0, 300.0, 900.0, 3600.0])
@pytest.mark.parametrize("measure", MEASURES)
def test_percentiles_of_a_window_are_those_of_the_raw_records_within_the_sketchs_error(hour, measure, seconds):
    history, rows = hour
    window = history.window(seconds)
    assert window.seconds == pytest.approx(seconds)
    inside = rows[rows["time"] >= 4600.0 - seconds]
    assert window.requests == len(inside)
    values = (
        inside["inference_time"] + inside["preprocessing_time"] + inside["quantization_time"]
        if measure == "total_time"
        else inside[measure]
    )
    for percent in (0.0, 1.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0):
        exact = np.percentile(values, percent)
        assert window.percentile(measure, percent) == pytest.approx(exact, rel=sketch.RELATIVE_ERROR + 1e-9, abs=1e-12)


@pytest.mark.parametrize("limit", [0.0, 2**-7, 2**-5, 0.25, 1e9])
def test_the_share_above_a_limit_is_that_of_the_raw_records_to_the_bucket(hour, limit):
    history, rows = hour
    values = rows["inference_time"] + rows["preprocessing_time"] + rows["quantization_time"]
    share = history.window(3600.0).share_above("total_time", limit)
    assert np.mean(values > limit * sketch.GROWTH) <= share <= np.mean(values > limit)


def test_nothing_has_no_share_above_anything(history):
    assert history.window(1.0).share_above("total_time", 0.1) == 0.0


def test_a_percentile_may_be_asked_for_later(history, feed):
    for second in range(100, 105):
        feed.tick(second, requests=5, latency=0.25)
    window = history.window(3.0)
    feed.tick(105, requests=100, latency=9.0)
    assert window.percentile("total_time", 100.0) == pytest.approx(0.25, rel=0.011)


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan])
def test_a_percentile_that_is_none_is_refused(history, feed, percent):
    feed.tick(100)
    with pytest.raises(ValueError, match="percent must be from 0 to 100, not"):
        history.window(1.0).percentile("total_time", percent)


def test_a_measure_that_is_none_is_refused(history, feed):
    feed.tick(100)
    with pytest.raises(ValueError, match="no measure 'latency'; there are inference_time, batch_size"):
        history.window(1.0).percentile("latency", 50.0)


def test_extremes_of_an_earlier_hub_do_not_bend_percentiles(history, feed):
    """What is clipped to the least and the greatest value must know those of both hubs."""
    feed.tick(100)
    feed.tick(101, requests=100, latency=8.0)
    other = Feed(history, created_at=101.5)
    other.tick(102)
    other.tick(103, requests=1, latency=0.001)
    assert history.window(10.0).percentile("total_time", 50.0) == pytest.approx(8.0, rel=0.011)


# Memory ---------------------------------------------------------------------------------------------------------------


def test_the_memory_is_bounded_and_taken_once():
    history = History()
    before = history.nbytes
    assert before <= 52_000_000
    feed = Feed(history)
    for second in range(50):
        feed.tick(second, requests=100, latency=0.01 * (second + 1))
    assert history.nbytes == before


def test_the_resolutions_reach_back_as_far_as_they_should():
    assert [step * rows for step, rows, _ in TIERS] == [15 * 60, 6 * 3600, 7 * 86400]


def test_a_resolution_that_is_full_forgets_its_oldest_and_coarser_ones_still_know(history, feed):
    for second in range(100, 161):
        feed.tick(second, requests=1)
    assert history.window(8.0).requests == 8
    assert history.tiers[0].added == 60
    assert len(history.tiers[0].numbers()) == 8
    window = history.window(55.0)
    assert window.requests == window.seconds
    assert 50 <= window.requests <= 60
    assert history.window(300.0).requests == 60


def test_the_coarsest_forgets_too(history, feed):
    for minute in range(20):
        feed.tick(60.0 * minute, requests=6)
    assert (history.window(86400.0).requests, history.window(86400.0).seconds) == (30, 300.0)


# Gaps, clocks and other hubs ------------------------------------------------------------------------------------------


def test_a_time_in_which_nobody_looked_is_one_bin_and_in_no_window_shorter_than_itself(history, feed):
    for second in range(100, 104):
        feed.tick(second, requests=1)
    feed.tick(203, requests=1000)  # the aggregator was stopped for 100 s
    for second in range(204, 207):
        feed.tick(second, requests=1)
    assert (history.window(3.0).requests, history.window(3.0).seconds) == (3, 3.0)
    assert (history.window(5.0).requests, history.window(5.0).seconds) == (3, 3.0)
    assert history.window(200.0).requests == 3 + 1000 + 3
    assert history.series("rate", 8.0, 1.0).values.tolist() == [1.0, 1.0, 1.0]


def test_the_wall_clock_may_jump(history, feed):
    for second in range(100, 105):
        feed.tick(second, requests=1, taken_at_wall=1e9 * (-1) ** second)
    assert (history.window(10.0).requests, history.window(10.0).seconds) == (4, 4.0)


def test_a_snapshot_no_later_than_the_last_is_left_out(history, feed):
    feed.tick(100)
    feed.tick(101, requests=1)
    feed.tick(101, requests=1)
    feed.tick(100.5, requests=1)
    assert history.window(10.0).requests == 1
    feed.tick(102, requests=1)
    assert (history.window(10.0).requests, history.window(10.0).seconds) == (4, 2.0)


def test_another_hub_begins_anew_and_what_was_is_kept(history, feed):
    for second in range(100, 103):
        feed.tick(second, requests=10)
    other = Feed(history, created_at=102.5)
    other.tick(103, requests=1000)
    other.tick(104, requests=5)
    assert (history.window(60.0).requests, history.window(60.0).seconds) == (25, 3.0)


def test_totals_that_went_back_begin_anew(history, feed):
    feed.tick(100, requests=100)
    feed.tick(101, requests=10)
    again = Feed(history)
    again.tick(102, requests=50)
    again.tick(103, requests=5)
    assert history.window(60.0).requests == 15


def test_a_part_that_cannot_be_believed_for_a_while_makes_no_burst(history):
    """Its totals go, and come back all at once."""
    steady, bad = Feed(history), Feed(None)
    bad_total = bad.tick(0, requests=500)
    for second in range(100, 110):
        corrupt = second in (104, 105)
        snapshot = steady.snapshot(second, requests=1)
        if corrupt:
            snapshot = replace(snapshot, health=replace(snapshot.health, corrupt={"slot 1": "why"}))
        else:
            snapshot = replace(snapshot, counters=snapshot.counters + bad_total.counters)
        history.add(snapshot)
    assert history.window(60.0).requests == 7
    assert max(history.series("requests", 8.0, 1.0).values) == 1.0


# Series ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def minute():
    """A minute from second 600 on: in second s there are s - 599 requests of (s - 599) / 100 s."""
    history = History()
    feed = Feed(history)
    feed.tick(600)
    for second in range(600, 660):
        feed.tick(second + 1, requests=second - 599, errors=1, latency=(second - 599) / 100, busy=0.5)
    return history


def test_a_series_has_a_value_for_each_step(minute):
    requests = minute.series("requests", 60.0, 1.0)
    assert requests.times.tolist() == list(range(601, 661))
    assert requests.values.tolist() == list(range(1, 61))
    assert requests.times.dtype == requests.values.dtype == np.float64


def test_a_series_of_longer_steps_adds_up(minute):
    requests, rate = minute.series("requests", 60.0, 5.0), minute.series("rate", 60.0, 5.0)
    assert requests.times.tolist() == list(range(605, 661, 5))
    assert requests.values.tolist() == [sum(range(at, at + 5)) for at in range(1, 61, 5)]
    assert (rate.values == requests.values / 5.0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("requests", 60.0),
        ("errors", 1.0),
        ("rate", 60.0),
        ("error_rate", 1 / 60),
        ("latency_mean", 0.6),
        ("latency_max", 0.6),
        ("p50", 0.6),
        ("p95", 0.6),
        ("p99", 0.6),
        ("busy", 0.5),
        ("workers", 1.0),
        ("rss", 2e6),
    ],
)
def test_every_series_has_its_meaning(minute, name, expected):
    assert minute.series(name, 60.0, 1.0).values[-1] == pytest.approx(expected, rel=0.011)


def test_these_are_all_series_there_are(minute):
    with pytest.raises(ValueError, match=f"no series 'speed'; there are {', '.join(NAMES)}"):
        minute.series("speed", 60.0, 1.0)


def test_percentiles_of_longer_steps_are_of_all_their_requests(minute):
    values = np.repeat(np.arange(41, 61) / 100, np.arange(41, 61))
    assert minute.series("p50", 20.0, 20.0).values[-1] == pytest.approx(np.percentile(values, 50), rel=0.011)


def test_steps_without_data_are_left_out(history, feed):
    for second in range(100, 107):
        feed.tick(second, requests=second % 2, latency=0.5)
    assert history.series("requests", 8.0, 1.0).values.tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    for name in ("latency_mean", "latency_max", "p99", "error_rate"):
        assert history.series(name, 8.0, 1.0).times.tolist() == [101.0, 103.0, 105.0]


def test_a_step_that_has_not_ended_is_left_out(history, feed):
    for second in range(100, 117):
        feed.tick(second, requests=1)
    assert history.series("requests", 60.0, 10.0).values.tolist() == [10.0]


def test_a_series_longer_than_the_finest_resolution_has_coarser_steps(history, feed):
    for second in range(100, 160):
        feed.tick(second, requests=1)
    series = history.series("rate", 50.0, 1.0)
    assert np.diff(series.times).tolist() == [10.0] * (len(series.times) - 1)
    assert series.values.tolist() == [1.0] * len(series.values)


def test_the_longest_latency_of_a_second_is_in_the_bin_that_has_it(history, feed):
    feed.tick(100)
    feed.tick(101, rows=records([100.2, 100.4], inference_time=[7.0, 0.1]))
    for second in (102, 103):
        feed.tick(second, rows=records([second - 0.5], inference_time=0.1))
    assert history.series("latency_max", 8.0, 1.0).values.tolist() == pytest.approx([7.0, 0.1, 0.1])


def test_samples_are_the_same_as_the_series(minute):
    samples = minute.samples(60.0, 1.0)
    assert samples.requests.tolist() == list(range(1, 61))
    assert samples.errors.tolist() == [1.0] * 60
    assert (samples.latency_sum / samples.records).tolist() == pytest.approx([at / 100 for at in range(1, 61)])
    assert samples.span == 60.0


def test_how_busy_workers_are_is_looked_up_where_the_rows_are_not_given(history):
    rows = np.zeros(0, RECORD)
    for second in range(4):
        rows = np.concatenate([rows, records([NOW - 4.0 + second + 0.3], inference_time=0.8)])
        history.add(fleet(worker(rows, claimed_at=NOW - 4.0), taken_at=NOW - 3.0 + second))
    assert history.series("busy", 8.0, 1.0).values[-1] == pytest.approx(0.8)


def test_threads_may_read_while_it_grows():
    history = History()
    feed, failures, done = Feed(history), [], threading.Event()
    feed.tick(0)

    def read():
        while not done.is_set():
            window = history.window(20.0)
            if window.requests != 2 * window.seconds or len(history.series("p99", 20.0, 1.0).values) > 21:
                failures.append(window)
            window.percentile("total_time", 99.0)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for second in range(1, 200):
        feed.tick(second, requests=2)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
