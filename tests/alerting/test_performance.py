"""PerformanceAlerting: from what workers do to the call of a handler."""

import multiprocessing
import re
import threading
import time

import pytest

from shmetrics import Hub, PerformanceAlerting, PerformanceMetrics
from shmetrics.alerting import Rule, Silence, Statistic
from shmetrics.locks import is_locked
from tests.cli import until
from tests.processes import START_METHODS, in_forked_child, run_in_processes

PATIENCE = 30.0
THRESHOLDS = {"error_rate_threshold": 0.05}
ALL = {
    "error_rate_threshold": 0.05,
    "latency_p95_threshold": 0.1,
    "throughput_min_threshold": 1,
    "cache_hit_rate_threshold": 0.8,
}


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=8, window_size=200) as made:
        yield made


@pytest.fixture
def make(metrics):
    """A function that makes an alerting of these metrics; all are stopped afterwards."""
    made = []

    def alerting(thresholds=THRESHOLDS, **options):
        made.append(PerformanceAlerting(metrics, thresholds, **{"interval": 0.05, **options}))
        return made[-1]

    yield alerting
    for each in made:
        each.stop_monitoring(PATIENCE)


class Told:
    """Handlers that remember what they were told."""

    def __init__(self, alerting):
        self.alerts = []
        for severity in ("critical", "warning", "info"):
            alerting.register_handler(severity, self.alerts.append)

    def wait_for(self, count):
        until(lambda: len(self.alerts) >= count)
        return [(alert["type"], alert["severity"]) for alert in self.alerts]


def serve(metrics, count=100, errors=0, **figures):
    for _ in range(count):
        metrics.update_inference(**{"inference_time": 0.01, **figures})
    if errors:
        metrics.record_error(errors)


# Checking -------------------------------------------------------------------------------------------------------------


def test_a_check_announces_and_calls_handlers(make, metrics):
    alerting = make()
    told = Told(alerting)
    assert alerting.check() == []
    serve(metrics, errors=40)
    (alert,) = alerting.check()
    assert (alert["type"], alert["severity"], alert["hub"]) == ("error_rate", "critical", metrics.name)
    assert (alert["current_value"], alert["threshold"]) == (0.4, 0.05)
    assert alert["message"].endswith("error rate over the last 50 measurements is 40 %, above 5 % (critical from 10 %)")
    told.wait_for(1)
    assert told.alerts == [alert]
    serve(metrics, 100)
    assert [each["state"] for each in alerting.check()] == ["resolved"]


def test_each_handler_gets_the_severities_that_it_asked_for(make, metrics):
    alerting = make(ALL)
    critical, warning = [], []
    alerting.register_handler("critical", critical.append)
    alerting.register_handler("warning", warning.append)
    alerting.check()
    serve(metrics, 20, errors=10)
    metrics.record_cache_miss(20)
    alerting.check()
    until(lambda: critical and warning)
    assert [alert["type"] for alert in critical] == ["error_rate"]
    assert [alert["type"] for alert in warning] == ["cache_hit_rate"]


def test_it_watches_through_a_read_only_view(metrics, make):
    with Hub.attach(metrics.name) as hub:
        alerting = PerformanceAlerting(hub, THRESHOLDS)
        alerting.check()
        serve(metrics, errors=40)
        assert [alert["type"] for alert in alerting.check()] == ["error_rate"]


def test_monitoring_works_through_a_read_only_view_too(metrics):
    with Hub.attach(metrics.name) as hub, PerformanceAlerting(hub, THRESHOLDS, interval=0.05) as alerting:
        told = Told(alerting)
        until(lambda: alerting.leads and alerting._watch._latest is not None)
        serve(metrics, errors=40)
        assert told.wait_for(1) == [("error_rate", "critical")]


