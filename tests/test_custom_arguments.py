"""What custom metrics can be called and made of, and what they take of numpy."""

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics


@pytest.fixture
def custom():
    with PerformanceMetrics(max_workers=2, max_series=64) as metrics:
        yield CustomMetrics(metrics)


@pytest.mark.parametrize("metrics", ["resnet", None, 5])
def test_what_is_no_metrics_is_a_type_error_at_once(metrics):
    with pytest.raises(TypeError, match=f"wanted PerformanceMetrics, not {metrics!r}"):
        CustomMetrics(metrics)


def test_a_metric_says_what_it_is(custom):
    assert repr(custom.counter("tokens_total", labels=["model"])) == "<counter 'tokens_total', labels ['model']>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a-b", "metric_type": "counter"}, "'a-b'"),
        ({"name": "a", "metric_type": "meter"}, "'meter'"),
        ({"name": "a", "metric_type": "counter", "labels": ["1"]}, "'1'"),
        ({"name": "a", "metric_type": "counter", "labels": "model"}, "list of texts, not 'model'"),
        ({"name": "a", "metric_type": "counter", "labels": None}, "list of texts, not None"),
        ({"name": "a", "metric_type": "enum", "states": 5}, "list of texts, not 5"),
        ({"name": "a", "metric_type": "histogram", "buckets": 5}, "list of numbers, not 5"),
        ({"name": "a", "metric_type": "histogram", "buckets": [10**400]}, "buckets must be numbers"),
        ({"name": "a", "metric_type": "counter", "description": "\ud800"}, "help .* surrogate"),
        ({"name": "a", "metric_type": "enum", "states": ["\udfff"]}, "state .* surrogate"),
        ({"name": "a", "metric_type": "histogram", "buckets": [2, 1]}, "ascending"),
        ({"name": "a", "metric_type": "histogram", "buckets": []}, "buckets"),
        ({"name": "a", "metric_type": "gauge", "merge": "average"}, "'average'"),
        ({"name": "a", "metric_type": "counter", "expire_after": -1}, "-1"),
        ({"name": "a", "metric_type": "counter", "expire_after": "1h"}, "'1h'"),
    ],
)
def test_bad_definitions_are_value_errors_with_the_offending_value(custom, arguments, message):
    with pytest.raises(ValueError, match=message):
        custom.define_metric(**arguments)
    assert custom.get_all_metrics() == {}


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
def test_a_counter_loses_nothing_of_numpys_small_numbers(custom, kind):
    counter = custom.counter("c")
    counter.inc(2.0**53 - 1)
    counter.inc(kind(1))
    assert custom.get_all_metrics()["c"]["value"] == 2.0**53


def test_a_label_may_be_called_self(custom):
    custom.counter("c", labels=["self"])
    custom.increment_counter("c", labels={"self": "me"})
    assert custom.get_all_metrics()["c"]["series"] == [{"labels": {"self": "me"}, "value": 1.0}]


def test_bounds_may_come_from_numpy_and_lie_close_together(custom):
    histogram = custom.histogram("h", buckets=np.array([0.5, 1.0, 1.0000001, 1e6, 1e6 + 1]))
    histogram.observe(1.0000001)
    assert custom.get_all_metrics()["h"]["buckets"] == {
        "0.5": 0.0, "1": 0.0, "1.0000001": 1.0, "1e+06": 1.0, "1000001.0": 1.0, "+Inf": 1.0
    }  # fmt: skip
