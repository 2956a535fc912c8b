"""The metrics of the face: what they refuse, what they show where, and that there is one of each in a hub."""

import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shmetrics import CustomMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import Counter, Enum, Gauge, Histogram, Info, Summary, multiprocess, use
from shmetrics.exporters.prometheus.home import current
from tests.exporters.prometheus import families_of
from tests.processes import run_in_processes

KINDS = [(Counter, {}), (Gauge, {}), (Histogram, {}), (Summary, {}), (Info, {}), (Enum, {"states": ["a", "b"]})]


@pytest.fixture
def registry(hub):
    return CollectorRegistry()


def page(registry):
    return families_of(generate_latest(registry))


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_what_no_metric_can_be_is_refused_and_leaves_no_trace(registry, kind, options):
    for name, labels in (("", ()), ("a b", ()), ("1a", ()), ("ok", ["a-b"]), ("ok", ["__a"]), ("ok", ["a", "a"])):
        with pytest.raises(ValueError, match=r"."):
            kind(name, "help", labels, registry=registry, **options)
    assert page(registry) == {}
    kind("ok", "help", registry=registry, **options)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Histogram, {"labelnames": ["le"]}, "le"),
        (Summary, {"labelnames": ["quantile"]}, "quantile"),
        (Histogram, {"buckets": [1, 3, 2]}, r"ascending.*3\.0, 2\.0"),
        (Histogram, {"buckets": []}, "buckets"),
        (Histogram, {"buckets": [float("inf")]}, "buckets"),
        (Histogram, {"buckets": ["much"]}, "much"),
        (Gauge, {"multiprocess_mode": "mean"}, "mean"),
        (Enum, {"states": []}, "states"),
        (Enum, {}, "states"),
        (Enum, {"states": ["a"], "labelnames": ["m"]}, "'m'"),
        (Enum, {"states": ["a"], "namespace": "a:b"}, "a:b_m"),
        (Enum, {"states": ["a"], "unit": "s"}, "unit"),
        (Info, {"unit": "s"}, "unit"),
    ],
)
def test_bad_shapes_are_value_errors_that_name_what_is_wrong(registry, kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind("m", "help", registry=registry, **arguments)


def test_a_name_on_a_registry_twice_is_refused_and_the_first_stays(registry):
    first = Counter("requests", "help", registry=registry)
    for kind, name in ((Counter, "requests_total"), (Gauge, "requests"), (Gauge, "requests_total")):
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            kind(name, "help", registry=registry)
    first.inc()
    assert registry.get_sample_value("requests_total") == 1.0


def test_a_name_is_one_metric_in_a_hub_whatever_registry_it_is_on(registry):
    Counter("requests", "help", registry=registry).inc()
    other = CollectorRegistry()
    Counter("requests", "help", registry=other).inc()
    assert registry.get_sample_value("requests_total") == other.get_sample_value("requests_total") == 2.0


def test_another_shape_is_refused_another_help_is_not(registry):
    Histogram("latency", "as it was in the last release", buckets=[1, 2], registry=registry)
    newer = CollectorRegistry()
    with pytest.raises(ValueError, match=r"differently.*1\.0, 2\.0"):
        Histogram("latency", "help", buckets=[1, 3], registry=newer)
    assert page(newer) == {}
    Histogram("latency", "better said", buckets=[1, 2], registry=newer).observe(1.5)
    assert page(newer)["latency"].documentation == "as it was in the last release"


def test_what_cannot_work_across_processes_is_refused_and_says_what_can(registry):
    with pytest.raises(RuntimeError, match=r"sum of all workers.*remove"):
        Counter("c", "help", registry=registry).reset()
    with pytest.raises(RuntimeError, match=r"set\(\) it"):
        Gauge("g", "help", registry=registry).set_function(lambda: 1.0)
    latest = Gauge("m", "help", registry=registry, multiprocess_mode="livemostrecent")
    with pytest.raises(RuntimeError, match="mostrecent"), latest.track_inprogress():
        pass


def test_a_metric_with_labels_asks_for_them(registry):
    for kind, options in KINDS:
        metric = kind(kind.__name__, "help", ["a"], registry=registry, **options)
        change = {Info: lambda m: m.info({}), Enum: lambda m: m.state("a"), Counter: lambda m: m.inc(),
                  Gauge: lambda m: m.set(1)}.get(kind, lambda m: m.observe(1))  # fmt: skip
        with pytest.raises(ValueError, match="call labels"):
            change(metric)
        assert isinstance(metric.labels("x"), kind)
        change(metric.labels("x"))


def test_series_are_removed_by_some_of_their_labels(registry):
    metric = Counter("c", "help", ["a", "b"], registry=registry)
    for values in ("xy", "xz", "yy"):
        metric.labels(*values).inc()
    with pytest.raises(ValueError, match="'q'"):
        metric.remove_by_labels({"q": "x"})
    metric.remove_by_labels({})
    assert len(page(registry)["c"].samples) == 3
    metric.remove_by_labels({"a": "x"})
    assert [sample.labels for sample in page(registry)["c"].samples] == [{"a": "y", "b": "y"}]


def test_whoever_holds_a_removed_series_begins_it_anew(registry):
    metric = Counter("c", "help", ["a"], registry=registry)
    kept = metric.labels("x")
    kept.inc(5)
    metric.remove("x")
    metric.remove("x")
    kept.inc()
    assert registry.get_sample_value("c_total", {"a": "x"}) == 1.0


def test_what_overflowed_stays_when_all_is_cleared_for_there_must_be_room_for_it(registry, hub):
    metric = Counter("c", "help", ["a"], registry=registry)
    for value in range(400):
        metric.labels(value).inc()
    metric.clear()
    [left] = page(registry)["c"].samples
    assert left.labels == {"a": "_overflow"}
    metric.labels("new").inc()
    assert registry.get_sample_value("c_total", {"a": "new"}) == 1.0


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("all", {"0": 3.0, "1": 5.0}),
        ("liveall", {"0": 3.0}),
        ("sum", 8.0),
        ("livesum", 3.0),
        ("min", 3.0),
        ("max", 5.0),
        ("livemax", 3.0),
        ("mostrecent", 5.0),
        ("livemostrecent", 3.0),
    ],
)
def test_gauges_merge_as_their_mode_says(registry, mode, values):
    gauge = Gauge("g", "help", registry=registry, multiprocess_mode=mode)
    gauge.set(3)
    run_in_processes("fork", 1, _set, gauge)
    found = {sample.labels.get("worker"): sample.value for sample in page(registry)["g"].samples}
    assert found == (values if isinstance(values, dict) else {None: values})


