"""The exporter as a collector: in registries, with others, and never a broken page."""

import logging
import threading
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from shmetrics import CustomMetrics, HubClosedError, PerformanceMetrics, PrometheusExporter, guards, naming
from shmetrics.families import Definition, Family, Series
from shmetrics.layout import FOLD_BATCH
from tests.exporters.prometheus import Still, families_of, read, samples_of, value
from tests.forge import fleet, worker


@pytest.fixture
def registry():
    return CollectorRegistry(auto_describe=True)


def page(registry):
    """Every sample of a registry's page."""
    return samples_of(families_of(generate_latest(registry)).values())


def custom(name, kind="counter", **fields):
    """A custom metric with one series."""
    return Family(Definition(name, kind, **fields), (Series(value=5.0),))


class Fixed:
    """A collector of these families."""

    def __init__(self, *families):
        self._families = families

    def collect(self):
        return iter(self._families)


class TestInARegistry:
    """What prometheus_client's registries ask of a collector."""

    def test_it_registers_itself_and_shows_the_fleet(self, registry):
        with PerformanceMetrics(max_workers=2) as metrics:
            PrometheusExporter(metrics, registry=registry)
            metrics.update_inference(0.25)
            assert value(page(registry), "requests_total") == 1.0
            metrics.update_inference(0.25)
            assert value(page(registry), "requests_total") == 2.0

    def test_registering_takes_no_snapshot_and_a_page_takes_one(self, registry):
        source = Still()
        PrometheusExporter(source, registry=registry)
        assert source.asked == 0
        generate_latest(registry)
        assert source.asked == 1

    def test_without_a_registry_it_is_a_collector_and_no_more(self, registry):
        exporter = PrometheusExporter(Still(), registry=None)
        assert page(registry) == {}
        registry.register(exporter)
        assert value(page(registry), "requests_total") == 0.0

    def test_every_family_of_its_own_is_described(self, registry):
        exporter = PrometheusExporter(Still(fleet(worker([950.0]))), registry=registry)
        described = {(family.name, family.type) for family in exporter.describe()}
        assert described == {(family.name, family.type) for family in exporter.collect()}
        assert not any(family.samples for family in exporter.describe())

    @pytest.mark.parametrize("name", ["requests", "errors_total", "shmetrics_slots", "batch_size_total"])
    def test_a_name_that_the_registry_has_already_is_an_error_that_names_it(self, registry, name):
        Gauge(name, "x", registry=registry)
        with pytest.raises(ValueError, match=name):
            PrometheusExporter(Still(), registry=registry)

    def test_it_can_be_unregistered(self, registry):
        exporter = PrometheusExporter(Still(), registry=registry)
        registry.unregister(exporter)
        assert page(registry) == {}

    def test_a_restricted_registry_shows_what_is_named(self, registry):
        PrometheusExporter(Still(), registry=registry)
        names = ["requests_total", "shmetrics_slots", "inference_duration_seconds_count"]
        assert {name for name, _ in page(registry.restricted_registry(names))} == set(names)

    def test_the_example_of_the_original_documentation_works(self, registry):
        with PerformanceMetrics(max_workers=2) as metrics:
            PrometheusExporter(metrics, registry=registry)
            metrics.update_inference(0.012, batch_size=8)
            server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
            try:
                url = f"http://127.0.0.1:{server.server_port}/metrics"
                with urllib.request.urlopen(url, timeout=30) as response:
                    samples = samples_of(families_of(response.read()).values())
            finally:
                server.shutdown()
                thread.join()
                server.server_close()
        assert value(samples, "requests_total") == value(samples, "batch_size_total_count") == 1.0

    def test_a_closed_hub_is_the_error_that_it_is(self):
        metrics = PerformanceMetrics(max_workers=2)
        exporter = PrometheusExporter(metrics, registry=None)
        metrics.close()
        with pytest.raises(HubClosedError):
            exporter.collect()


class TestPrefix:
    """Two hubs on one page."""

    def test_it_stands_before_every_name(self, registry):
        source = Still(fleet(worker([950.0]), families=(custom("tokens_total"),)))
        PrometheusExporter(source, registry=registry, prefix="resnet_")
        PrometheusExporter(source, registry=registry, prefix="bert:")
        samples = page(registry)
        assert all(name.startswith(("resnet_", "bert:")) for name, _ in samples)
        assert value(samples, "resnet_tokens_total") == value(samples, "bert:tokens_total") == 5.0
        assert {name.removeprefix("resnet_") for name, _ in samples if name.startswith("resnet_")} == {
            name for name, _ in read(source)
        }

    @pytest.mark.parametrize("prefix", ["1", "a-", "ü_", " ", "a b", '"'])
    def test_one_that_no_name_can_begin_with_is_refused(self, prefix):
        with pytest.raises(ValueError, match=f"{prefix!r}"):
            PrometheusExporter(Still(), registry=None, prefix=prefix)


