"""Custom metrics on a page: beside prometheus_client's own, and with all that labels can hold."""

import math

import prometheus_client as incumbent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmetrics import CustomMetrics, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import render
from shmetrics.families import Definition, Family, Series
from tests.exporters.prometheus import Still, families_of, read, samples_of, value, without_created
from tests.forge import fleet

NASTY = {
    "quotes": 'say "hello"',
    "backslashes": '\\ \\\\ \\n \\"',
    "newlines": "one\ntwo\n",
    "other line ends": "\r \r\n \x0b \x0c \x85 \u2028 \u2029",
    "control characters": "\x00\x01\x1b[2J\x7f",
    "not ASCII": "Köln ✓ 東京 🦀",
    "braces": '} 1 # {a="b",}',
    "10 kB": 'x"\\\n' * 2560,
    "nothing": "",
    "spaces": "  ",
}


def page_of(definition, *series):
    """A source that has one custom metric."""
    return Still(fleet(families=(Family(definition, series),)))


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "summary", "ratio", "info", "enum"])
def test_any_label_value_is_read_back_as_it_was(kind, text):
    more = {"gauge": {"merge": "last"}, "histogram": {"buckets": (1.0,)}, "enum": {"states": ("a", "b")}}
    definition = Definition("m", kind, labels=("l", "k"), **more.get(kind, {}))
    series = Series((text, "k"), count=2.0, buckets=(1.0, 2.0), state="a", info={"i": text})
    samples = read(page_of(definition, series))
    mine = [dict(labels) for name, labels in samples if name.split("_")[0] == "m"]
    assert mine
    assert all(labels["l"] == text for labels in mine)
    assert kind != "info" or mine == [{"l": text, "k": "k", "i": text}]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(), min_size=1, max_size=3, unique=True), st.text())
def test_no_text_whatever_breaks_a_page(values, documentation):
    """Half surrogate pairs included, which are no characters: they are shown as question marks."""
    definition = Definition("m", "gauge", documentation, labels=("l",), merge="last")
    source = page_of(definition, *(Series((text,), value=float(at)) for at, text in enumerate(values)))
    for openmetrics in (False, True):
        families = families_of(render(source, openmetrics=openmetrics), openmetrics=openmetrics)
        assert [sample.value for sample in families["m"].samples] == [float(at) for at in range(len(values))]


def test_half_a_surrogate_pair_is_shown_as_a_question_mark():
    definition = Definition("m", "info", "help", labels=("l",))
    samples = read(page_of(definition, Series(("a\ud800b",), info={"i": "\udfff"})))
    assert value(samples, "m_info", l="a?b", i="?") == 1.0


def _use(*instruments):
    """The same operations on either side's handles."""
    counter, gauge, histogram, summary, info, enum = instruments
    for model in ("a", 'b "quoted" \\ \n é'):
        for amount in (1.0, 2.5, 0.0):
            counter.labels(model=model, code="200").inc(amount)
        for amount in (0.004, 0.005, 0.3, 11.0, 2.5):
            histogram.labels(model=model).observe(amount)
        gauge.labels(model=model).set(3.25)
    for amount in (1, 2.0, 4.5):
        summary.observe(amount)
    info.info({"version": "1.2", "build": 'x"y'})
    enum.state("starting")


def test_the_same_operations_give_the_same_page_as_prometheus_client():
    registry = incumbent.CollectorRegistry()
    _use(
        incumbent.Counter("tokens", "Tokens.", ["model", "code"], registry=registry),
        incumbent.Gauge("memory_bytes", "Memory\nof it, \\ and more.", ["model"], registry=registry),
        incumbent.Histogram("wait_seconds", "Waiting.", ["model"], registry=registry),
        incumbent.Summary("size", "Sizes.", registry=registry),
        incumbent.Info("build", "What.", registry=registry),
        incumbent.Enum("phase", "Where.", states=["starting", "running"], registry=registry),
    )
    theirs = families_of(incumbent.generate_latest(registry))
    with PerformanceMetrics(max_workers=2) as metrics:
        custom = CustomMetrics(metrics)
        _use(
            custom.counter("tokens_total", "Tokens.", labels=["model", "code"]),
            custom.gauge("memory_bytes", "Memory\nof it, \\ and more.", labels=["model"], unit="bytes"),
            custom.histogram("wait_seconds", "Waiting.", labels=["model"]),
            custom.summary("size", "Sizes.").labels(),
            custom.info("build", "What.").labels(),
            custom.enum("phase", "Where.", states=["starting", "running"]).labels(),
        )
        ours = families_of(render(metrics))
        read(metrics)
    for name, family in theirs.items():
        if not name.endswith("_created"):
            assert (ours[name].type, ours[name].documentation) == (family.type, family.documentation)
    mine = samples_of(ours.values())
    for key, expected in without_created(samples_of(theirs.values())).items():
        assert mine[key] == pytest.approx(expected, rel=1e-12)