def _set(gauge, index):
    gauge.set(5)


def test_a_gauge_may_have_a_label_worker_where_the_page_adds_none(registry):
    Gauge("g", "help", ["worker"], registry=registry, multiprocess_mode="livesum").labels("w").inc()
    with pytest.raises(ValueError, match="worker"):
        Gauge("h", "help", ["worker"], registry=registry)


def test_exemplars_arrive_in_the_hub(registry, hub):
    Histogram("h", "help", registry=registry).observe(0.3, exemplar={"trace_id": "abc"})
    Counter("c", "help", registry=registry).inc(2, {"trace_id": "def"})
    Counter("d", "help", registry=registry).inc(2, exemplar={})
    families = {family.definition.name: family.series[0] for family in hub.snapshot().families}
    assert [each.labels for each in families["h"].exemplars.values()] == [{"trace_id": "abc"}]
    assert [each.labels for each in families["c_total"].exemplars.values()] == [{"trace_id": "def"}]
    assert families["d_total"].exemplars == {}


def test_a_page_that_ends_early_leaves_nothing_stale(registry):
    first, second = (Counter(name, "help", registry=registry) for name in "ab")
    assert registry.get_sample_value("a_total") == 0.0
    first.inc()
    second.inc()
    assert [registry.get_sample_value(f"{name}_total") for name in "ab"] == [1.0, 1.0]
    second.inc()
    assert generate_latest(registry.restricted_registry(["b_total"])).endswith(b"b_total 2.0\n")


