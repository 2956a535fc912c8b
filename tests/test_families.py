"""A definition is refused, with the offending value, unless Prometheus could show it."""

import math

import pytest

from shmetrics.families import LIVE, MAX_BUCKETS, MERGES, Definition, bounds


def define(**fields):
    return Definition(**{"name": "m", "kind": "counter", **fields})


@pytest.mark.parametrize("name", ["a", "_a", "a:b_1", "A"])
def test_names_that_prometheus_knows_are_taken(name):
    assert define(name=name).name == name


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "ä", "a\n", 'a"', None, 7])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="cannot be the name of a metric") as caught:
        define(name=name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("label", ["", "1a", "a-b", "a:b", "__a", "ä", "a\n", None, ["a"]])
def test_labels_that_prometheus_does_not_know_are_refused(label):
    with pytest.raises(ValueError, match="cannot be a label"):
        define(labels=(label,))


@pytest.mark.parametrize(("kind", "label"), [("histogram", "le"), ("summary", "quantile"), ("gauge", "worker")])
def test_labels_that_an_export_adds_by_itself_are_refused(kind, label):
    needs = {"histogram": {"buckets": (1.0,)}, "gauge": {"merge": "per_worker"}}.get(kind, {})
    with pytest.raises(ValueError, match=f"'{label}'.*reserved"):
        define(kind=kind, labels=(label,), **needs)
    assert define(labels=(label,)).labels == (label,)


def test_only_gauges_that_show_each_worker_reserve_the_label_for_it():
    assert define(kind="gauge", merge="live_sum", labels=("worker",)).labels == ("worker",)
    with pytest.raises(ValueError, match=r"'worker'.*reserved"):
        define(kind="gauge", merge="live_per_worker", labels=("worker",))


def test_a_label_twice_is_refused():
    with pytest.raises(ValueError, match="twice: a, b, a"):
        define(labels=("a", "b", "a"))


@pytest.mark.parametrize(
    ("buckets", "message"),
    [
        ((), "from 1 to"),
        ((1.0,) * (MAX_BUCKETS + 1), "from 1 to"),
        ((1.0, 1.0), "ascending"),
        ((2.0, 1.0), r"ascending order, not \[2.0, 1.0\]"),
        ((math.nan,), "finite numbers, not nan"),
        ((math.inf,), "finite numbers, not inf"),
        (("1",), "finite numbers, not '1'"),
        ((1,), "finite numbers, not 1"),
    ],
)
def test_buckets_that_cannot_be_are_refused(buckets, message):
    with pytest.raises(ValueError, match=message):
        define(kind="histogram", buckets=buckets)


def test_only_histograms_have_buckets():
    with pytest.raises(ValueError, match="only histograms"):
        define(buckets=(1.0,))


@pytest.mark.parametrize("merge", [*MERGES, *(LIVE + merge for merge in MERGES)])
def test_gauges_merge_in_each_of_the_ways_also_over_the_living_alone(merge):
    assert define(kind="gauge", merge=merge).merge == merge


@pytest.mark.parametrize(
    ("kind", "merge"), [("gauge", ""), ("gauge", "median"), ("gauge", "live_"), ("gauge", 3), ("counter", "sum")]
)
def test_other_ways_and_other_kinds_than_gauges_are_refused(kind, merge):
    with pytest.raises(ValueError, match="cannot merge as"):
        define(kind=kind, merge=merge)


@pytest.mark.parametrize("states", [(), ("a", "a"), ("a", 1)])
def test_an_enum_needs_different_states(states):
    with pytest.raises(ValueError, match="states"):
        define(kind="enum", states=states)


def test_only_enums_have_states():
    with pytest.raises(ValueError, match="states"):
        define(states=("a",))


@pytest.mark.parametrize("after", [-1.0, math.nan, math.inf, 3, True, "1"])
def test_an_expiry_that_is_no_time_is_refused(after):
    with pytest.raises(ValueError, match="expire_after"):
        define(expire_after=after)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"'meter'.*counter, gauge"):
        define(kind="meter")


@pytest.mark.parametrize("field", ["help", "unit"])
def test_texts_must_be_texts(field):
    with pytest.raises(ValueError, match=field):
        define(**{field: None})


def test_differences_name_each_field_and_both_values():
    told = define(help="a", labels=("x",)).differences(define(help="b", labels=("y",)))
    assert told == "help 'a' and not 'b', labels ('x',) and not ('y',)"


@pytest.mark.parametrize(
    ("given", "meant"), [([1, 2], (1.0, 2.0)), ([0.5, math.inf], (0.5,)), ([], ()), (["1.5"], (1.5,))]
)
def test_bounds_become_floats_without_the_infinite_one_at_the_end(given, meant):
    assert bounds(given) == meant


def test_bounds_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="one is 'x'"):
        bounds(["x"])
