"""E-mail, against a real SMTP server."""

import socket

import pytest

from shmetrics.alerting.outbox import RefusedError
from shmetrics.exporters.alerts import Mail
from tests.exporters.alerts.receivers import alert, smtp_sink


def mail(sink, **options):
    return Mail("127.0.0.1", "shmetrics@example.org", ["ops@example.org", "ml@example.org"], port=sink.port,
                **{"tls": "never", "timeout": 5.0, **options})  # fmt: skip


def test_a_letter_says_what_is_the_matter():
    with smtp_sink() as sink:
        mail(sink)(alert().as_dict())
    (letter,) = sink.letters
    assert letter["Subject"] == "[CRITICAL] resnet: HighErrorRate"
    assert (letter["From"], letter["To"]) == ("shmetrics@example.org", "ops@example.org, ml@example.org")
    assert letter["Auto-Submitted"] == "auto-generated"
    text = letter.get_content().replace("\r\n", "\n")
    assert text.startswith("hub resnet: error rate over 5m is 12 %, above 5 %\n")
    assert "worker: 3\n" in text
    assert "runbook_url: https://example.org/r\n" in text


def test_what_is_said_of_one_alert_is_one_thread():
    with smtp_sink() as sink:
        for told in (alert(), alert(severity="info", state="resolved"), alert(labels={"worker": "4"})):
            mail(sink)(told.as_dict())
    first, over, other = sink.letters
    assert over["Subject"] == "[RESOLVED] resnet: HighErrorRate"
    assert first["References"] == over["References"] != other["References"]
    assert len({letter["Message-ID"] for letter in sink.letters}) == 3


def test_nothing_that_a_label_says_becomes_a_header_and_any_text_can_be_sent():
    with smtp_sink() as sink:
        mail(sink)(
            alert(type="A\r\nBcc: x@example.org", message="é\n.\nüñ \ud800", labels={"a": "b\r\n.\r\nc"}).as_dict()
        )
    (letter,) = sink.letters
    assert letter["Bcc"] is None
    assert letter["Subject"] == "[CRITICAL] resnet: A Bcc: x@example.org"
    assert "üñ ?" in letter.get_content()


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([("RCPT", "550 no such user"), ("RCPT", "550 no such user")], RefusedError),
        ([("RCPT", "450 busy"), ("RCPT", "450 busy")], OSError),
        ([("DATA", "554 spam")], RefusedError),
        ([("DATA", "451 later")], OSError),
        ([("MAIL", "421 closing")], OSError),
    ],
)
def test_what_a_server_will_never_take_is_refused_and_all_else_tried_again(answers, error):
    with smtp_sink(*answers) as sink, pytest.raises(error, match=r"127\.0\.0\.1"):
        mail(sink)(alert().as_dict())


def test_a_server_that_is_gone_is_worth_another_try():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: ConnectionRefusedError"):
        Mail("127.0.0.1", "a@b", ["c@d"], port=port, tls="never", timeout=5.0)(alert().as_dict())


def test_a_server_that_does_not_encrypt_gets_nothing_where_encryption_is_wanted():
    with smtp_sink() as sink, pytest.raises(OSError, match=r"SMTPNotSupportedError"):
        mail(sink, tls="starttls", user="me", password="secret")(alert().as_dict())
    assert not any("MAIL" in command or "AUTH" in command for command in sink.commands)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls": "maybe"}, "tls must be one of"),
        ({"to": []}, "mail needs addresses"),
        ({"to": ["ops"]}, "mail needs addresses"),
        ({"sender": "a@b\nBcc: c@d"}, "mail needs addresses"),
        ({"tls": "never", "user": "me"}, "not sent unencrypted"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Mail(**{"host": "localhost", "sender": "a@b", "to": ["c@d"], **options})
