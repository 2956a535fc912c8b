"""Custom metrics: defined anywhere, changed anywhere, exact over the whole fleet, whatever is killed."""

import json
import math
import os
import re
import signal
import threading

import pytest

from shmetrics import CustomMetrics, Hub, PerformanceMetrics, slots
from shmetrics.families import OVERFLOW
from shmetrics.instruments import Instrument
from shmetrics.locks import REGISTRY, ByteLock
from tests.processes import PATIENCE, START_METHODS, forked, run_in_processes, run_in_threads, wait_until


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=8, max_series=64) as metrics:
        yield metrics


@pytest.fixture
def custom(metrics):
    return CustomMetrics(metrics)


def value(custom, name):
    return custom.get_all_metrics()[name]["value"]


def by_labels(custom, name):
    """The values of a metric's series by their label values."""
    return {tuple(series["labels"].values()): series["value"] for series in custom.get_all_metrics()[name]["series"]}


class TestDefining:
    def test_a_metric_is_there_before_it_is_first_changed(self, custom):
        custom.define_metric("errors_seen", "counter", "Errors", unit="errors")
        assert custom.get_all_metrics() == {
            "errors_seen": {
                "type": "counter",
                "description": "Errors",
                "unit": "errors",
                "series": [{"labels": {}, "value": 0.0}],
                "value": 0.0,
            }
        }

    def test_defining_takes_no_slot(self, custom, metrics):
        custom.counter("a").labels()
        assert metrics.snapshot().workers == ()

    def test_the_same_definition_gives_the_same_metric_and_another_is_an_error_that_shows_both(self, custom):
        first = custom.histogram("h", "Help", buckets=[1, 2])
        assert custom.histogram("h", "Help", buckets=[1.0, 2.0, math.inf]) is first
        with pytest.raises(ValueError, match=r"buckets \(1.0, 2.0\) and not \(1.0, 3.0\)"):
            custom.histogram("h", "Help", buckets=[1, 3])

    def test_a_metric_is_found_by_name_alone_whoever_defined_it(self, custom, metrics):
        CustomMetrics(metrics).counter("c", "Help", labels=["a"])
        pid = forked(lambda: custom.gauge("of_the_child", "Help", merge="live_sum"))
        assert os.waitpid(pid, 0)[1] == 0
        assert custom.counter("c").definition.labels == ("a",)
        assert custom.gauge("of_the_child").definition.merge == "live_sum"
        with pytest.raises(ValueError, match="'c' is a counter, not a gauge"):
            custom.gauge("c")