def test_a_gauge_of_each_worker_has_the_slot_as_a_label():
    definition = Definition("queue", "gauge", labels=("model",), merge="live_per_worker")
    samples = read(page_of(definition, Series(("a",), 0, value=3.0), Series(("a",), 5, value=4.0)))
    assert value(samples, "queue", model="a", worker="0") == 3.0
    assert value(samples, "queue", model="a", worker="5") == 4.0


def test_a_ratio_is_a_gauge_of_the_fleet():
    samples = read(page_of(Definition("hit_ratio", "ratio"), Series(value=0.75, sum=3.0, count=4.0)))
    assert value(samples, "hit_ratio") == 0.75


@pytest.mark.parametrize(
    ("name", "unit", "shown"),
    [
        ("memory_bytes", "bytes", "bytes"),
        ("moved_bytes_total", "bytes", "bytes"),
        ("memory", "bytes", ""),
        ("speed", "tokens per second", ""),
        ("bytes", "bytes", ""),
    ],
)
def test_a_unit_is_shown_where_the_name_ends_in_it_and_never_changes_the_name(name, unit, shown):
    kind = {"kind": "counter"} if name.endswith("_total") else {"kind": "gauge", "merge": "last"}
    source = page_of(Definition(name, unit=unit, **kind), Series(value=1.0))
    families = families_of(render(source, openmetrics=True), openmetrics=True)
    assert families[name.removesuffix("_total")].unit == shown
    assert value(read(source), name) == 1.0


@pytest.mark.parametrize(
    ("definition", "series"),
    [
        (Definition("m_total", "counter"), Series(value=-1.0)),
        (Definition("m_total", "counter"), Series(value=math.nan)),
        (Definition("m", "summary"), Series(count=-1.0)),
        (Definition("m", "summary"), Series(count=math.nan)),
        (Definition("m", "histogram", buckets=(1.0, 2.0)), Series(buckets=(2.0, 1.0, 3.0))),
        (Definition("m", "histogram", buckets=(1.0, 2.0)), Series(buckets=(-2.0, 1.0, 3.0))),
        (Definition("m", "histogram", buckets=(1.0, 2.0)), Series(buckets=(math.nan, 1.0, 3.0))),
    ],
    ids=lambda case: "" if isinstance(case, Series) else case.kind,
)
def test_a_series_that_no_correct_writer_can_have_written_is_left_out(definition, series):
    assert not [name for name, _ in read(page_of(definition, series)) if name.startswith("m")]


@pytest.mark.parametrize("number", [math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53])
def test_a_gauge_may_be_any_number(number):
    assert value(read(page_of(Definition("m", "gauge", merge="last"), Series(value=number))), "m") == number


def test_a_gauge_may_be_no_number():
    page = render(page_of(Definition("m", "gauge", merge="last"), Series(value=math.nan)))
    assert b"\nm NaN\n" in page


def test_an_info_metrics_own_labels_come_before_what_it_says():
    samples = read(
        page_of(Definition("m_info", "info", labels=("l",)), Series(("mine",), info={"l": "other", "k": "v"}))
    )
    assert value(samples, "m_info", l="mine", k="v") == 1.0


@pytest.mark.parametrize("prefix", ["a:", "my_"], ids=["no label's name", "another's"])
def test_an_enum_whose_prefixed_name_cannot_be_its_states_label_is_left_out_and_counted(prefix):
    definition = Definition("phase", "enum", labels=("my_phase",), states=("a",))
    source = page_of(definition, Series(("x",), state="a"))
    families = {family.name: family for family in PrometheusExporter(source, registry=None, prefix=prefix).collect()}
    assert families[f"{prefix}shmetrics_hidden_families"].samples[0].value == 1.0
    assert f"{prefix}phase" not in families
