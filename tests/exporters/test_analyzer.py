"""PerformanceAnalyzer: what it returns, on forged fleets and on a real hub."""

import csv
import io
import math

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import shmetrics
from shmetrics import Hub, HubClosedError, PerformanceAnalyzer, PerformanceMetrics
from shmetrics.exporters.csv_export import COLUMNS
from shmetrics.history import History
from shmetrics.layout import MEASURES
from shmetrics.trends import INCREASING, INSUFFICIENT, STABLE
from tests.cli import strict_json
from tests.forge import NOW, fleet, random_records, records, worker
from tests.ticks import Feed


class Source:
    """Anything with a snapshot."""

    def __init__(self, snapshot):
        self._snapshot = snapshot

    def snapshot(self):
        return self._snapshot


def test_the_name_of_a_hub_is_no_source():
    with pytest.raises(TypeError, match="not 'resnet'"):
        PerformanceAnalyzer("resnet")


def rising():
    """Traffic that trebles in four minutes, nothing else."""
    times = np.concatenate(
        [int(NOW) - 240.0 + second + np.linspace(0.0, 0.9, 10 + second // 12) for second in range(240)]
    )
    return Source(fleet(worker(records(times), window_size=len(times))))


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16, window_size=200) as metrics:
        yield metrics


def test_the_package_hands_it_on():
    assert "PerformanceAnalyzer" in shmetrics.__all__
    assert shmetrics.PerformanceAnalyzer is PerformanceAnalyzer


def test_trends_are_of_the_hubs_own_seconds():
    analysis = PerformanceAnalyzer(rising()).analyze_performance_trends()
    assert (analysis["throughput_trend"], analysis["latency_trend"], analysis["error_trend"]) == (
        *(INCREASING, STABLE, STABLE),
    )
    assert analysis["trends"]["throughput"]["slope_per_minute"] == pytest.approx(5.0, rel=0.05)
    assert analysis["seconds"] == 240.0


def test_a_shorter_time_may_be_asked_for():
    assert PerformanceAnalyzer(rising(), seconds=60).analyze_performance_trends()["seconds"] == 60.0


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds must be above 0 and finite, not"):
        PerformanceAnalyzer(rising(), seconds=seconds)


def test_a_history_reaches_further_back():
    """An hour in which latency doubles; the last five minutes of it show nothing."""
    history = History()
    feed = Feed(history)
    for tick in range(361):
        latest = feed.tick(10.0 * tick, requests=50, latency=0.1 * (1 + tick / 360), rss=1e8 * (1 + tick / 360))
    short = PerformanceAnalyzer(Source(latest), history=history)
    whole = PerformanceAnalyzer(Source(latest), history=history, seconds=3600)
    assert short.analyze_performance_trends()["latency_trend"] == STABLE
    analysis = whole.analyze_performance_trends()
    assert (analysis["latency_trend"], analysis["throughput_trend"]) == (INCREASING, STABLE)
    assert analysis["seconds"] == pytest.approx(3600.0)
    (memory,) = [found for found in whole.identify_bottlenecks() if found["component"] == "memory growth"]
    assert memory["impact"] == "high"
    series = whole.generate_dashboard_data()["series"]
    assert series["rss"]["values"][-1] == pytest.approx(2e8, rel=0.01)
    assert len(series["p99"]["times"]) == len(series["p99"]["values"]) > 100


def test_a_history_that_knows_less_than_the_hub_is_not_asked():
    source = rising()
    history = History()
    history.add(source.snapshot())
    assert PerformanceAnalyzer(source, history=history, seconds=3600).analyze_performance_trends()["seconds"] == 240.0


def test_a_real_hub_is_analysed_by_name_or_as_metrics(metrics):
    for _ in range(60):
        metrics.update_inference(0.01, 4, 0.09)
    with Hub.attach(metrics.name) as hub:
        for source in (metrics, hub):
            analyzer = PerformanceAnalyzer(source)
            assert analyzer.analyze_performance_trends()["throughput_trend"] == INSUFFICIENT
            first = analyzer.identify_bottlenecks()[0]
            assert (first["component"], first["impact"]) == ("preprocessing", "high")
            assert first["share"] == pytest.approx(0.9)


def test_an_empty_hub_gives_everything_and_no_bottleneck(metrics):
    analyzer = PerformanceAnalyzer(metrics)
    assert analyzer.identify_bottlenecks() == []
    assert analyzer.analyze_performance_trends()["stability_rating"] == INSUFFICIENT
    data = analyzer.generate_dashboard_data()
    assert data["series"] == {"times": [], "throughput": [], "error_rate": [], "latency_mean": []}
    strict_json(analyzer.export_json())


def test_a_dashboard_has_series_of_one_length_and_tables():
    source = rising()
    data = PerformanceAnalyzer(source).generate_dashboard_data()
    series = data["series"]
    assert {len(values) for values in series.values()} == {240}
    assert series["times"][-1] == pytest.approx(source.snapshot().taken_at_wall - (NOW - int(NOW)))
    assert series["throughput"][0] == 10.0
    assert series["latency_mean"][0] == pytest.approx(0.1)
    assert tuple(row["measure"] for row in data["tables"]["measures"]) == MEASURES
    assert data["tables"]["workers"][0]["slot"] == 0
    assert data["summary"]["total_requests"] == source.snapshot().counters.requests
    assert data["analysis"]["throughput_trend"] == INCREASING


def test_seconds_without_requests_have_no_latency():
    times = [NOW - 10.0, NOW - 8.0]
    series = PerformanceAnalyzer(Source(fleet(worker(records(times))))).generate_dashboard_data()["series"]
    assert series["latency_mean"][:3] == [pytest.approx(0.1), None, pytest.approx(0.1)]
    assert series["error_rate"][:3] == [0.0, None, 0.0]
    assert series["throughput"][:3] == [1.0, 0.0, 1.0]


def test_the_json_is_the_exporters_document_with_analysis_and_bottlenecks(metrics):
    metrics.update_inference(0.25, 4, 0.05, 0.01)
    document = strict_json(PerformanceAnalyzer(metrics).export_json())
    assert list(document)[-3:] == ["exemplars", "analysis", "bottlenecks"]
    assert document["schema"] == 1
    assert document["statistics"]["total_requests"] == 1
    assert document["workers"][0]["rss_bytes"] > 0


def test_the_json_has_no_number_that_json_cannot_say():
    rows = random_records(1, 300)
    rows["inference_time"][::7] = math.nan
    rows["batch_size"][::5] = math.inf
    strict_json(PerformanceAnalyzer(Source(fleet(worker(rows)))).export_json())


def test_the_csv_is_the_exporters(metrics):
    metrics.update_inference(0.25)
    lines = list(csv.reader(io.StringIO(PerformanceAnalyzer(metrics).export_csv())))
    assert tuple(lines[0]) == COLUMNS
    assert [line[0] for line in lines[1:]] == ["worker", "fleet"]


def test_the_page_is_what_prometheus_scrapes(metrics):
    metrics.update_inference(0.25)
    page = PerformanceAnalyzer(metrics).export_prometheus()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert families["requests"].samples[0].value == 1.0


def test_the_cpu_of_one_answer_is_looked_at_once(metrics):
    """A second look a moment after the first would measure that moment."""
    metrics.update_inference(0.25)
    analyzer = PerformanceAnalyzer(metrics)
    looks = []
    look = analyzer._resources.usages
    analyzer._resources.usages = lambda workers: looks.append(1) or look(workers)
    for answer in (analyzer.identify_bottlenecks, analyzer.generate_dashboard_data, analyzer.export_json):
        looks.clear()
        answer()
        assert len(looks) == 1


def test_a_closed_source_says_so(hub_name):
    metrics = PerformanceMetrics(name=hub_name, max_workers=4, max_series=16)
    metrics.close()
    with pytest.raises(HubClosedError):
        PerformanceAnalyzer(metrics).analyze_performance_trends()
