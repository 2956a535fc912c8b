"""What prometheus_client promises of each metric, one behaviour a test, asked of the original and of the face alike.

What the original does is the measure: a test that it fails is wrong. Random sequences of operations are compared in
`test_face_beside_the_original`.
"""

import inspect
import threading

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from shmetrics.exporters import prometheus as face
from tests.exporters.prometheus import families_of
from tests.processes import run_in_threads

CHANGES = {
    "Counter": [("inc",), ("inc", 2)],
    "Gauge": [("inc",), ("dec",), ("set", 1), ("set_to_current_time",)],
    "Histogram": [("observe", 1)],
    "Summary": [("observe", 1)],
    "Info": [("info", {"a": "b"})],
    "Enum": [("state", "a")],
}
AROUND = [("Counter", "count_exceptions"), ("Gauge", "track_inprogress"), ("Gauge", "time"), ("Histogram", "time"),
          ("Summary", "time")]  # fmt: skip
OPTIONS = {"Enum": {"states": ["a", "b", "c"]}, "Gauge": {"multiprocess_mode": "livesum"}}
"""What a kind needs, or what makes the gauge of one worker the fleet's."""
NASTY = {
    "quotes": '"in quotes"',
    "backslashes": "back\\slash\\n",
    "newlines": "two\nlines\r\n",
    "other scripts": "é漢字😀",
    "10 kB": "x" * 10_000,
    "empty": "",
    "spaces": "  a b\t",
    "like a page": '"} 1\n# TYPE x counter\nx_total{a="',
}


class Client:
    """One of the two, on a registry of its own."""

    def __init__(self, module):
        self.module = module
        self.registry = CollectorRegistry()

    def make(self, kind, name="m", labelnames=(), **options):
        options = OPTIONS.get(kind, {}) | options
        return getattr(self.module, kind)(name, "help", labelnames, registry=self.registry, **options)

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)


@pytest.fixture(params=["the original", "the face"])
def client(request, hub):
    return Client(prometheus_client if request.param == "the original" else face)


# Names, labels and units ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {}),
        ("", {"namespace": "a"}),
        ("", {"subsystem": "a"}),
        ("m", {"labelnames": ["__reserved"]}),
    ],
)
def test_what_cannot_be_a_name_is_a_value_error(client, kind, name, options):
    with pytest.raises(ValueError, match=r"."):
        client.make(kind, name, **options)
    assert generate_latest(client.registry) == b""


def test_namespace_and_subsystem_stand_before_a_name_and_total_behind_a_counters(client):
    client.make("Counter", "c", namespace="a", subsystem="b").inc()
    client.make("Counter", "d_total", namespace="a").inc(2)
    assert (client.value("a_b_c_total"), client.value("a_d_total")) == (1.0, 2.0)


@pytest.mark.parametrize("name", ["h", "h_seconds"])
def test_a_unit_is_appended_once(client, name):
    client.make("Histogram", name, unit="seconds").observe(3)
    assert client.value("h_seconds_sum") == 3.0


@pytest.mark.parametrize("kind", ["Info", "Enum"])
def test_infos_and_enums_have_no_unit(client, kind):
    with pytest.raises(ValueError, match="unit"):
        client.make(kind, unit="x")


@pytest.mark.parametrize("kind", CHANGES)
def test_an_empty_list_of_labels_is_none(client, kind):
    metric = client.make(kind, labelnames=[])
    (change, *arguments), *_ = CHANGES[kind]
    getattr(metric, change)(*arguments)
    with pytest.raises(ValueError, match="label"):
        metric.labels("a")


@pytest.mark.parametrize(("kind", "label"), [("Histogram", "le"), ("Summary", "quantile"), ("Enum", "m")])
def test_the_label_that_a_kind_uses_itself_is_refused(client, kind, label):
    with pytest.raises(ValueError, match=label):
        client.make(kind, labelnames=[label])


# Children -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in CHANGES if kind != "Info"])  # of which the original forgets it
def test_a_metric_with_labels_cannot_be_changed_without_them(client, kind):
    metric = client.make(kind, labelnames=["l"])
    for change, *arguments in CHANGES[kind]:
        with pytest.raises(ValueError, match="label"):
            getattr(metric, change)(*arguments)


@pytest.mark.parametrize(("kind", "method"), [("Counter", "count_exceptions"), ("Gauge", "track_inprogress")])
def test_nor_can_anything_be_counted_around_a_block(client, kind, method):
    with pytest.raises(ValueError, match="label"):
        getattr(client.make(kind, labelnames=["l"]), method)()