def test_rules_of_all_kinds_stand_beside_thresholds(make, metrics):
    alerting = make(rules=[Rule("Busy", Statistic("active_workers"), above=0.0)])
    assert [rule.name for rule in alerting.rules] == ["error_rate", "Busy"]
    serve(metrics, 1)
    assert [alert["type"] for alert in alerting.check()] == ["Busy"]


# Monitoring -----------------------------------------------------------------------------------------------------------


def test_monitoring_tells_of_what_happens(make, metrics):
    alerting = make()
    told = Told(alerting)
    alerting.start_monitoring()
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    serve(metrics, errors=40)
    assert told.wait_for(1) == [("error_rate", "critical")]
    serve(metrics, 100)
    assert told.wait_for(2) == [("error_rate", "critical"), ("error_rate", "info")]
    alerting.stop_monitoring(PATIENCE)
    assert (alerting.is_monitoring, alerting.leads) == (False, False)


def test_stopping_looks_once_more_and_lets_handlers_finish(make, metrics):
    alerting = make(interval=3600.0, thresholds={"throughput_min_threshold": 1e9})
    told = Told(alerting)
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    serve(metrics)
    alerting.stop_monitoring(PATIENCE)
    assert [alert["type"] for alert in told.alerts] == ["throughput"]


def test_an_error_is_looked_at_before_the_next_look_is_due(make, metrics):
    alerting = make(interval=3600.0)
    told = Told(alerting)
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    serve(metrics, 20, errors=0)
    metrics.record_error(10)
    assert told.wait_for(1) == [("error_rate", "critical")]


@pytest.mark.parametrize("fault", ["raises", "exits", "hangs"])
def test_a_handler_that_fails_stops_nobody(make, metrics, fault):
    alerting, gate, told = make(), threading.Event(), []

    def bad(alert):
        if fault == "hangs":
            gate.wait(PATIENCE)
        elif fault == "exits":
            raise SystemExit
        else:
            raise RuntimeError("pager is down")

    alerting.register_handler("critical", bad)
    alerting.register_handler("critical", told.append)
    alerting.register_handler("info", told.append)
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    serve(metrics, errors=40)
    until(lambda: told)
    serve(metrics, 100)
    until(lambda: len(told) == 2)
    figures = alerting.get_alert_summary()["handlers"][0]
    assert (figures["failed"], figures["queued"]) == ((0, 1) if fault == "hangs" else (1, 0))
    gate.set()


def test_a_hub_that_is_closed_ends_the_monitoring_quietly(hub_name):
    metrics = PerformanceMetrics(name=hub_name, max_workers=2)
    alerting = PerformanceAlerting(metrics, THRESHOLDS, interval=0.01)
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    metrics.close()
    until(lambda: not alerting.is_monitoring)
    alerting.stop_monitoring()


def test_it_is_a_context_manager(make, metrics):
    with make() as alerting:
        until(lambda: alerting.leads)
    assert not alerting.is_monitoring


# Summaries ------------------------------------------------------------------------------------------------------------


def test_before_anything_happened_a_summary_is_all_zeros(make):
    summary = make().get_alert_summary()
    assert summary == {
        "total_alerts": 0,
        "critical_alerts": 0,
        "warning_alerts": 0,
        "info_alerts": 0,
        "most_frequent_alert": None,
        "alerts_by_type": {},
        "active_alerts": 0,
        "silenced": 0,
        "suppressed": 0,
        "handlers": [],
        "last_alert": None,
        "monitoring": False,
    }


def test_a_summary_counts_by_severity_and_by_type(make, metrics):
    alerting = make({**ALL, "latency_p95_threshold": 0.001}, cooldown_period=0.0, rules=[])
    alerting.check()
    serve(metrics, errors=30)
    alerting.check()
    alerting.check()
    serve(metrics, 100, inference_time=0.0)
    alerting.check()
    summary = alerting.get_alert_summary()
    assert summary["alerts_by_type"] == {"error_rate": 2, "latency_p95": 2}
    assert summary["most_frequent_alert"] == "error_rate"
    assert (summary["critical_alerts"], summary["warning_alerts"], summary["info_alerts"]) == (4, 0, 2)
    assert summary["total_alerts"] == 6
    assert summary["last_alert"] == alerting.recent_alerts()[-1]
    assert alerting.active_alerts() == []