def test_a_page_takes_one_snapshot(registry, hub, monkeypatch):
    for index in range(50):
        Counter(f"c{index}", "help", registry=registry)
    taken = []
    snapshot = hub.snapshot
    monkeypatch.setattr(type(hub), "snapshot", lambda self: taken.append(1) or snapshot())
    monkeypatch.setattr("shmetrics.exporters.prometheus.home._LENGTH_OF_PAGE", 60.0)
    for pages in (1, 2, 3):
        generate_latest(registry)
        assert len(taken) == pages


def test_pages_of_several_threads_are_each_whole_and_new(registry):
    metrics = [Counter(f"c{index}", "help", registry=registry) for index in range(10)]
    failures = []

    def scrape():
        last = -1.0
        for _ in range(20):
            values = [page(registry)[f"c{index}"].samples[0].value for index in range(10)]
            failures.extend([values] if values[0] < last or values != sorted(values, reverse=True) else [])
            last = values[0]
            for metric in metrics[:1]:
                metric.inc()

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert registry.get_sample_value("c0_total") == 60.0


def test_a_metric_leaves_a_registry_and_may_join_another(registry):
    metric = Counter("c", "help", registry=registry)
    registry.unregister(metric)
    assert page(registry) == {}
    other = CollectorRegistry()
    other.register(metric)
    metric.inc()
    assert other.get_sample_value("c_total") == 1.0


def test_an_exporter_beside_the_metrics_leaves_them_to_themselves(registry, hub):
    counter = Counter("c", "help", ["a"], registry=registry)
    CustomMetrics(hub).gauge("g").set(2)
    PrometheusExporter(hub, registry=registry)
    Histogram("late", "help", registry=registry)
    Gauge("elsewhere", "help", registry=None).set(1)
    counter.labels("x").inc()
    found = page(registry)
    assert {"c", "g", "late", "elsewhere", "requests"} <= set(found)
    assert found["shmetrics_hidden_families"].samples[0].value == 0.0
    prefixed = CollectorRegistry()
    Counter("d", "help", registry=prefixed)
    PrometheusExporter(hub, registry=prefixed, prefix="p_")
    assert {"d", "p_d", "p_c"} <= set(page(prefixed))


def test_an_exporter_may_include_the_registry_of_the_metrics(registry, hub):
    Counter("c", "help", registry=registry)
    whole = CollectorRegistry()
    PrometheusExporter(hub, registry=whole, include=[registry])
    found = page(whole)
    assert found["c"].type == "counter"
    assert found["shmetrics_hidden_families"].samples[0].value == 0.0


def test_the_collector_of_the_original_shows_every_metric_of_the_hub(registry, hub):
    Counter("c", "help", registry=registry).inc()
    Info("build", "help", registry=None).info({"v": "1"})
    CustomMetrics(hub).gauge("g").set(2)
    every = CollectorRegistry()
    multiprocess.MultiProcessCollector(every, path="/anywhere")
    assert set(page(every)) == {"c", "build_info", "g"}
    multiprocess.MultiProcessCollector(registry)
    assert set(page(registry)) == {"c", "build_info", "g"}
    multiprocess.MultiProcessCollector(registry)
    assert set(page(registry)) == {"c", "build_info", "g"}
    assert "g" in {family.name for family in multiprocess.MultiProcessCollector(None).collect()}
    multiprocess.mark_process_dead(1)


def test_a_closed_hub_leaves_the_rest_of_a_page(hub):
    registry = CollectorRegistry()
    Counter("c", "help", registry=registry)
    hub.close()
    assert page(registry) == {}


def test_another_hub_can_be_chosen_after_one_was(hub):
    use(hub)
    assert current().metrics is hub
