"""Pages: both formats, what of them is asked for, and how the two sides agree on a form."""

import gzip
from inspect import signature

import prometheus_client
import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.parser import text_string_to_metric_families

from shmetrics import Hub, HubClosedError, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import generate_latest, render
from shmetrics.exporters.prometheus.exposition import narrowed, negotiated
from shmetrics.families import Definition, Family, Series
from tests.exporters.prometheus import Still, families_of, read, samples_of
from tests.forge import fleet, worker

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TOKENS = Family(Definition("tokens_total", "counter", unit=""), (Series(value=5.0),))
BYTES = Family(Definition("memory_bytes", "gauge", unit="bytes", merge="last"), (Series(value=5.0),))


@pytest.fixture
def source():
    return Still(fleet(worker([950.0]), families=(TOKENS, BYTES)))


def negotiate(source, accept="", accept_encoding=""):
    return negotiated(PrometheusExporter(source, registry=None), (), accept, accept_encoding)


class TestRender:
    """One page, for whoever wants it."""

    def test_a_page_is_one_snapshot(self, source):
        render(source)
        assert source.asked == 1

    def test_openmetrics_ends_as_it_must_and_the_text_format_does_not(self, source):
        assert render(source, openmetrics=True).endswith(b"\n# EOF\n")
        assert b"# EOF" not in render(source)

    def test_a_private_hub_and_an_attached_one_render_alike(self, hub_name):
        with PerformanceMetrics(name=hub_name, max_workers=2) as metrics, Hub.attach(hub_name) as hub:
            metrics.update_inference(0.1)
            assert read(metrics).keys() == read(hub).keys()

    def test_a_closed_hub_is_an_error(self):
        metrics = PerformanceMetrics(max_workers=2)
        metrics.close()
        with pytest.raises(HubClosedError):
            render(metrics)


class TestNames:
    """Only the samples that were named."""

    def test_samples_are_named_and_not_families(self, source):
        page = render(source, names=["requests_total", "inference_duration_seconds_sum", "batch_size_total", "nothing"])
        assert {name for name, _ in samples_of(families_of(page).values())} == {
            "requests_total",
            "inference_duration_seconds_sum",
        }

    def test_custom_metrics_can_be_named(self, source):
        page = render(source, names=["tokens_total"])
        assert page.decode().splitlines() == [
            "# HELP tokens_total ",
            "# TYPE tokens_total counter",
            "tokens_total 5.0",
        ]

    def test_a_unit_stays(self, source):
        page = render(source, openmetrics=True, names=["memory_bytes"])
        assert families_of(page, openmetrics=True)["memory_bytes"].unit == "bytes"

    def test_nothing_that_is_there_gives_an_empty_page(self, source):
        assert render(source, names=["nothing"]) == b""
        assert render(source, openmetrics=True, names=["nothing"]) == b"# EOF\n"

    @pytest.mark.parametrize(
        "names",
        [
            ["requests_total"],
            ["requests"],
            ["requests_created", "errors_total"],
            ["inference_duration_seconds"],
            ["inference_duration_seconds_bucket", "batch_size_total_count"],
            ["shmetrics_hub_info", "shmetrics_hub"],
            ["shmetrics_worker_requests_total"],
        ],
        ids=",".join,
    )
    def test_a_registry_would_have_shown_the_same(self, source, names):
        registry = prometheus_client.CollectorRegistry()
        exporter = PrometheusExporter(source, registry=registry)
        ours = prometheus_client.generate_latest(narrowed(exporter, names))
        assert ours == prometheus_client.generate_latest(registry.restricted_registry(names))


class TestNegotiation:
    """The form that was asked for, if we have it."""

    @pytest.mark.parametrize(
        "accept",
        [
            PROMETHEUS_2,
            PROMETHEUS_3,
            "application/openmetrics-text",
            'application/openmetrics-text; version="1.0.0"',
            "application/openmetrics-text;q=none",
            "application/openmetrics-text;q=0.5,text/plain;q=0.5",
        ],
    )
    def test_who_asks_for_openmetrics_gets_it_as_version_1(self, source, accept):
        page = negotiate(source, accept)
        assert page.content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
        assert families_of(page.body, openmetrics=True)

    @pytest.mark.parametrize(
        "accept",
        [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=1.x",
            "application/openmetrics-text;version=99999999999999999999",
            "application/openmetrics-text;version",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text; version=1.0.0; q=0.000, text/plain",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.9",
            "application/openmetrics-text;q=0.1,*/*",
            "application/openmetrics-text;q=nan",
            "text/plain;version=9.9",
            ";;;,,,===;q=q",
            "\xff\x00",
        ],
    )
    def test_everybody_else_gets_the_text_format(self, source, accept):
        page = negotiate(source, accept)
        if accept == "application/openmetrics-text;version":  # names no version
            assert page.content_type == OPENMETRICS
            return
        assert page.content_type == TEXT
        assert families_of(page.body)

    def test_the_text_format_of_prometheus_3_is_served_as_such(self, source):
        page = negotiate(source, "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4")
        assert page.content_type.startswith("text/plain; version=")
        assert families_of(page.body)

    @pytest.mark.parametrize("accept", ["gzip", "deflate, gzip;q=0.5", "GZIP", "gzip ; q=1.0,identity"])
    def test_gzip_for_whoever_takes_it(self, source, accept):
        page = negotiate(source, "", accept)
        assert page.encoding == "gzip"
        assert families_of(gzip.decompress(page.body)).keys() == families_of(negotiate(source).body).keys()
        assert len(page.body) < len(negotiate(source).body) / 3

    @pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0", "gzip;q=0.0, br", "*;q=0", "gzipped", "x-gzip2"])
    def test_and_for_nobody_else(self, source, accept):
        page = negotiate(source, "", accept)
        assert page.encoding is None
        assert families_of(page.body)


class TestGenerateLatest:
    """The stand-in for prometheus_client's function of that name."""

    @pytest.fixture
    def registry(self, source):
        registry = prometheus_client.CollectorRegistry()
        PrometheusExporter(source, registry=registry)
        prometheus_client.Counter("theirs", "Made by prometheus_client.", ["model"], registry=registry).labels(
            "a"
        ).inc()
        return registry

    def test_it_gives_what_the_original_gives(self, registry):
        assert generate_latest(registry) == prometheus_client.generate_latest(registry)

    def test_without_a_registry_it_is_of_the_default_one(self):
        names = {family.name for family in text_string_to_metric_families(generate_latest().decode())}
        assert "python_gc_objects_collected" in names

    def test_how_names_are_escaped_can_be_said_where_the_original_lets_one(self, registry):
        if "escaping" not in signature(prometheus_client.generate_latest).parameters:
            with pytest.raises(TypeError, match="escaping"):
                generate_latest(registry, escaping="underscores")
        else:
            wanted = prometheus_client.generate_latest(registry, escaping="underscores")
            assert generate_latest(registry, escaping="underscores") == wanted