class TestChanging:
    def test_every_kind_shows_what_was_done_to_it(self, custom):
        custom.counter("c").inc(2.5)
        custom.gauge("g").set(-3)
        custom.histogram("h", buckets=[1, 2]).observe(1.0)
        custom.summary("s").observe(4.0)
        custom.ratio("r").add(1, 4)
        custom.enum("e", states=["up", "down"]).state("down")
        custom.info("i").info({"version": "1.2"})
        shown = custom.get_all_metrics()
        json.dumps(shown, allow_nan=False)
        assert shown["c"]["value"] == 2.5
        assert shown["g"]["value"] == -3.0
        assert shown["h"]["buckets"] == {"1": 1.0, "2": 1.0, "+Inf": 1.0}
        assert (shown["h"]["sum"], shown["h"]["count"]) == (1.0, 1.0)
        assert (shown["s"]["sum"], shown["s"]["count"]) == (4.0, 1.0)
        assert (shown["r"]["value"], shown["r"]["numerator"], shown["r"]["denominator"]) == (0.25, 1.0, 4.0)
        assert shown["e"]["state"] == "down"
        assert shown["i"]["info"] == {"version": "1.2"}

    @pytest.mark.parametrize(("observed", "bucket"), [(-1, 0), (1, 0), (1.0001, 1), (2, 1), (3, 2), (math.inf, 2)])
    def test_a_bound_belongs_to_its_bucket(self, custom, observed, bucket):
        custom.histogram("h", buckets=[1, 2]).observe(observed)
        counts = list(custom.get_all_metrics()["h"]["buckets"].values())
        assert counts == [0.0] * bucket + [1.0] * (3 - bucket)

    def test_nan_counts_nowhere_and_is_logged_once(self, custom, caplog):
        for _ in range(3):
            custom.histogram("h", buckets=[1]).observe(math.nan)
            custom.summary("s").observe(math.nan)
        assert custom.get_all_metrics()["h"]["count"] == custom.get_all_metrics()["s"]["count"] == 0.0
        assert [record.getMessage() for record in caplog.records if "nan" in record.getMessage()] == [
            record.getMessage() for record in caplog.records
        ]
        assert len(caplog.records) == 2

    @pytest.mark.parametrize("amount", [-1, -0.001, math.nan, math.inf])
    def test_a_counter_takes_only_what_it_can_grow_by(self, custom, amount):
        counter = custom.counter("c")
        with pytest.raises(ValueError, match="'c' can only grow"):
            counter.inc(amount)
        assert value(custom, "c") == 0.0

    def test_gauges_go_up_and_down_where_that_has_a_meaning(self, custom):
        gauge = custom.gauge("g", merge="live_sum")
        gauge.set(5)
        gauge.inc()
        gauge.dec(3)
        assert value(custom, "g") == 3.0
        with pytest.raises(ValueError, match=r"'last'.*merge='live_sum'"):
            custom.gauge("last").inc()

    def test_what_is_no_number_is_a_type_error_and_leaves_all_as_it_was(self, custom):
        for change in (custom.counter("c").inc, custom.gauge("g").set, custom.histogram("h").observe):
            with pytest.raises((TypeError, ValueError)):
                change("much")
        custom.counter("c").inc()
        assert value(custom, "c") == 1.0

    @pytest.mark.parametrize("labels", [None, {}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 2}])
    def test_other_labels_than_the_metrics_are_value_errors(self, custom, labels):
        custom.counter("c", labels=["a", "b"])
        with pytest.raises(ValueError, match="'c'"):
            custom.increment_counter("c", labels=labels)

    def test_labels_are_given_in_order_or_by_name(self, custom):
        counter = custom.counter("c", labels=["a", "b"])
        assert counter.labels(1, 2) is counter.labels(b="2", a="1")
        for wrong in ((1,), (1, 2, 3)):
            with pytest.raises(
                ValueError, match=re.escape(f"has the labels ['a', 'b'], and got the values {list(wrong)}")
            ):
                counter.labels(*wrong)
        with pytest.raises(ValueError, match="not both"):
            counter.labels(1, b=2)
        with pytest.raises(ValueError, match=r"call labels\(\)"):
            counter.inc()

    def test_an_unknown_metric_is_a_value_error_that_names_what_was_meant(self, custom):
        custom.counter("requests_total")
        with pytest.raises(ValueError, match=r"'request_total'.*did you mean 'requests_total'"):
            custom.increment_counter("request_total")
        with pytest.raises(ValueError, match="there are: requests_total"):
            custom.update_gauge("zzz", 1)
        with pytest.raises(ValueError, match="is a counter, not a gauge"):
            custom.update_gauge("requests_total", 1)

    def test_label_values_may_be_anything(self, custom):
        counter = custom.counter("c", labels=["text"])
        texts = ['a"b', "a\nb", "a\\b", "ä漢🙂", "", "x" * 10_000, "\ud800"]
        for text in texts:
            counter.labels(text).inc()
        shown = by_labels(custom, "c")
        assert set(shown) == {(text,) for text in texts[:-1]} | {("?",)}
        assert set(shown.values()) == {1.0}

    def test_unknown_states_and_bad_info_keys_are_value_errors(self, custom):
        with pytest.raises(ValueError, match="no state 'sideways'; it has up, down"):
            custom.enum("e", states=["up", "down"]).state("sideways")
        with pytest.raises(ValueError, match="cannot say 'a b'"):
            custom.info("i").info({"a b": "c"})