def test_silences_are_for_rules_by_name_or_pattern(make, metrics):
    alerting = make(silences=[Silence(rule="nothing*")])
    told = Told(alerting)
    alerting.silence("error*", 3600.0, reason="I am on it")
    alerting.check()
    serve(metrics, errors=40)
    assert alerting.check() == []
    assert [alert["type"] for alert in alerting.active_alerts()] == ["error_rate"]
    assert alerting.get_alert_summary()["silenced"] == 1
    assert told.alerts == []


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": {}}, "nothing to watch for"),
        ({"thresholds": {"error_rate": 0.1}}, "did you mean 'error_rate_threshold'?"),
        ({"alert_window_size": 0}, "alert_window_size must be a whole number from 1"),
        ({"alert_window_size": 2.5}, "alert_window_size must be a whole number"),
        ({"cooldown_period": -1}, "cooldown_period must be seconds, 0 or more"),
        ({"interval": 0}, "interval must be seconds, 0.001 or more"),
        ({"min_samples": -1}, "min_samples must be a whole number"),
        ({"rules": [Rule("error_rate", Statistic("error_rate"), above=0.1)]}, "two rules are called 'error_rate'"),
    ],
)
def test_bad_arguments_are_refused(make, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**options)


def test_bad_handlers_are_refused(make):
    with pytest.raises(ValueError, match=re.escape("there is no severity 'Critcal'; did you mean 'critical'?")):
        make().register_handler("Critcal", print)
    with pytest.raises(TypeError, match="cannot be called"):
        make().register_handler("critical", "mail")


# Fleets ---------------------------------------------------------------------------------------------------------------


def test_two_that_watch_by_the_same_rules_tell_once_and_the_second_takes_over(make, metrics):
    first, second = make(), make()
    other = make({"cache_hit_rate_threshold": 0.5})
    told = [Told(each) for each in (first, second, other)]
    first.start_monitoring()
    until(lambda: first.leads)
    second.start_monitoring(), other.start_monitoring()
    until(lambda: other.leads)
    serve(metrics, errors=40)
    told[0].wait_for(1)
    assert not second.leads
    assert [len(each.alerts) for each in told] == [1, 0, 0]
    first.stop_monitoring(PATIENCE)
    until(lambda: second.leads)


def test_each_tells_where_that_is_wanted(make, metrics):
    both = [make(once_per_fleet=False) for _ in range(2)]
    told = [Told(each) for each in both]
    for each in both:
        each.start_monitoring()
    until(lambda: all(each.leads for each in both))
    serve(metrics, errors=40)
    assert [each.wait_for(1) for each in told] == [[("error_rate", "critical")]] * 2


def test_a_child_of_fork_does_not_monitor_and_takes_nothing_from_its_parent(make, metrics):
    alerting = make()
    told = Told(alerting)
    alerting.start_monitoring()
    until(lambda: alerting.leads)
    byte = alerting._byte()

    def check():
        assert not alerting.is_monitoring
        alerting.stop_monitoring()
        assert is_locked(metrics.view.segment.descriptor, byte), "the parent still leads"
        alerting.start_monitoring()
        serve(metrics, errors=40)
        time.sleep(0)
        alerting.stop_monitoring()
        assert told.alerts == []

    in_forked_child(check)
    assert told.wait_for(1) == [("error_rate", "critical")]


