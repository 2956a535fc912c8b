"""E-mail by SMTP: one message for each alert."""

import logging
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from shmetrics.alerting.outbox import Announcement, Backoff, RefusedError
from shmetrics.exporters.alerts.posting import TIMEOUT

TLS: Final = ("starttls", "always", "never")
"""``starttls``: encrypt before anything is said (port 587); ``always``: from the first byte (465); ``never`` (25)."""
PORTS: Final = {"starttls": 587, "always": 465, "never": 25}


_log: Final = logging.getLogger("shmetrics")


class Mail:
    """Sends mail. ``user`` and ``password``: only over TLS. ValueError for what cannot be."""

    def __init__(
        self,
        host: str,
        sender: str,
        to: Sequence[str],
        *,
        port: int | None = None,
        tls: str = "starttls",
        user: str | None = None,
        password: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if tls not in TLS:
            raise ValueError(f"tls must be one of {', '.join(TLS)}, not {tls!r}")
        if not to or any("@" not in address or not address.isprintable() for address in (*to, sender)):
            raise ValueError(f"mail needs addresses such as ops@example.org, not {[sender, *to]}")
        if user is not None and tls == "never":
            raise ValueError('a password is not sent unencrypted; use tls = "starttls"')
        self._host, self._port, self._tls = host, PORTS[tls] if port is None else port, tls
        self._sender, self._to = sender, list(to)
        self._user, self._password = user, password
        self._timeout = timeout
        self.backoff = Backoff()

    def __call__(self, alert: Announcement) -> None:
        """Send one, in a connection of its own."""
        letter = letter_of(alert, self._sender, self._to)
        try:
            with self._connection() as server:
                if self._tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self._user is not None:
                    server.login(self._user, self._password or "")
                refused = server.send_message(letter)
        except smtplib.SMTPAuthenticationError as error:  # may be set right; nothing is lost meanwhile
            raise OSError(f"{self._host} does not accept user and password: {_text(error)}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            kind = RefusedError if all(code >= 500 for code in codes) else OSError
            raise kind(f"{self._host} refuses {', '.join(error.recipients)}: {codes}") from None
        except smtplib.SMTPResponseException as error:
            kind = RefusedError if error.smtp_code >= 500 else OSError
            raise kind(f"{self._host} answered {error.smtp_code}: {_text(error)}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise OSError(f"{self._host}:{self._port}: {type(error).__name__}: {error}") from None
        if refused:  # by others it was taken, so another try would tell these twice
            codes = [code for code, _ in refused.values()]
            _log.warning("%s refuses %s: %s; the others were told", self._host, ", ".join(refused), codes)

    def _connection(self) -> smtplib.SMTP:
        if self._tls == "always":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=ssl.create_default_context())
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout)


def letter_of(alert: Announcement, sender: str, to: Sequence[str]) -> EmailMessage:
    """The message. Alerts with one fingerprint are one thread."""
    over = alert["state"] == "resolved"
    letter = EmailMessage()
    letter["Subject"] = _line(f"[{'RESOLVED' if over else alert['severity'].upper()}] {alert['hub']}: {alert['type']}")
    letter["From"], letter["To"] = sender, ", ".join(to)
    letter["Date"] = formatdate(alert["timestamp"])
    letter["Message-ID"] = make_msgid(domain="shmetrics.invalid")
    letter["References"] = f"<{alert['fingerprint']}.{int(alert['started_at'])}@shmetrics.invalid>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    lines = [alert["message"], ""]
    lines += [f"{name}: {value}" for name, value in {**alert["labels"], **alert["annotations"]}.items()]
    lines += [f"since: {formatdate(alert['started_at'])}"]
    letter.set_content("\n".join(_printable(line) for line in lines) + "\n")
    return letter


def _line(text: str) -> str:
    """One line: a header takes no other, and what shared memory says may hold any."""
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _text(error: smtplib.SMTPResponseException) -> str:
    said = error.smtp_error
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