class TestRoom:
    def test_what_finds_no_room_goes_to_the_overflow_series_counted_and_logged_once(self, custom, metrics, caplog):
        counter = custom.counter("c", labels=["path"])
        for number in range(200):
            counter.labels(f"/{number}").inc()
        shown = by_labels(custom, "c")
        assert sum(shown.values()) == 200.0
        assert len(shown) == 63
        assert shown[OVERFLOW,] == 200.0 - 62.0
        assert metrics.snapshot().health.refused_series == 138
        assert metrics.snapshot().health.catalog_used == metrics.snapshot().health.catalog_total == 64
        assert len([record for record in caplog.records if "max_series" in record.getMessage()]) == 1

    def test_a_metric_without_room_costs_nothing_but_a_warning(self, custom, caplog):
        filler = custom.counter("c", labels=["path"])
        for number in range(70):
            filler.labels(number)
        late = custom.counter("late")
        for _ in range(1000):
            late.inc()
        assert "late" not in custom.get_all_metrics()
        assert "'late'" in caplog.text

    def test_labels_longer_than_an_entry_can_be_overflow(self, custom):
        counter = custom.counter("c", labels=["text"])
        counter.labels("x" * 100_000).inc()
        counter.labels("short").inc()
        assert by_labels(custom, "c") == {(OVERFLOW,): 1.0, ("short",): 1.0}

    def test_a_process_keeps_no_more_instruments_than_there_can_be_series(self, custom):
        counter = custom.counter("c", labels=["n"])
        for number in range(500):
            counter.labels(number).inc()
            custom.remove("c", {"n": number})
        assert len(counter._known) <= 64


class TestRemoval:
    def test_a_removed_series_is_gone_and_begins_anew_when_it_is_changed_again(self, custom):
        counter = custom.counter("c", labels=["a"])
        kept, removed = counter.labels("kept"), counter.labels("removed")
        kept.inc(3)
        removed.inc(5)
        custom.remove("c", {"a": "removed"})
        assert by_labels(custom, "c") == {("kept",): 3.0}
        removed.inc()
        kept.inc()
        assert by_labels(custom, "c") == {("kept",): 4.0, ("removed",): 1.0}

    def test_cells_that_another_series_had_begin_at_0_in_every_process(self, custom, metrics):
        counter = custom.counter("c", labels=["a"])
        old = counter.labels("old")
        old.inc(100)
        custom.remove("c", {"a": "old"})
        new = counter.labels("new")
        new.inc()
        assert by_labels(custom, "c") == {("new",): 1.0}
        old.inc()
        new.inc()
        assert by_labels(custom, "c") == {("new",): 2.0, ("old",): 1.0}

    def test_removing_what_is_not_there_is_harmless_and_what_is_unknown_an_error(self, custom):
        custom.counter("c", labels=["a"])
        custom.remove("c", {"a": "never"})
        with pytest.raises(ValueError, match="no metric 'x'"):
            custom.remove("x")
        with pytest.raises(ValueError, match="labels"):
            custom.remove("c")


def _work(name, index):
    with PerformanceMetrics(name=name, max_workers=8, max_series=64) as metrics:
        custom = CustomMetrics(metrics)
        counter = custom.counter("jobs_total", "Jobs", labels=["queue"])
        for number in range(1000):
            counter.labels(f"q{number % 3}").inc()
            custom.histogram("size", "Size", buckets=[10, 100]).observe(number % 150)
        custom.gauge("index", "Index", merge="max").set(index)