def _monitor_in_a_worker(name, index):
    """A worker of a fleet in which each monitors; what it told."""
    with PerformanceMetrics(name=name, max_workers=8, window_size=200) as metrics:
        alerting = PerformanceAlerting(metrics, ALL, interval=0.05)
        told = Told(alerting)
        serve(metrics, 50)
        metrics.record_cache_hit(50)
        alerting.start_monitoring()
        until(lambda: is_locked(metrics.view.segment.descriptor, alerting._byte()))  # somebody leads, and stays

        def wait_for_total(total):
            until(lambda: metrics.get_statistics()["total_requests"] >= total)

        if alerting.leads:  # and has looked: of what was before its first look it cannot tell all
            until(lambda: alerting._watch._latest is not None)
            serve(metrics, 1)
        if index == 1:
            wait_for_total(201)
            serve(metrics, 40, errors=40, inference_time=0.4)
        if alerting.leads:
            told.wait_for(2)
            serve(metrics, 1)
            wait_for_total(245)  # the others have stopped, and cannot take over
        else:
            wait_for_total(242)
        alerting.stop_monitoring(PATIENCE)
        serve(metrics, 1)
        return [(alert["type"], alert["severity"]) for alert in told.alerts]


@pytest.mark.parametrize("method", START_METHODS)
def test_of_four_workers_that_all_monitor_one_tells_each_alert_once(method, hub_name):
    PerformanceMetrics(name=hub_name, max_workers=8, window_size=200).close()
    told = run_in_processes(method, 4, _monitor_in_a_worker, hub_name)
    (announced,) = [each for each in told if each]
    assert sorted(set(announced)) == sorted(announced), "each type and severity once"
    assert {kind for kind, _ in announced} == {"error_rate", "latency_p95"}


def _degrade(name, index, ready, go, done):
    """One of four workers; the second degrades as the original documentation's script does, a hundred times as fast."""
    with PerformanceMetrics(name=name, max_workers=8, window_size=200) as metrics:
        serve(metrics, 100)
        metrics.record_cache_hit(100)
        ready.release()
        assert go.wait(PATIENCE)
        if index == 1:
            for _ in range(20):
                metrics.record_error()
                time.sleep(0.001)
            for _ in range(10):
                metrics.update_inference(
                    inference_time=0.2, batch_size=1, preprocessing_time=0.05, quantization_time=0.01
                )
                time.sleep(0.001)
            for _ in range(30):
                metrics.record_cache_miss()
                time.sleep(0.0005)
        assert done.wait(PATIENCE)


def test_the_degradation_of_one_of_four_forked_workers_raises_the_alerts_expected_once_each(metrics, make):
    """With the thresholds of the original documentation; the workers fall silent, so that the throughput falls too."""
    alerting = make({**ALL, "throughput_min_threshold": 100}, cooldown_period=300.0)
    told = Told(alerting)
    context = multiprocessing.get_context("fork")
    ready, go, done = context.Semaphore(0), context.Event(), context.Event()
    workers = [
        context.Process(target=_degrade, args=(metrics.name, index, ready, go, done), daemon=True) for index in range(4)
    ]
    for process in workers:  # one after the other, so that the last measurements are always the last one's
        process.start()
        assert ready.acquire(timeout=PATIENCE)
    alerting.start_monitoring()
    until(lambda: alerting.leads and alerting.get_alert_summary()["monitoring"])
    until(lambda: alerting._watch._latest is not None)
    go.set()
    critical = {(kind, "critical") for kind in ("error_rate", "latency_p95", "throughput")}
    until(lambda: {*critical, ("cache_hit_rate", "warning")} <= set(told.wait_for(1)))
    alerting.stop_monitoring(PATIENCE)
    done.set()
    for process in workers:
        process.join(PATIENCE)
    announced = told.wait_for(1)
    assert len(set(announced)) == len(announced), "each once within the cooldown"
    on_the_way = {(kind, "warning") for kind, _ in critical}  # where a look fell between the two thresholds
    assert set(announced) - on_the_way == {*critical, ("cache_hit_rate", "warning")}
