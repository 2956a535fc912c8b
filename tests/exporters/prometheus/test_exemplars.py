"""Exemplars arrive in OpenMetrics, at the right bucket, and never break a page."""

import math

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.exporters.prometheus import render
from shmetrics.families import Definition, Exemplar, Family, Series
from tests.exporters.prometheus import Still, families_of, read
from tests.forge import fleet


def exemplar(value=0.5, time=1.5e9, **labels):
    return Exemplar(0, 0, value, time, labels or {"trace_id": "a"})


def exemplars_on(source, **options):
    """{(sample's name, its le): (labels, value)} of every exemplar on a page of OpenMetrics."""
    families = families_of(render(source, openmetrics=True, **options), openmetrics=True).values()
    return {
        (sample.name, sample.labels.get("le")): (sample.exemplar.labels, sample.exemplar.value)
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_the_slowest_request_of_each_bucket_has_its_labels():
    found = exemplars_on(
        Still(
            fleet(exemplars=(exemplar(0.3, trace_id="a"), exemplar(0.45, trace_id="b"), exemplar(70.0, trace_id="c")))
        )
    )
    assert found == {
        ("inference_duration_seconds_bucket", "0.5"): ({"trace_id": "b"}, 0.45),
        ("inference_duration_seconds_bucket", "+Inf"): ({"trace_id": "c"}, 70.0),
    }


def test_one_at_a_bound_belongs_to_its_bucket_and_all_go_where_the_buckets_are():
    source = Still(fleet(exemplars=(exemplar(0.25), exemplar(0.5))))
    assert {le for _, le in exemplars_on(source)} == {"0.25", "0.5"}
    assert exemplars_on(source, buckets=[1.0]) == {
        ("inference_duration_seconds_bucket", "1.0"): ({"trace_id": "a"}, 0.5)
    }


def test_counters_and_histograms_of_ones_own_have_theirs():
    with PerformanceMetrics(max_workers=2) as metrics:
        custom = CustomMetrics(metrics)
        custom.counter("tokens_total").labels().inc(2, exemplar={"trace_id": "c"})
        sizes = custom.histogram("size", labels=["model"], buckets=[1, 2]).labels(model='"')
        sizes.observe(1.5, exemplar={"trace_id": "h\\\n é"})  # a quote is more than that parser can read here
        sizes.observe(7, exemplar={"trace_id": "i"})
        metrics.update_inference(0.3)
        metrics.record_exemplar(0.3, {"trace_id": "f"})
        found = exemplars_on(metrics)
    assert found == {
        ("tokens_total", None): ({"trace_id": "c"}, 2.0),
        ("size_bucket", "2.0"): ({"trace_id": "h\\\n é"}, 1.5),
        ("size_bucket", "+Inf"): ({"trace_id": "i"}, 7.0),
        ("inference_duration_seconds_bucket", "0.5"): ({"trace_id": "f"}, 0.3),
    }


def test_the_text_format_has_none():
    assert b"trace_id" not in render(Still(fleet(exemplars=(exemplar(),))))
    read(Still(fleet(exemplars=(exemplar(),))))


@pytest.mark.parametrize(
    "odd",
    [
        exemplar(math.nan),
        exemplar(math.inf),
        exemplar(time=math.nan),
        exemplar(time=-1.0),
        exemplar(trace_id="x" * 121),
        exemplar(**{"0": "x"}),
        exemplar(**{'a="': "x"}),
    ],
    ids=["NaN", "infinite", "no time", "before time", "too long", "no name", "no name either"],
)
@pytest.mark.parametrize("kind", ["counter", "histogram", "inference"])
def test_what_no_page_can_hold_is_left_out(odd, kind):
    if kind == "inference":
        source = Still(fleet(exemplars=(odd,)))
    else:
        definition = Definition("m", kind, buckets=(1.0,) if kind == "histogram" else ())
        series = Series(value=1.0, buckets=(1.0, 2.0), exemplars={0: odd, 9: exemplar(), -1: exemplar()})
        source = Still(fleet(families=(Family(definition, (series,)),)))
    assert exemplars_on(source) == {}


def test_half_a_surrogate_pair_is_shown_as_a_question_mark():
    assert list(exemplars_on(Still(fleet(exemplars=(exemplar(t="\ud800"),)))).values()) == [({"t": "?"}, 0.5)]
