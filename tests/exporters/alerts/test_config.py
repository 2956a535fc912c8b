"""``[[receiver]]`` of a rules file."""

import pytest

from shmetrics.alerting.definition import parse
from shmetrics.errors import RulesError
from shmetrics.exporters.alerts import dispatch_of
from tests.cli import until
from tests.exporters.alerts.receivers import PATIENCE, alert, web_sink


def receiver(*lines):
    return "\n".join(["[[receiver]]", *lines]) + "\n"


GOOD = (
    receiver('type = "log"')
    + receiver('type = "webhook"', 'url_env = "HOOK"', 'token_env = "TOKEN"', 'severities = ["critical"]', "queue = 10")
    + receiver('type = "slack"', 'name = "chat"', 'url = "https://example.org/x"', "send_resolved = false")
    + receiver('type = "alertmanager"', 'url = "http://localhost:9093"', 'resend = "30s"')
    + receiver('type = "email"', 'host = "mail"', 'from = "a@b"', 'to = ["c@d"]', 'user = "u"', 'password_env = "P"')
    + receiver('type = "command"', 'command = ["/bin/true"]', 'timeout = "5s"')
)


def names(dispatch):
    return [figures.name for figures in dispatch.figures]


def test_every_type_is_made():
    environ = {"HOOK": "https://example.org/y", "TOKEN": "t", "P": "p"}
    assert names(dispatch_of(parse(GOOD), environ)) == ["log", "webhook", "chat", "email", "command", "alertmanager"]


def test_a_file_is_checked_without_its_secrets():
    assert len(names(dispatch_of(parse(GOOD), None))) == 6


def test_without_receivers_nobody_is_told():
    assert names(dispatch_of(parse(""), {})) == []


def test_what_is_made_sends():
    with web_sink() as sink:
        text = receiver('type = "webhook"', f'url = "{sink.url}"', 'token_env = "T"', 'severities = ["critical"]')
        dispatch = dispatch_of(parse(text), {"T": "sesame"})
        dispatch.announce([alert(), alert(severity="warning"), alert(severity="info", state="resolved")])
        until(lambda: len(sink.requests) == 2)
        dispatch.close(PATIENCE)
    assert [body["state"] for body in sink.bodies] == ["firing", "resolved"]
    assert sink.requests[0][1]["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        (['name = "x"'], 1, "`type` is missing: one of log, webhook"),
        (['type = "slak"', "url = 'https://x'"], 2, "did you mean 'slack'?"),
        (['type = "webhook"'], 1, "`url` is missing"),
        (['type = "webhook"', 'url = "example.org"'], 3, "a URL must be like https://example.org/hook"),
        (['type = "webhook"', 'url_env = "NONE"'], 3, "environment variable NONE is not set"),
        (['type = "webhook"', 'url = "https://x"', 'url_env = "A"'], 3, "`url` or `url_env`, not both"),
        (['type = "webhook"', 'url = "https://x"', "timeot = 3"], 4, "no key `timeot`; did you mean `timeout`?"),
        (['type = "webhook"', 'url = "https://x"', 'severities = ["page"]'], 4, "may have critical, warning, info"),
        (['type = "webhook"', 'url = "https://x"', "queue = 0"], 4, "a whole number from 1"),
        (['type = "webhook"', 'url = "https://x"', 'headers = { A = "b\\nc" }'], 4, "must be one line"),
        (['type = "webhook"', 'url = "https://x"', 'headers = { "A B" = "c" }'], 4, "cannot be a header's name"),
        (['type = "webhook"', 'url = "http://x:99999/"'], 3, "Port out of range"),
        (['type = "slack"', 'url = "https://x/a b"'], 3, "must be written as %20"),
        (['type = "alertmanager"', 'url = "https://x/é"'], 3, "must be written as %20"),
        (['type = "webhook"', 'url = "https://me:secret@x/"'], 3, "the user as a header"),
        (['type = "email"', 'host = "x"', 'from = "a@b"', 'to = ["c@d"]', 'user = "u"'], 1, "`user` needs `password`"),
        (['type = "email"', 'host = "x"', 'from = "a@b"', 'to = ["c@d"]', 'password = "p"'], 1, "needs `user` beside"),
        (['type = "email"', 'host = "x"', 'from = "a@b\\r"', 'to = ["c@d"]'], 2, "mail needs addresses"),
        (['type = "alertmanager"', 'url = "http://x"', 'severities = ["info"]'], 4, "routes it by the label severity"),
        (['type = "email"', 'host = "x"', 'from = "a@b"'], 1, "`to` is missing"),
        (['type = "email"', 'host = "x"', 'from = "a@b"', 'to = ["c@d"]', 'tls = "yes"'], 6, "one of starttls, always"),
        (['type = "command"', 'command = "page"'], 3, "a list of texts"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_write(lines, line, message):
    with pytest.raises(RulesError) as caught:
        dispatch_of(parse(receiver(*lines)), {"A": "https://y"})
    told = [text for text in str(caught.value).splitlines() if message in text]
    assert told, str(caught.value)
    assert told[0].startswith(f"rules.toml:{line}: receiver ")


def test_two_of_one_name_cannot_be_told_apart():
    with pytest.raises(RulesError, match="two receivers are called 'log'; give each a `name`"):
        dispatch_of(parse(receiver('type = "log"') * 2), {})