class TestFleet:
    @pytest.mark.parametrize("method", START_METHODS)
    def test_what_all_processes_did_adds_up_also_after_they_ended(self, custom, hub_name, method):
        run_in_processes(method, 4, _work, hub_name)
        shown = custom.get_all_metrics()
        assert sum(by_labels(custom, "jobs_total").values()) == 4000.0
        assert shown["size"]["count"] == 4000.0
        assert shown["size"]["sum"] == 4 * sum(number % 150 for number in range(1000))
        assert shown["index"]["value"] == 3.0

    def test_a_read_only_hub_shows_them_too(self, custom, hub_name):
        custom.counter("c").inc(3)
        with Hub.attach(hub_name) as hub:
            (family,) = hub.snapshot().families
        assert (family.definition.name, family.series[0].value) == ("c", 3.0)

    def test_threads_of_one_process_lose_nothing(self, custom):
        counter, histogram = custom.counter("c", labels=["a"]), custom.histogram("h", buckets=[1])

        def work(_index):
            for number in range(2000):
                counter.labels(number % 5).inc()
                histogram.observe(0.5)

        run_in_threads(4, work)
        assert sum(by_labels(custom, "c").values()) == 8000.0
        assert custom.get_all_metrics()["h"]["count"] == 8000.0

    def test_instruments_made_before_a_fork_work_in_both(self, custom, metrics):
        counter = custom.counter("c", labels=["who"]).labels("both")
        counter.inc()

        def work():
            for _ in range(100):
                counter.inc()

        pids = [forked(work) for _ in range(3)]
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        counter.inc()
        slots.reap(metrics._attachment.segment)
        assert by_labels(custom, "c") == {("both",): 302.0}

    def test_a_killed_worker_keeps_what_it_was_told_was_done(self, custom, metrics):
        counter, gauge = custom.counter("c"), custom.gauge("inflight", merge="live_sum")
        gauge.set(1)
        told, tell = os.pipe()

        def work():
            gauge.set(7)
            done = 0
            while True:
                counter.inc()
                done += 1
                os.write(tell, done.to_bytes(8, "little"))

        for _ in range(5):
            pid = forked(work)
            wait_until(lambda: len(os.read(told, 8 * 500)) > 0)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(tell)
        before = value(custom, "c")
        assert slots.reap(metrics._attachment.segment) >= 1
        assert value(custom, "c") == before
        assert value(custom, "inflight") == 1.0
        os.close(told)

    def test_acknowledged_increments_of_killed_workers_are_all_there_and_one_more_at_most(self, custom, metrics):
        counter = custom.counter("c")
        expected = 0
        for _ in range(20):
            told, tell = os.pipe()
            ledger = os.memfd_create("ledger")

            def work(tell=tell, ledger=ledger):
                done = 0
                while True:
                    counter.inc()
                    done += 1
                    os.pwrite(ledger, done.to_bytes(8, "little"), 0)
                    if done == 50:
                        os.write(tell, b"x")

            pid = forked(work)
            assert os.read(told, 1) == b"x"
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            acknowledged = int.from_bytes(os.pread(ledger, 8, 0), "little")
            os.close(ledger)
            os.close(told)
            os.close(tell)
            total = value(custom, "c")
            assert expected + acknowledged <= total <= expected + acknowledged + 1
            expected = total


