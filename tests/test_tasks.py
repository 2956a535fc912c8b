"""Tasks, measured by a clock of the test's own: what becomes a record, and what is counted by name."""

import functools

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.tasks import FAILED, SUCCEEDED, TaskMeter, name_of


@pytest.fixture
def metrics():
    with PerformanceMetrics(max_workers=4, max_series=64) as metrics:
        yield metrics


@pytest.fixture
def meter(metrics, clock):
    return TaskMeter(metrics, clock=clock)


def by_name(metrics, name):
    """The figures of one of the custom metrics, by label values."""
    series = CustomMetrics(metrics).get_all_metrics()[name]["series"]
    return {tuple(each["labels"].values()): each for each in series if "_overflow" not in each["labels"].values()}


def in_flight(metrics):
    return sum(row["in_flight"] for row in metrics.get_comprehensive_statistics()["workers"])


def test_a_task_is_one_record_of_the_time_it_ran(metrics, meter, clock):
    metrics.claim()
    task = meter.begin("convert")
    assert in_flight(metrics) == 1
    clock.now += 0.5
    task.end(SUCCEEDED)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (1, 0)
    assert (figures["max_inference_time"], figures["max_total_time"]) == (0.5, 0.5)
    assert in_flight(metrics) == 0
    ran = by_name(metrics, "shmetrics_task_run_seconds")[("convert",)]
    assert (ran["count"], ran["sum"], ran["buckets"]["0.25"], ran["buckets"]["0.5"]) == (1, 0.5, 0, 1)


def test_a_task_that_failed_is_an_error_and_other_ends_are_not(metrics, meter):
    for state in (SUCCEEDED, FAILED, FAILED, "retried"):
        meter.begin("convert").end(state)
    assert metrics.get_statistics()["total_errors"] == 2
    counted = {key: each["value"] for key, each in by_name(metrics, "shmetrics_tasks_total").items()}
    assert counted == {("convert", SUCCEEDED): 1, ("convert", FAILED): 2, ("convert", "retried"): 1}


def test_stages_of_a_task_are_of_its_record(metrics, meter, clock):
    task = meter.begin("convert")
    with metrics.stage("preprocessing", batch_size=8):
        clock.now += 0.25
    clock.now += 1.0
    metrics.current_request.quantization_time = 0.125
    task.end(SUCCEEDED)
    figures = metrics.get_statistics()
    assert (figures["max_preprocessing_time"], figures["max_quantization_time"]) == (0.25, 0.125)
    assert (figures["max_inference_time"], figures["max_batch_size"]) == (0.875, 8.0)
    assert by_name(metrics, "shmetrics_task_run_seconds")["convert",]["sum"] == 1.25
    assert metrics.current_request is None


def test_tasks_within_a_task_have_their_own_records(metrics, meter, clock):
    outer = meter.begin("outer")
    clock.now += 1.0
    inner = meter.begin("inner")
    clock.now += 0.5
    inner.end(SUCCEEDED)
    outer.end(SUCCEEDED)
    figures = metrics.get_statistics()
    assert (figures["min_inference_time"], figures["max_inference_time"]) == (0.5, 1.5)


def test_a_lost_task_is_a_request_and_an_error_without_a_time(metrics, meter):
    meter.lose("convert")
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"], figures["window_count"]) == (1, 1, 0)
    assert by_name(metrics, "shmetrics_tasks_total")[("convert", "lost")]["value"] == 1


def test_queue_time_is_the_time_since_it_was_sent_and_no_time_of_running(metrics, meter, clock):
    task = meter.begin("convert", sent=clock.now - 3.0)
    clock.now += 1.0
    task.end(SUCCEEDED)
    assert by_name(metrics, "shmetrics_task_queue_seconds")[("convert",)]["sum"] == 3.0
    assert metrics.get_statistics()["max_total_time"] == 1.0


@pytest.mark.parametrize("sent", [None, 1e9], ids=["unknown", "of another clock"])
def test_without_a_time_to_go_by_there_is_no_queue_time(metrics, meter, sent):
    meter.begin("convert", sent=sent).end(SUCCEEDED)
    assert by_name(metrics, "shmetrics_task_queue_seconds")["convert",]["count"] == 0
    assert metrics.get_statistics()["total_requests"] == 1


def test_a_clock_that_went_back_makes_no_invalid_record(metrics, meter, clock):
    task = meter.begin("convert")
    clock.now -= 10.0
    task.end(SUCCEEDED)
    figures = metrics.get_statistics()
    assert (figures["max_inference_time"], figures["invalid_records"]) == (0.0, 0)


def raise_system_exit():
    raise SystemExit(3)


class Callable:
    """An object that can be called, and answers nothing sensible when it is asked for a name."""

    def __call__(self):
        return 1

    def __getattr__(self, name):
        raise RuntimeError(name)

    def method(self):
        return 1


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (raise_system_exit, "tests.test_tasks.raise_system_exit"),
        (functools.partial(functools.partial(raise_system_exit)), "tests.test_tasks.raise_system_exit"),
        (len, "builtins.len"),
        (Callable, "tests.test_tasks.Callable"),
        (None, "builtins.NoneType"),
    ],
)
def test_a_task_is_called_after_its_function(function, name):
    assert name_of(function) == name


def test_an_object_is_a_task_called_after_its_class_and_asked_for_nothing():
    assert name_of(Callable()) == "tests.test_tasks.Callable"
    assert name_of(functools.partial(Callable())) == "tests.test_tasks.Callable"
    assert name_of(Callable().method) == "tests.test_tasks.Callable.method"


def test_a_function_of_the_main_module_has_the_same_name_in_every_process():
    def work():
        """As it is called in a child of spawn."""

    work.__module__, work.__qualname__ = "__mp_main__", "work"
    assert name_of(work) == "__main__.work"


def test_a_hub_that_has_one_of_the_names_for_something_else_is_a_clear_error(metrics):
    CustomMetrics(metrics).gauge("shmetrics_tasks_total", "Mine.")
    with pytest.raises(ValueError, match="shmetrics_tasks_total"):
        TaskMeter(metrics)
