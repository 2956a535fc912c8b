"""PerformanceMetrics: the API that users were promised."""

import copy
import gc
import itertools
import logging
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from shmetrics import (
    Hub,
    HubClosedError,
    HubLayoutError,
    HubNotFoundError,
    PerformanceMetrics,
    naming,
)
from tests.hazards.injection import happen
from tests.processes import in_forked_child, run_in_processes

SMALL = {"max_workers": 4, "max_series": 16}


class LightweightMetrics(PerformanceMetrics):
    """Lightweight metrics for high-frequency operations"""

    def __init__(self):
        super().__init__(
            window_size=50,  # Smaller window
            enable_detailed_stats=False,  # Disable expensive calculations
            track_percentiles=False,  # Disable percentile tracking
        )

    def quick_update(self, inference_time):
        """Minimal overhead update"""
        with self.lock:
            if len(self.inference_times) >= self.window_size:
                self.inference_times.pop(0)
            self.inference_times.append(inference_time)
            self.total_requests += 1


def test_the_subclass_of_the_original_documentation_works_as_written():
    with LightweightMetrics() as metrics:
        for step in range(120):
            metrics.quick_update(0.001 * step)
        figures = metrics.get_statistics()
        assert metrics.total_requests == figures["total_requests"] == 120
        assert len(metrics.inference_times) == figures["window_count"] == 50
        assert metrics.inference_times[0] == 0.001 * 70
        assert metrics.inference_times[-1] == 0.001 * 119
        assert figures["avg_inference_time"] == pytest.approx(0.001 * (70 + 119) / 2)
        assert not any(key.startswith(("p95_", "std_", "min_")) for key in figures)


def test_inference_times_behave_like_a_list_of_this_process():
    with PerformanceMetrics(window_size=5, **SMALL) as metrics:
        for step in range(1, 8):
            metrics.update_inference(float(step))
        times = metrics.inference_times
        assert list(times) == times[:] == [3.0, 4.0, 5.0, 6.0, 7.0]
        assert (times[0], times[-1], len(times), 4.0 in times) == (3.0, 7.0, 5, True)
        assert np.array(times).tolist() == np.asarray(times, dtype=np.float32).tolist() == [3, 4, 5, 6, 7]
        assert times.pop(0) == 3.0
        assert list(times) == [4.0, 5.0, 6.0, 7.0]
        with pytest.raises(ValueError, match=r"pop\(0\)"):
            times.pop(-1)
        with pytest.raises(IndexError):
            times[10]
        for _ in range(4):
            times.pop(0)
        with pytest.raises(IndexError, match="empty"):
            times.pop(0)
        assert repr(times) == "InferenceTimes([])"


def test_an_object_made_while_the_last_one_of_its_hub_is_collected_is_not_closed_with_it(hub_name):
    """At whatever call the collector comes, the new object records and reads."""
    for number in itertools.count():
        users = [PerformanceMetrics(name=hub_name, **SMALL)]
        made = []
        moment = happen(
            "calls",
            number,
            users.clear,
            lambda made=made: made.append(PerformanceMetrics(name=hub_name, **SMALL)),
        )
        metrics = made.pop()
        metrics.update_inference(0.01)
        assert metrics.get_statistics()["total_requests"] == number + 1, moment
        metrics.close()
        if moment is None:
            assert number > 10
            return


def test_threads_that_make_and_close_objects_of_one_hub_at_once_lose_nothing(hub_name):
    """Whoever comes while the last user leaves gets an attachment that works."""

    def record_and_close():
        start.wait()
        for _ in range(50):
            with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
                metrics.update_inference(0.01)

    start = threading.Barrier(4)
    threads = [threading.Thread(target=record_and_close) for _ in range(4)]
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch_interval)
    with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
        figures = metrics.get_statistics()
        assert (figures["total_requests"], figures["dropped_records"]) == (200, 0)


def test_no_count_can_make_a_slot_look_corrupt_and_so_hide_its_records():
    """What a call may add is limited, so that no counter comes near the point where memory is taken for overwritten."""
    with PerformanceMetrics(**SMALL) as metrics:
        metrics.update_inference(0.01)
        for count in (metrics.record_error, metrics.record_cache_hit, metrics.record_cache_miss):
            with pytest.raises(ValueError, match="count must be from 0 to"):
                count(2**50)
            for _ in range(1024):
                count(2**32)
        with pytest.raises(ValueError, match="count must be from 0 to"):
            metrics.total_requests += 2**50
        figures = metrics.get_comprehensive_statistics()
        assert (figures["total_requests"], figures["hub"]["corrupt"]) == (1, {})


def test_total_requests_may_be_added_to_but_never_taken_from():
    with PerformanceMetrics(**SMALL) as metrics:
        metrics.update_inference(0.1)
        metrics.total_requests += 10
        assert metrics.get_statistics()["total_requests"] == metrics.total_requests == 11
        with pytest.raises(ValueError, match="only grows"):
            metrics.total_requests = 3
        metrics.total_requests = 11


