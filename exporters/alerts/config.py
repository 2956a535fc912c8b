"""``[[receiver]]`` of a rules file: who is told, and of what. docs/alerting.md is its reference.

Secrets do not belong into files that people share: `url_env`, `token_env` and `password_env` name environment
variables.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from shmetrics.alerting.definition import RuleFile
from shmetrics.alerting.dispatch import Dispatch, Follower
from shmetrics.alerting.fields import Fields
from shmetrics.alerting.outbox import ROOM, Announcement, Backoff
from shmetrics.alerting.rules import SEVERITIES
from shmetrics.exporters.alerts import alertmanager, command, mail, posting
from shmetrics.exporters.alerts.alertmanager import Alertmanager
from shmetrics.exporters.alerts.command import Command
from shmetrics.exporters.alerts.log import Log
from shmetrics.exporters.alerts.mail import Mail
from shmetrics.exporters.alerts.slack import Slack
from shmetrics.exporters.alerts.webhook import Webhook

_UNKNOWN: Final = "unknown"
"""Stands for a secret where only the file is checked."""


@dataclass(frozen=True)
class _Common:
    """What every receiver has."""

    name: str
    severities: tuple[str, ...]
    resolved: bool
    room: int
    environ: Mapping[str, str] | None


def dispatch_of(file: RuleFile, environ: Mapping[str, str] | None) -> Dispatch:
    """A dispatch with all receivers of a file. No thread is started before an alert.

    ``environ``: where secrets are; None to check the file without them. RulesError for what is wrong.
    """
    dispatch = Dispatch()
    names: set[str] = set()
    for table in file.receivers:
        kind = table.content.get("type")
        fields = file.fields(table, f"receiver {table.content.get('name') or kind or int(table.address[-1]) + 1}")
        found = _receiver(fields, environ)
        if found is None:
            continue
        common, receiver = found
        if common.name in names:
            fields.complain("name", f"two receivers are called {common.name!r}; give each a `name`")
        names.add(common.name)
        if isinstance(receiver, Alertmanager):
            dispatch.add_follower(receiver)
        else:
            backoff = getattr(receiver, "backoff", None)
            dispatch.register(
                receiver,
                common.name,
                common.severities or SEVERITIES,
                resolved=common.resolved,
                backoff=backoff if isinstance(backoff, Backoff) else None,
                room=common.room,
            )
    file.check()
    return dispatch


_Receiver = Callable[[Announcement], object] | Follower


def _receiver(fields: Fields, environ: Mapping[str, str] | None) -> tuple[_Common, Any] | None:
    if not fields.has("type"):
        fields.complain("type", f"`type` is missing: one of {', '.join(_TYPES)}")
    kind = fields.choice("type", tuple(_TYPES))
    common = _Common(
        fields.text("name", kind) or "",
        fields.texts("severities", SEVERITIES),
        fields.flag("send_resolved", default=True),
        fields.whole("queue", ROOM, low=1, high=1_000_000) or ROOM,
        environ,
    )
    if kind is None:
        return None
    if kind == "alertmanager" and fields.has("severities"):
        fields.complain("severities", "Alertmanager gets everything that fires, and routes it by the label severity")
    try:
        make = _TYPES[kind](fields, common)
        return (common, make()) if fields.finish() and make is not None else None
    except ValueError as error:
        fields.complain("type", str(error))
        return None


_Maker = Callable[[], object]
_Value = TypeVar("_Value")


def _secret(fields: Fields, key: str, common: _Common, *, required: bool = False) -> str | None:
    """A text given as `key`, or as the environment variable that `key`_env names."""
    variable = fields.text(f"{key}_env")
    if variable is None:
        return fields.text(key, required=required)
    if fields.has(key):
        fields.complain(key, f"give `{key}` or `{key}_env`, not both")
        return None
    if common.environ is None:
        return f"https://{_UNKNOWN}.invalid/" if key == "url" else _UNKNOWN
    value = common.environ.get(variable)
    if not value:
        fields.complain(f"{key}_env", f"environment variable {variable} is not set, which `{key}_env` names")
        return None
    return value


def _url(fields: Fields, common: _Common) -> str | None:
    url = _secret(fields, "url", common, required=True)
    return None if url is None else _checked(fields, "url", lambda: posting.check_url(url))


def _headers(fields: Fields, common: _Common) -> dict[str, str]:
    headers, token = fields.table("headers"), _secret(fields, "token", common)
    _checked(fields, "headers", lambda: posting.check_headers(headers))
    if token is None:
        return headers
    authorization = {"Authorization": f"Bearer {token}"}
    _checked(fields, "token", lambda: posting.check_headers(authorization))
    return {**headers, **authorization}


def _checked(fields: Fields, key: str, check: Callable[[], _Value]) -> _Value | None:
    """What `check` returns; None where it raises, which is complained of at the key, or at `key`_env."""
    try:
        return check()
    except ValueError as error:
        fields.complain(key if fields.has(key) else f"{key}_env", str(error))
        return None


def _log(fields: Fields, _common: _Common) -> _Maker | None:
    logger = fields.text("logger", "shmetrics.alerts")
    return lambda: Log(logging.getLogger(logger))


def _webhook(fields: Fields, common: _Common) -> _Maker | None:
    url, headers = _url(fields, common), _headers(fields, common)
    timeout = fields.seconds("timeout", posting.TIMEOUT, low=0.01) or posting.TIMEOUT
    return None if url is None else lambda: Webhook(url, headers=headers, timeout=timeout)


def _slack(fields: Fields, common: _Common) -> _Maker | None:
    url = _url(fields, common)
    timeout = fields.seconds("timeout", posting.TIMEOUT, low=0.01) or posting.TIMEOUT
    return None if url is None else lambda: Slack(url, timeout=timeout)


def _alertmanager(fields: Fields, common: _Common) -> _Maker | None:
    url, headers = _url(fields, common), _headers(fields, common)
    timeout = fields.seconds("timeout", posting.TIMEOUT, low=0.01) or posting.TIMEOUT
    resend = fields.seconds("resend", alertmanager.RESEND, low=0.1) or alertmanager.RESEND
    source_url = fields.text("source_url", "") or ""
    if url is None:
        return None
    return lambda: Alertmanager(
        url,
        name=common.name,
        headers=headers,
        source_url=source_url,
        resend=resend,
        timeout=timeout,
        room=common.room,
    )


def _email(fields: Fields, common: _Common) -> _Maker | None:
    host, sender = fields.text("host", required=True), fields.text("from", required=True)
    to = fields.texts("to")
    if not to:
        fields.complain("to", '`to` is missing: a list such as ["ops@example.org"]')
    port = fields.whole("port", low=1, high=65_535)
    tls = fields.choice("tls", mail.TLS, "starttls") or "starttls"
    user, password = fields.text("user"), _secret(fields, "password", common)
    timeout = fields.seconds("timeout", posting.TIMEOUT, low=0.01) or posting.TIMEOUT
    if user is None and password is not None:
        fields.complain("user", "`password` needs `user` beside it")
    if user is not None and password is None and not fields.has("password_env"):
        fields.complain("password", "`user` needs `password` or `password_env` beside it")
    if host is None or sender is None:
        return None
    return lambda: Mail(host, sender, to, port=port, tls=tls, user=user, password=password, timeout=timeout)


def _command(fields: Fields, _common: _Common) -> _Maker | None:
    arguments = fields.texts("command")
    if not arguments:
        fields.complain("command", '`command` is missing: a list such as ["/usr/local/bin/page", "--team", "ml"]')
    timeout = fields.seconds("timeout", command.TIMEOUT, low=0.01) or command.TIMEOUT
    return (lambda: Command(arguments, timeout=timeout)) if arguments else None


_TYPES: Final[dict[str, Callable[[Fields, _Common], _Maker | None]]] = {
    "log": _log,
    "webhook": _webhook,
    "alertmanager": _alertmanager,
    "slack": _slack,
    "email": _email,
    "command": _command,
}