@pytest.mark.parametrize(("kind", "sample"), [("Gauge", "m"), ("Histogram", "m_count"), ("Summary", "m_count")])
def test_the_series_that_takes_the_time_of_a_block_may_be_chosen_in_it_and_must_be(client, kind, sample):
    metric = client.make(kind, labelnames=["l"])
    with metric.time() as timer:
        timer.labels("x")
    assert client.value(sample, l="x") > 0.0
    with pytest.raises(ValueError, match="label"), metric.time():
        pass


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        (("x",), {}),
        (("x", "y", "z"), {}),
        ((), {"a": "x"}),
        ((), {"a": "x", "c": "z"}),
        ((), {"a": "x", "b": "y", "c": "z"}),
        (("x",), {"b": "y"}),
        (({"a": "x"},), {"b": "y"}),
    ],
)
def test_other_labels_than_its_own_are_a_value_error_and_make_no_series(client, values, named):
    metric = client.make("Counter", labelnames=["a", "b"])
    with pytest.raises(ValueError, match=r"."):
        metric.labels(*values, **named)
    assert client.value("m_total", a="x", b="y") is None


def test_labels_in_order_and_by_name_are_the_same_series(client):
    metric = client.make("Counter", labelnames=["a", "b"])
    metric.labels("x", "y").inc()
    metric.labels(b="y", a="x").inc(2)
    assert client.value("m_total", a="x", b="y") == 3.0


@pytest.mark.parametrize("label", [None, 1, 2.5, True, ("x",)], ids=str)
def test_label_values_become_texts_and_what_has_none_is_a_type_error(client, label):
    class Textless:
        __str__ = None

    metric = client.make("Counter", labelnames=["l"])
    metric.labels(label).inc()
    metric.labels(l=label).inc()
    assert client.value("m_total", l=str(label)) == 2.0
    metric.remove(label)
    assert client.value("m_total", l=str(label)) is None
    for values, named in (((Textless(),), {}), ((), {"l": Textless()})):
        with pytest.raises(TypeError):
            metric.labels(*values, **named)


def test_a_child_has_no_children(client):
    with pytest.raises(ValueError, match="label"):
        client.make("Counter", labelnames=["l"]).labels("a").labels("b")


def test_series_are_removed_one_by_one_or_all_and_others_stay(client):
    metric = client.make("Counter", labelnames=["l"])
    for label in "xyz":
        metric.labels(label).inc()
    metric.remove("x")
    assert [client.value("m_total", l=label) for label in "xyz"] == [None, 1.0, 1.0]
    for values in ((), ("y", "z")):
        with pytest.raises(ValueError, match="label"):
            metric.remove(*values)
    metric.clear()
    assert [client.value("m_total", l=label) for label in "xyz"] == [None, None, None]
    metric.labels("x").inc(5)
    assert client.value("m_total", l="x") == 5.0


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("kind", CHANGES)
def test_any_label_value_is_read_back_from_both_formats_as_it_was(client, kind, text):
    metric = client.make(kind, labelnames=["l"])
    (change, *arguments), *_ = CHANGES[kind]
    getattr(metric.labels(text), change)(*arguments)
    for page, parse in (
        (generate_latest(client.registry), text_string_to_metric_families),
        (generate_openmetrics(client.registry), openmetrics_families),
    ):
        (family,) = [family for family in parse(page.decode()) if not family.name.endswith("_created")]
        assert {sample.labels["l"] for sample in family.samples} == {text}


# Kinds ----------------------------------------------------------------------------------------------------------------


def test_a_counter_only_grows(client):
    counter = client.make("Counter")
    counter.inc()
    counter.inc(7)
    counter.inc(0)
    for amount in (-1, -0.001, float("-inf")):
        with pytest.raises(ValueError, match=r"."):
            counter.inc(amount)
    assert client.value("m_total") == 8.0


def test_a_gauge_goes_up_and_down_and_takes_what_is_a_number(client):
    gauge = client.make("Gauge")
    gauge.inc()
    gauge.dec(3)
    assert client.value("m") == -2.0
    for value in (9, "7.5", True):
        gauge.set(value)
        assert client.value("m") == float(value)
    with pytest.raises(ValueError, match="many"):
        gauge.set("many")
    with pytest.raises(TypeError):
        gauge.set(None)


def test_a_histogram_counts_a_value_at_a_bound_in_its_bucket_and_infinity_in_the_last(client):
    histogram = client.make("Histogram")
    for value in (2, 2.5, float("inf")):
        histogram.observe(value)
    assert [client.value("m_bucket", le=le) for le in ("1.0", "2.5", "5.0", "+Inf")] == [0.0, 2.0, 2.0, 3.0]
    assert (client.value("m_count"), client.value("m_sum")) == (3.0, float("inf"))