@pytest.mark.parametrize(
    ("argument", "value", "range_"),
    [
        ("window_size", 0, "1 to 1000000"),
        ("window_size", 1_000_001, "1 to 1000000"),
        ("window_size", 2.5, "1 to 1000000"),
        ("window_size", True, "1 to 1000000"),
        ("max_workers", 0, "1 to 1024"),
        ("max_workers", 1025, "1 to 1024"),
        ("max_series", 0, "1 to 65536"),
        ("name", "", "1 to 48"),
        ("name", "Resnet", "1 to 48"),
        ("name", "a/b", "1 to 48"),
        ("name", "../x", "1 to 48"),
        ("name", "x" * 49, "1 to 48"),
        ("name", 7, "1 to 48"),
    ],
)
def test_an_argument_out_of_range_is_a_value_error_that_names_value_and_range(argument, value, range_):
    with pytest.raises(ValueError, match=f"(?s){argument}.*{range_}") as caught:
        PerformanceMetrics(**{argument: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("method", ["record_error", "record_cache_hit", "record_cache_miss"])
def test_counts_are_whole_numbers_and_not_negative(method):
    with PerformanceMetrics(**SMALL) as metrics:
        record = getattr(metrics, method)
        record()
        record(5)
        record(0)
        record(np.int64(2))
        for bad in (-1, 2**50):
            with pytest.raises(ValueError, match="count"):
                record(bad)
        for bad in (1.5, "1", None):
            with pytest.raises(TypeError):
                record(bad)
        figures = metrics.get_statistics()
        key = {"record_error": "total_errors", "record_cache_hit": "cache_hits", "record_cache_miss": "cache_misses"}
        assert figures[key[method]] == 8


def test_before_the_first_record_every_figure_is_zero():
    with PerformanceMetrics(**SMALL) as metrics:
        figures = metrics.get_comprehensive_statistics()
        assert figures.pop("total_runtime") > 0.0
        figures.pop("hub")
        assert (figures.pop("workers"), figures.pop("findings")) == ([], [])
        assert set(figures.values()) == {0}


def test_invalid_measurements_are_counted_and_mentioned_once_where_they_are_read(caplog):
    with PerformanceMetrics(**SMALL) as metrics:
        metrics.update_inference(float("nan"))
        metrics.update_inference(0.5, -1)
        metrics.update_inference(0.5)
        for _ in range(3):
            figures = metrics.get_statistics()
        assert (figures["total_requests"], figures["invalid_records"], figures["window_count"]) == (3, 2, 1)
        assert figures["max_inference_time"] == 0.5
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_max_age_narrows_the_window_and_refuses_nonsense():
    with PerformanceMetrics(**SMALL) as metrics:
        metrics.update_inference(0.5)
        assert metrics.get_statistics(max_age=60)["window_count"] == 1
        assert metrics.get_statistics(max_age=0)["window_count"] == 0
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="max_age"):
                metrics.get_statistics(max_age=bad)


def test_a_named_hub_lives_on_and_its_totals_with_it(hub_name):
    for run in (1, 2, 3):
        with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
            metrics.update_inference(0.1)
            figures = metrics.get_statistics()
            assert (figures["total_requests"], figures["workers_seen"]) == (run, run)


def test_a_private_hub_is_removed_on_close_by_its_creator():
    metrics = PerformanceMetrics(**SMALL)
    path = naming.segment_path(metrics.name)
    metrics.update_inference(0.1)
    assert os.path.exists(path)
    metrics.close()
    assert not os.path.exists(path)
    metrics.close()


def test_a_private_hub_is_removed_when_its_object_is_garbage():
    metrics = PerformanceMetrics(**SMALL)
    path = naming.segment_path(metrics.name)
    metrics.update_inference(0.1)
    del metrics
    gc.collect()
    assert not os.path.exists(path)


def test_a_private_hub_is_removed_when_its_process_exits():
    code = (
        "from shmetrics import PerformanceMetrics, naming\n"
        "metrics = PerformanceMetrics(max_workers=2)\n"
        "metrics.update_inference(0.1)\n"
        "print(naming.segment_path(metrics.name))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().startswith("/dev/shm/shmetrics.")
    assert not os.path.exists(done.stdout.strip())
    assert done.stderr == ""


def test_two_objects_of_one_hub_in_one_process_share_one_slot(hub_name):
    with PerformanceMetrics(name=hub_name, **SMALL) as first:
        second = PerformanceMetrics(name=hub_name, **SMALL)
        first.update_inference(0.1)
        second.update_inference(0.2)
        assert second.get_statistics()["active_workers"] == 1
        second.close()
        first.update_inference(0.3)
        figures = first.get_statistics()
        assert (figures["total_requests"], figures["active_workers"]) == (3, 1)


def test_other_dimensions_than_the_hub_has_are_refused_with_both(hub_name):
    with (
        PerformanceMetrics(window_size=100, name=hub_name, **SMALL),
        pytest.raises(HubLayoutError, match=r"(?s)window_size=100.*window_size=200.*shmetrics rm"),
    ):
        PerformanceMetrics(window_size=200, name=hub_name, **SMALL)


def test_a_hub_variable_that_cannot_name_a_hub_is_named_itself(monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", "Not A Name")
    with pytest.raises(ValueError, match=r"^environment variable SHMETRICS_HUB: hub name must be .* not 'Not A Name'"):
        PerformanceMetrics(**SMALL)
    with pytest.raises(ValueError, match=r"^hub name must be"):
        PerformanceMetrics(name="Not A Name", **SMALL)


def test_closed_metrics_cannot_be_read_and_say_so():
    metrics = PerformanceMetrics(**SMALL)
    metrics.close()
    for read in (metrics.get_statistics, metrics.get_comprehensive_statistics, metrics.snapshot):
        with pytest.raises(HubClosedError, match="closed"):
            read()
    metrics.update_inference(0.1)
    metrics.record_error()


def test_unlinking_removes_the_name_and_recording_goes_on(hub_name):
    with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
        metrics.update_inference(0.1)
        metrics.unlink()
        with pytest.raises(HubNotFoundError):
            Hub.attach(hub_name)
        for _ in range(1000):
            metrics.update_inference(0.1)
        figures = metrics.get_comprehensive_statistics()
        assert figures["total_requests"] == 1001
        assert figures["hub"]["unlinked"]


def test_it_pickles_by_name_with_its_options_and_the_attributes_of_a_subclass(hub_name):
    with PerformanceMetrics(50, False, False, name=hub_name, role="server", **SMALL) as metrics:
        metrics.tag = "blue"
        metrics.update_inference(0.1)
        for twin in (pickle.loads(pickle.dumps(metrics)), copy.copy(metrics), copy.deepcopy(metrics)):
            with twin:
                twin.update_inference(0.2)
                assert (twin.name, twin.tag, twin.window_size) == (hub_name, "blue", 50)
                assert twin.get_statistics().keys() == metrics.get_statistics().keys()
        assert metrics.get_statistics()["total_requests"] == 4


def test_unpickling_where_the_hub_is_gone_says_which(hub_name):
    with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
        pickled = pickle.dumps(metrics)
        metrics.unlink()
    with pytest.raises(HubNotFoundError, match=hub_name):
        pickle.loads(pickled)


def test_claiming_early_takes_the_slot_before_the_first_record():
    with PerformanceMetrics(role="trainer", **SMALL) as metrics:
        assert metrics.claim()
        (worker,) = metrics.snapshot().workers
        assert (worker.alive, worker.pid, worker.role) == (True, os.getpid(), "trainer")


def test_its_repr_says_how_to_find_it(hub_name):
    with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
        assert repr(metrics) == f"PerformanceMetrics(name={hub_name!r}, window_size=100)"


def test_strict_mode_gives_the_same_figures(monkeypatch):
    def figures():
        with PerformanceMetrics(**SMALL) as metrics:
            for step in range(1000):
                metrics.update_inference(0.001 * step, step % 7)
                metrics.record_cache_hit()
            wanted = metrics.get_comprehensive_statistics()
            return {
                key: wanted[key] for key in wanted if key.startswith(("p9", "avg", "total_req", "cache", "lifetime"))
            }

    relaxed = figures()
    monkeypatch.setenv("SHMETRICS_STRICT", "1")
    assert figures() == relaxed


def test_a_hub_that_the_environment_names_keeps_its_dimensions_and_says_so(hub_name, monkeypatch, caplog):
    """A reload with another number must not end a server."""
    with PerformanceMetrics(window_size=100, name=hub_name, **SMALL):
        monkeypatch.setenv("SHMETRICS_HUB", hub_name)
        with PerformanceMetrics(window_size=200, **SMALL) as reloaded:
            reloaded.update_inference(0.1)
            assert (reloaded.name, reloaded.window_size) == (hub_name, 100)
    assert "window_size=100" in caplog.text
    assert "window_size=200" in caplog.text
    assert f"`shmetrics rm {hub_name}`" in caplog.text
    assert caplog.text.strip().endswith("give that --window-size 200")


def test_a_private_hub_of_a_child_process_is_warned_about(caplog):
    (said,) = run_in_processes("spawn", 1, _make_private_hub)
    assert "give it a name=" in said
    PerformanceMetrics(**SMALL).close()
    assert caplog.text == "", "in a process of its own right it is what was asked for"


def _make_private_hub(_process):
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("shmetrics").addHandler(handler)
    PerformanceMetrics(**SMALL).close()
    return "".join(said)


def test_only_the_process_that_made_a_private_hub_may_have_it_alone(hub_name):
    with PerformanceMetrics(**SMALL) as private, PerformanceMetrics(name=hub_name, **SMALL) as named:
        assert private.is_of_this_process_alone
        assert not named.is_of_this_process_alone

        def child():
            assert not private.is_of_this_process_alone

        in_forked_child(child)
