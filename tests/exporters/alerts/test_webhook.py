"""Webhooks, against a real server that can be flaky, silent or gone."""

import socket

import pytest

from shmetrics.alerting.dispatch import Dispatch
from shmetrics.alerting.outbox import Backoff, RefusedError
from shmetrics.exporters.alerts import Slack, Webhook
from tests.cli import until
from tests.exporters.alerts.receivers import GARBAGE, PATIENCE, alert, web_sink


def test_the_body_is_the_alert_and_a_schema():
    with web_sink() as sink:
        Webhook(sink.url, headers={"Authorization": "Bearer x"})(alert().as_dict())
    ((path, headers, _),) = sink.requests
    assert path == "/hook/secret"
    assert (headers["Content-Type"], headers["Authorization"]) == ("application/json", "Bearer x")
    assert headers["User-Agent"].startswith("shmetrics/")
    assert sink.bodies == [{"schema": 1, **alert().as_dict()}]


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_may_work_later_is_worth_another_try(status):
    with web_sink([status]) as sink, pytest.raises(OSError, match=f"answered {status} .*: said"):
        Webhook(sink.url)({})


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 301, 302, 307])
def test_what_will_never_work_is_refused_and_redirects_are_not_followed(status):
    with web_sink([status]) as sink, pytest.raises(RefusedError, match=f"answered {status}"):
        Webhook(sink.url)({})
    assert len(sink.requests) == 1


@pytest.mark.parametrize("answer", GARBAGE)
def test_an_answer_that_makes_no_sense_is_worth_another_try(answer):
    with web_sink([answer]) as sink, pytest.raises(OSError, match=r"127\.0\.0\.1:\d+"):
        Webhook(sink.url)({})


def test_a_connection_that_breaks_is_worth_another_try():
    with web_sink([None]) as sink, pytest.raises(OSError, match=r"127\.0\.0\.1:\d+"):
        Webhook(sink.url)({})


def test_a_server_that_does_not_answer_keeps_nobody_longer_than_the_time_out():
    with web_sink(silent=True) as sink, pytest.raises(OSError, match=r"127.0.0.1"):
        Webhook(sink.url, timeout=0.05)({})


def test_one_that_is_gone_is_named_by_its_host_and_the_url_stays_secret():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} cannot be reached") as caught:
        Webhook(f"http://127.0.0.1:{port}/services/SECRET?key=SECRET")({})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "/hook"])
def test_what_nothing_can_be_posted_to_is_refused_at_once(url):
    with pytest.raises(ValueError, match="a URL must be like"):
        Webhook(url)


def told(sink):
    return [body["current_value"] for body in sink.bodies]


def test_a_flaky_receiver_gets_every_alert_in_the_end_in_order():
    with web_sink([500, None, 503, 200, 500, 200]) as sink:
        dispatch = Dispatch()
        outbox = dispatch.register(Webhook(sink.url), "hook", backoff=Backoff(0.001, 0.002))
        for number in range(4):
            dispatch.announce([alert(current_value=float(number))])
        until(lambda: outbox.figures.sent == 4)
        dispatch.close(PATIENCE)
    assert [value for at, value in enumerate(told(sink)) if at in (3, 5, 6, 7)] == [0.0, 1.0, 2.0, 3.0]
    assert (outbox.figures.failed, outbox.figures.lost) == (4, 0)


def test_a_dead_receiver_loses_nothing_that_the_queue_has_room_for_and_gets_it_when_it_is_back():
    with web_sink() as sink:
        port = sink.port
    dispatch = Dispatch()
    outbox = dispatch.register(Webhook(sink.url, timeout=5.0), "hook", backoff=Backoff(0.01, 0.02), room=5)
    for number in range(10):
        dispatch.announce([alert(current_value=float(number))])
        until(lambda: outbox.figures.failed)
    figures = outbox.figures
    assert (figures.queued, figures.lost, figures.sent) == (6, 4, 0)
    assert figures.failing_since is not None
    assert "cannot be reached" in figures.last_error
    with web_sink(port=port) as back:
        until(lambda: outbox.figures.sent == 6)
        dispatch.close(PATIENCE)
    assert told(back) == [0.0, 5.0, 6.0, 7.0, 8.0, 9.0], "the one being sent, and the newest"
    assert outbox.figures.failing_since is None


def test_severities_and_resolutions_go_to_whom_they_concern():
    got = {"critical": [], "all": []}
    dispatch = Dispatch()
    dispatch.register(lambda told: got["critical"].append(told["state"]), "a", ("critical",), resolved=True)
    dispatch.register(lambda told: got["all"].append(told["severity"]), "b")
    dispatch.announce([
        alert(), alert(severity="warning", highest_severity="warning"),
        alert(severity="info", state="resolved"), alert(severity="info", state="resolved", highest_severity="warning"),
    ])  # fmt: skip
    dispatch.close(PATIENCE)
    assert got == {"critical": ["firing", "resolved"], "all": ["critical", "warning", "info", "info"]}


class TestSlack:
    """Messages to a chat."""

    def test_a_message_has_a_title_a_colour_and_what_belongs_to_it(self):
        with web_sink() as sink:
            Slack(sink.url)(alert(labels={"model": "a<b>&c"}).as_dict())
        (body,) = sink.bodies
        assert body["text"] == "[CRITICAL] HighErrorRate: hub resnet: error rate over 5m is 12 %, above 5 %"
        (attachment,) = body["attachments"]
        assert (attachment["color"], attachment["title"]) == ("#d00000", "[CRITICAL] HighErrorRate")
        assert attachment["fields"] == [
            {"title": "model", "value": "a&lt;b&gt;&amp;c", "short": True},
            {"title": "runbook_url", "value": "https://example.org/r", "short": True},
        ]

    def test_the_end_of_an_alert_looks_like_one(self):
        with web_sink() as sink:
            Slack(sink.url)(alert(severity="info", state="resolved").as_dict())
        assert sink.bodies[0]["text"].startswith("[RESOLVED] ")
        assert sink.bodies[0]["attachments"][0]["color"] == "#20a040"