class TestInclude:
    """Other collectors on the same page."""

    def test_they_come_after_the_fleet(self):
        own = CollectorRegistry()
        Counter("logins", "x", registry=own).inc(3)
        gauge = GaugeMetricFamily("temperature_celsius", "x", value=21.5)
        exporter = PrometheusExporter(Still(), registry=None, include=[own, Fixed(gauge)])
        names = [family.name for family in exporter.collect()]
        assert names[0] == "requests"
        assert names[-3:] == ["logins", "temperature_celsius", "shmetrics_hidden_families"]

    def test_a_registry_cannot_include_itself(self, registry):
        with pytest.raises(ValueError, match="cannot be included"):
            PrometheusExporter(Still(), registry=registry, include=[registry])

    def test_what_they_raise_is_passed_on(self):
        class Broken:
            def collect(self):
                raise RuntimeError("broken")

        exporter = PrometheusExporter(Still(), registry=None, include=[Broken()])
        with pytest.raises(RuntimeError, match="broken"):
            list(exporter.collect())


class TestNamesTaken:
    """One page has each name once; what comes later is left out, counted, and mentioned once."""

    @pytest.mark.parametrize(
        "clashing",
        [
            custom("requests_total"),
            custom("requests", "gauge", merge="last"),
            custom("requests_created", "gauge", merge="last"),
            custom("inference_duration_seconds_count", "gauge", merge="last"),
            custom("shmetrics_slots", "gauge", merge="last"),
            custom("shmetrics_hub", "info"),
            custom("shmetrics_hidden_families", "gauge", merge="last"),
        ],
        ids=lambda family: family.definition.name,
    )
    def test_a_custom_metric_that_clashes_is_left_out_and_counted(self, clashing):
        samples = read(Still(fleet(families=(clashing, custom("tokens_total")))))
        assert value(samples, "shmetrics_hidden_families") == 1.0
        assert value(samples, "tokens_total") == 5.0
        assert value(samples, "requests_total") == 0.0

    def test_custom_metrics_clash_with_each_other_in_the_order_of_their_definition(self):
        first, second = custom("size", "summary"), custom("size_count", "gauge", merge="last")
        samples = read(Still(fleet(families=(first, second))))
        assert value(samples, "shmetrics_hidden_families") == 1.0
        assert value(samples, "size_count") == 0.0, "the summary's"

    def test_an_included_family_that_clashes_is_left_out_too(self):
        included = Fixed(CounterMetricFamily("requests", "x", value=9), Metric("other", "x", "unknown"))
        exporter = PrometheusExporter(Still(), registry=None, include=[included])
        families = list(exporter.collect())
        assert [family.name for family in families].count("requests") == 1
        assert families[-1].samples[0].value == 1.0
        assert "other" in [family.name for family in families]

    def test_it_is_mentioned_once(self, caplog):
        exporter = PrometheusExporter(Still(fleet(families=(custom("requests_total"),))), registry=None)
        with caplog.at_level(logging.WARNING, "shmetrics"):
            for _ in range(3):
                list(exporter.collect())
        (record,) = caplog.records
        assert "'requests_total' is not exported" in record.getMessage()


def test_the_time_of_creation_stays_the_same_though_the_clocks_drift_apart(registry):
    source = Still()
    PrometheusExporter(source, registry=registry)
    before = value(page(registry), "requests_created")
    source.known = replace(source.known, taken_at=source.known.taken_at + 60.0, taken_at_wall=2e9)
    assert value(page(registry), "requests_created") == before


class Meanwhile:
    """A collector that does something in the middle of the rendering of a page."""

    def __init__(self, action):
        self._action = action

    def collect(self):
        self._action()
        return iter(())


def test_no_guard_is_held_while_a_page_is_made(hub_name):
    """A writer folds as it likes, and nobody finds a guard taken."""
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics:
        metrics.update_inference(0.1)
        segment = metrics._attachment.segment
        prefix = naming.semaphore_prefix(hub_name, segment.instance)
        seen = []

        def look():
            guard = guards.open_existing(guards.guard_name(prefix, 0, 1))
            seen.append(guard.value)
            guard.close()
            before = int(segment.slots["hot"]["fold"][0])
            for _ in range(FOLD_BATCH + 1):
                metrics.update_inference(0.1)
            seen.append(int(segment.slots["hot"]["fold"][0]) - before)

        exporter = PrometheusExporter(metrics, registry=None, include=[Meanwhile(look)])
        families = {family.name: family for family in exporter.collect()}
        assert families["requests"].samples[0].value == 1.0
    free, folded = seen
    assert free == 1
    assert folded != 0


def test_pages_of_many_threads_while_workers_record_are_all_whole():
    with PerformanceMetrics(max_workers=2) as metrics:
        tokens = CustomMetrics(metrics).counter("tokens_total").labels()
        exporter = PrometheusExporter(metrics, registry=None)
        done, pages = threading.Event(), []

        def scrape():
            while not done.is_set():
                pages.append(generate_latest(exporter))

        threads = [threading.Thread(target=scrape) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20_000):
            metrics.update_inference(0.1)
            tokens.inc()
        done.set()
        for thread in threads:
            thread.join()
        pages.append(generate_latest(exporter))
    totals = [value(samples_of(families_of(each).values()), "requests_total") for each in (*pages[:50], pages[-1])]
    assert totals[-1] == 20_000.0
    assert all(0.0 <= total <= 20_000.0 for total in totals)
