"""Which workers stand out."""

from shmetrics.exporters.profiles.outliers import marks
from shmetrics.exporters.profiles.report_data import WorkerRow


def row(slot, seconds=1.0, calls=100, errors=0):
    return WorkerRow(slot, 100 + (slot or 0), calls, errors, seconds)


def test_workers_that_are_alike_have_no_mark():
    assert marks([row(slot, 1.0 + 0.01 * slot) for slot in range(8)]) == [""] * 8


def test_a_slow_worker_is_marked_with_how_slow_it_is():
    assert marks([row(0), row(1), row(2, 1.9), row(3)]) == ["", "", "1.9 times slower", ""]


def test_a_worker_with_errors_that_others_have_not_is_marked():
    assert marks([row(0), row(1, errors=9), row(2, errors=1), row(3)]) == ["", "9% errors", "", ""]


def test_where_all_have_errors_none_stands_out():
    assert marks([row(slot, errors=30) for slot in range(4)]) == [""] * 4


def test_a_worker_with_few_calls_is_not_judged():
    assert marks([row(0), row(1), row(2), row(3, 9.0, calls=5)]) == [""] * 4


def test_two_workers_are_no_fleet():
    assert marks([row(0), row(1, 5.0)]) == ["", ""]


def test_those_that_ended_are_not_compared():
    assert marks([row(0), row(1), row(2), row(None, 9.0)]) == [""] * 4


def test_functions_that_take_no_time_that_a_clock_sees_stand_out_by_errors_only():
    assert marks([row(0, 0.0), row(1, 0.0, errors=50), row(2, 0.0)]) == ["", "50% errors", ""]
