"""E-mail, against a real SMTP server."""

import base64
import shutil
import socket

import pytest

from shmetrics.alerting.outbox import RefusedError
from shmetrics.exporters.alerts import Mail
from tests.exporters.alerts.receivers import alert, certificate_in, smtp_sink


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


def test_of_several_addresses_one_that_is_refused_is_in_the_log_and_the_others_are_told(caplog):
    with smtp_sink(("RCPT", "550 nobody")) as sink:
        mail(sink)(alert().as_dict())
    assert len(sink.letters) == 1
    assert "127.0.0.1 refuses ops@example.org: [550]; the others were told" in caplog.text


def test_a_server_that_is_gone_is_worth_another_try():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: ConnectionRefusedError"):
        Mail("127.0.0.1", "a@b", ["c@d"], port=port, tls="never", timeout=5.0)(alert().as_dict())


def test_a_server_that_does_not_encrypt_gets_nothing_where_encryption_is_wanted():
    with smtp_sink() as sink, pytest.raises(OSError, match=r"SMTPNotSupportedError"):
        mail(sink, tls="starttls", user="me", password="secret")(alert().as_dict())
    assert not any("MAIL" in command or "AUTH" in command for command in sink.commands)


SECRET = {"user": "me", "password": "sesame"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return certificate_in(tmp_path_factory.mktemp("certificate"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
class TestEncryption:
    """By a server whose certificate the system trusts, or does not."""

    PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0me\0sesame").decode()

    @pytest.fixture
    def trusted(self, certificate, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        return certificate

    @pytest.mark.parametrize(("tls", "openly"), [("starttls", ["EHLO", "STARTTLS"]), ("always", [])])
    def test_user_password_and_letter_are_sent_encrypted(self, trusted, tls, openly):
        offers = ("STARTTLS", "AUTH PLAIN LOGIN") if tls == "starttls" else ("AUTH PLAIN LOGIN",)
        with smtp_sink(offers=offers, certificate=trusted, at_once=tls == "always") as sink:
            mail(sink, tls=tls, **SECRET)(alert().as_dict())
        assert [line.split()[0].upper() for line in sink.commands[: len(openly)]] == openly
        assert sink.encrypted == sink.commands[len(openly) :]
        assert self.PLAIN in sink.encrypted
        assert [letter["To"] for letter in sink.letters] == ["ops@example.org, ml@example.org"]

    @pytest.mark.parametrize("tls", ["starttls", "always"])
    def test_a_certificate_that_nobody_trusts_gets_nothing_and_may_be_set_right(self, certificate, tls):
        with (
            smtp_sink(offers=("STARTTLS",), certificate=certificate, at_once=tls == "always") as sink,
            pytest.raises(OSError, match="SSLCertVerificationError"),
        ):
            mail(sink, tls=tls, **SECRET)(alert().as_dict())
        assert (sink.encrypted, sink.letters) == ([], [])

    def test_a_password_that_is_not_accepted_may_be_set_right_and_is_not_told(self, trusted):
        with (
            smtp_sink(("AUTH", "535 no"), offers=("AUTH PLAIN",), certificate=trusted, at_once=True) as sink,
            pytest.raises(OSError, match="does not accept user and password: no") as caught,
        ):
            mail(sink, tls="always", **SECRET)(alert().as_dict())
        assert "sesame" not in str(caught.value)


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