@pytest.mark.parametrize("buckets", [[0, 1, 2], [0, 1, 2, float("inf")], ["0", "1", "2"], (0.0, 1.0, 2.0)])
def test_buckets_may_be_given_in_several_ways(client, buckets):
    client.make("Histogram", buckets=buckets).observe(1.5)
    assert [client.value("m_bucket", le=le) for le in ("0.0", "1.0", "2.0", "+Inf")] == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("buckets", [[], [float("inf")], [3, 1], [1, "x"]])
def test_buckets_that_are_none_are_value_errors(client, buckets):
    with pytest.raises(ValueError, match=r"."):
        client.make("Histogram", buckets=buckets)


def test_an_info_says_what_it_was_told_last_and_nothing_of_its_labels(client):
    info = client.make("Info", "i")
    info.info({"a": "b"})
    info.info({"a": "c", "d": "e"})
    assert client.value("i_info", a="b") is None
    assert client.value("i_info", a="c", d="e") == 1.0
    labelled = client.make("Info", "j", ["l"])
    with pytest.raises(ValueError, match="l"):
        labelled.labels("a").info({"l": ""})
    labelled.labels("a").info({"foo": "bar"})
    assert client.value("j_info", l="a", foo="bar") == 1.0


def test_an_enum_is_in_one_of_its_states_the_first_before_it_was_told(client):
    enum = client.make("Enum", "e")
    assert [client.value("e", e=state) for state in "abc"] == [1.0, 0.0, 0.0]
    enum.state("b")
    assert [client.value("e", e=state) for state in "abc"] == [0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="d"):
        enum.state("d")
    with pytest.raises(ValueError, match=r"."):
        client.make("Enum", "f", states=None)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_metric_shows_its_module_kind_and_name(client, kind):
    metric = client.make(kind, "m")
    assert repr(metric).endswith(f".{kind}(m)")


# Around blocks and functions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "method"), AROUND)
def test_a_decorated_function_keeps_its_name_signature_and_result(client, kind, method):
    @getattr(client.make(kind), method)()
    def twice(number: int = 2) -> int:
        """Doc."""
        return 2 * number

    assert (twice(21), twice.__name__, twice.__doc__) == (42, "twice", "Doc.")
    assert str(inspect.signature(twice)) == "(number: int = 2) -> int"


def test_exceptions_of_the_type_asked_for_are_counted_and_go_on(client):
    counter = client.make("Counter")
    for error in (ValueError, TypeError):
        with pytest.raises(error), counter.count_exceptions(ValueError):
            raise error
    with counter.count_exceptions():
        pass
    assert client.value("m_total") == 1.0


def test_in_progress_is_one_more_while_a_block_or_function_runs_also_where_it_raises(client):
    gauge = client.make("Gauge")
    with gauge.track_inprogress():
        assert client.value("m") == 1.0
        assert gauge.track_inprogress()(lambda: client.value("m"))() == 2.0
    with pytest.raises(LookupError), gauge.track_inprogress():
        raise LookupError
    assert client.value("m") == 0.0


@pytest.mark.parametrize("kind", ["Summary", "Histogram"])
def test_each_call_of_a_timed_function_counts_those_within_it_and_of_other_threads_too(client, kind):
    metric = client.make(kind)
    meeting = threading.Barrier(3)

    @metric.time()
    def nested(depth):
        if depth:
            nested(depth - 1)

    def work(_index):
        meeting.wait(10.0)
        nested(2)

    run_in_threads(3, work)
    assert client.value("m_count") == 9.0


# Exemplars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exemplar", "fits"),
    [
        ({"trace_id": "x" * 120}, True),
        ({"trace_id": "x" * 121}, False),
        ({"a": "x" * 63, "b": "x" * 63}, True),
        ({"a": "x" * 64, "b": "x" * 63}, False),
        ({}, True),
        (None, True),
    ],
    ids=lambda value: "" if isinstance(value, bool) else str(value)[:20],
)
def test_an_exemplar_has_128_characters_at_most(client, exemplar, fits):
    counter, histogram = client.make("Counter", "c"), client.make("Histogram", "h")
    for change in (counter.inc, histogram.observe):
        if fits:
            change(2, exemplar)
        else:
            with pytest.raises(ValueError, match=r"."):
                change(2, exemplar)
    counted = 2.0 if fits else 0.0
    assert client.value("c_total") == counted or not fits
    shown = families_of(generate_openmetrics(client.registry), openmetrics=True)
    (total,) = [sample for sample in shown["c"].samples if sample.name == "c_total"]
    assert (total.exemplar.labels if total.exemplar else {}) == ((exemplar or {}) if fits else {})
