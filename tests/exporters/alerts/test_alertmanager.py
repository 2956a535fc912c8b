"""Alertmanager: a real one where it is about what it makes of alerts, a tiny server where it is about what is sent."""

import socket

import pytest

from shmetrics.alerting.outbox import Backoff
from shmetrics.exporters.alerts import Alertmanager
from tests.cli import until
from tests.exporters import services
from tests.exporters.alerts.receivers import GARBAGE, PATIENCE, alert, web_sink

WORKERS = [alert(labels={"worker": str(slot)}) for slot in (3, 4)]


def follower(url, **options):
    return Alertmanager(url, **{"resend": 0.05, "timeout": 10.0, "backoff": Backoff(0.01, 0.02), **options})


class TestWhatIsSent:
    """By its API, version 2."""

    @pytest.fixture
    def sink(self):
        with web_sink() as running:
            yield running

    @pytest.fixture
    def client(self, sink):
        client = follower(f"http://127.0.0.1:{sink.port}/", wall=lambda: 1.7e9 + 100, resend=3600.0)
        yield client
        client.close(PATIENCE)

    def test_an_alert_has_labels_that_tell_it_apart_and_times(self, sink, client):
        client.follow([WORKERS[0]])
        until(lambda: sink.requests)
        assert sink.requests[0][0] == "/api/v2/alerts"
        assert sink.bodies[0] == [
            {
                "labels": {"alertname": "HighErrorRate", "severity": "critical", "hub": "resnet", "worker": "3"},
                "annotations": {
                    "summary": "hub resnet: error rate over 5m is 12 %, above 5 %",
                    "value": "0.12",
                    "threshold": "0.05",
                    "runbook_url": "https://example.org/r",
                },
                "startsAt": "2023-11-14T22:13:20.000Z",
                "endsAt": "2023-11-15T02:15:00.000Z",
                "generatorURL": "",
            }
        ]

    def test_answers_that_make_no_sense_are_failures_and_the_next_try_tells_all(self, sink, client):
        sink.statuses = list(GARBAGE)
        client.follow([WORKERS[0]])
        until(lambda: client.figures.sent == 1)
        assert (client.figures.failed, len(sink.bodies[-1])) == (len(GARBAGE), 1)

    def test_one_that_is_over_is_sent_with_its_end_once_and_the_others_as_they_are(self, sink, client):
        client.follow(WORKERS)
        until(lambda: client.figures.sent == 2)
        client.follow(WORKERS[1:])
        until(lambda: client.figures.sent == 4)
        ends = {each["labels"]["worker"]: each["endsAt"] for each in sink.bodies[-1]}
        assert ends == {"3": "2023-11-14T22:15:00.000Z", "4": "2023-11-15T02:15:00.000Z"}
        client.follow([])
        until(lambda: client.figures.sent == 5)
        assert [each["labels"]["worker"] for each in sink.bodies[-1]] == ["4"]

    def test_nothing_new_is_nothing_sent_before_it_is_due(self, sink, client):
        for _ in range(10):
            client.follow(WORKERS)
        until(lambda: client.figures.sent == 2)
        client.close(PATIENCE)
        assert len(sink.requests) == 1

    def test_a_warning_that_becomes_critical_ends(self, sink, client):
        client.follow([alert(severity="warning")])
        until(lambda: client.figures.sent == 1)
        client.follow([alert()])
        until(lambda: client.figures.sent == 3)
        ends = {each["labels"]["severity"]: each["endsAt"] for each in sink.bodies[-1]}
        assert ends["warning"] < ends["critical"]

    def test_labels_of_a_metric_do_not_take_the_place_of_its_own(self, sink, client):
        client.follow([alert(labels={"hub": "x", "severity": "y", "empty": ""})])
        until(lambda: sink.requests)
        assert sink.bodies[0][0]["labels"] == {
            "alertname": "HighErrorRate", "severity": "critical", "hub": "resnet", "exported_hub": "x",
            "exported_severity": "y",
        }  # fmt: skip

    def test_while_it_cannot_be_reached_what_is_over_waits_in_a_queue_that_is_bounded(self, sink):
        sink.statuses += [503] * 10**4
        client = follower(f"http://127.0.0.1:{sink.port}", room=3)
        client.follow([alert(labels={"worker": str(slot)}) for slot in range(5)])
        until(lambda: client.figures.failed)
        client.follow([])
        assert (client.figures.lost, client.figures.queued) == (2, 3)
        assert client.figures.failing_since is not None
        sink.statuses.clear()
        until(lambda: client.figures.sent >= 3 and not client.figures.queued)
        client.close(PATIENCE)
        assert {each["labels"]["worker"] for each in sink.bodies[-1]} == {"2", "3", "4"}
        assert client.figures.failing_since is None


def notifications(sink):
    """What Alertmanager told: its status, and of each alert the worker and its own status."""
    return [
        (body["status"], sorted((each["labels"]["worker"], each["status"]) for each in body["alerts"]))
        for body in sink.bodies
    ]


def test_a_real_one_receives_groups_keeps_and_resolves(tmp_path):
    with web_sink() as sink, services.alertmanager(tmp_path, sink.url) as manager:
        client = follower(manager.url)
        client.follow(WORKERS)
        until(lambda: len(manager.alerts()) == 2)
        first = {each["labels"]["worker"]: each for each in manager.alerts()}
        assert first["3"]["startsAt"] == "2023-11-14T22:13:20.000Z"
        queried = manager.amtool("alert", "query", "alertname=HighErrorRate", "severity=critical", "hub=resnet")
        assert {each["labels"]["worker"] for each in queried} == {"3", "4"}
        until(lambda: sink.requests)
        assert notifications(sink)[0] == ("firing", [("3", "firing"), ("4", "firing")]), "one group, told once"
        until(lambda: min(each["updatedAt"] for each in manager.alerts()) > first["3"]["updatedAt"])  # sent again
        client.follow(WORKERS[1:])
        until(lambda: [each["labels"]["worker"] for each in manager.alerts()] == ["4"])
        client.follow([])
        until(lambda: not manager.alerts())
        until(lambda: notifications(sink)[-1][0] == "resolved")
        assert ("4", "resolved") in notifications(sink)[-1][1]
        client.close(PATIENCE)
        assert client.figures.failed == 0


def test_a_real_one_that_starts_late_gets_what_fires(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = follower(f"http://127.0.0.1:{port}")
    client.follow(WORKERS)
    until(lambda: client.figures.failed >= 3)
    with services.alertmanager(tmp_path, "http://127.0.0.1:9/", port) as manager:
        until(lambda: len(manager.alerts()) == 2)
        client.close(PATIENCE)
        assert client.figures.lost == 0