class TestWaiting:
    """While another process holds the registry."""

    def test_changes_wait_in_the_process_and_are_made_when_it_lets_go(self, custom, metrics, monkeypatch):
        counter = custom.counter("c", labels=["a"])
        counter.labels("known").inc()
        with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
            assert registry.try_acquire()
            new = counter.labels("new")
            for _ in range(100):
                new.inc()
            counter.labels("known").inc()
            assert by_labels(custom, "c") == {("known",): 2.0}
        metrics.book.settle()
        assert by_labels(custom, "c") == {("known",): 2.0, ("new",): 100.0}

    def test_the_end_of_a_process_tries_more_than_once(self, custom, metrics, monkeypatch):
        counter = custom.counter("c", labels=["a"])
        counter.labels("known").inc()
        registry = ByteLock(metrics._attachment.segment.descriptor, REGISTRY)
        assert registry.try_acquire()
        counter.labels("new").inc(3)
        settle, tries = Instrument.settle, []

        def settle_while_another_goes_on(self):
            tries.append(self)
            if len(tries) == 3:
                registry.release()
            settle(self)

        monkeypatch.setattr(Instrument, "settle", settle_while_another_goes_on)
        metrics.book.settle()
        assert len(tries) == 3
        assert by_labels(custom, "c") == {("known",): 1.0, ("new",): 3.0}

    def test_changes_that_wait_at_a_fork_are_made_once(self, custom, metrics):
        counter = custom.counter("c", labels=["a"])
        with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
            assert registry.try_acquire()
            new = counter.labels("new")
            new.inc(10)
            held, hold = os.pipe()

            def work():
                os.close(hold)
                os.read(held, 1)
                new.inc(1)
                metrics.close()

            pid = forked(work)
        os.close(hold)
        assert os.waitpid(pid, 0)[1] == 0
        os.close(held)
        metrics.book.settle()
        assert by_labels(custom, "c") == {("new",): 11.0}

    def test_closing_makes_them(self, custom, metrics, hub_name):
        with PerformanceMetrics(name=hub_name, max_workers=8, max_series=64) as another:
            counter = CustomMetrics(another).counter("c", labels=["a"])
            with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
                assert registry.try_acquire()
                counter.labels("new").inc(3)
        metrics.close()
        with PerformanceMetrics(name=hub_name, max_workers=8, max_series=64) as again:
            assert by_labels(CustomMetrics(again), "c") == {("new",): 3.0}

    def test_however_many_changes_of_every_kind_they_are_all_made(self, custom, metrics):
        counter = custom.counter("c", labels=["a"])
        gauge = custom.gauge("g", merge="sum", labels=["a"])
        histogram = custom.histogram("h", buckets=[1, 2], labels=["a"])
        enum = custom.enum("e", states=["up", "down"], labels=["a"])
        with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
            assert registry.try_acquire()
            for number in range(3000):
                counter.labels("new").inc()
                gauge.labels("new").inc(2)
                histogram.labels("new").observe(number % 3)
                enum.labels("new").state("down")
        metrics.book.settle()
        assert by_labels(custom, "c") == {("new",): 3000.0}
        assert by_labels(custom, "g") == {("new",): 6000.0}
        shown = custom.get_all_metrics()
        assert shown["h"]["series"][0]["buckets"] == {"1": 2000.0, "2": 3000.0, "+Inf": 3000.0}
        assert shown["e"]["series"][0]["state"] == "down"


def test_signal_handlers_may_change_what_they_interrupt(custom):
    counter = custom.counter("c", labels=["a"])
    handled = 0

    def handler(_signal, _frame):
        nonlocal handled
        handled += 1
        counter.labels("handler").inc()
        signal.setitimer(signal.ITIMER_REAL, 5e-5)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 5e-5)
    try:
        done = 0
        while handled < 5000:
            counter.labels("main").inc()
            done += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert by_labels(custom, "c") == {("main",): done, ("handler",): handled}


def test_readers_see_whole_figures_while_writers_write(custom):
    histogram = custom.histogram("h", buckets=[1, 2])
    stop = threading.Event()

    def work():
        while not stop.is_set():
            histogram.observe(1.5)

    thread = threading.Thread(target=work)
    thread.start()
    last = 0.0
    try:
        for _ in range(300):
            shown = custom.get_all_metrics()["h"]
            assert shown["count"] == shown["buckets"]["+Inf"] >= last
            assert 0 <= shown["sum"] / 1.5 - shown["count"] <= 1
            last = shown["count"]
    finally:
        stop.set()
        thread.join(PATIENCE)
