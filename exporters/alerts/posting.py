"""HTTP for receivers: one POST, with a time-out, that either arrived or raises. Any thread may call."""

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

import shmetrics
from shmetrics.alerting.outbox import RefusedError

TIMEOUT: Final = 10.0
"""Seconds for connecting, and for each answer."""
_TRY_AGAIN: Final = (408, 425, 429)
"""Client errors that time may heal; those of servers (5xx) are others."""
_MOST_OF_ANSWER: Final = 200
_URL: Final = re.compile(r"[!-~]+")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[ -~\t]*")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An alert that is POSTed and redirected would be GET, without its body: as good as lost."""

    def redirect_request(self, *_arguments: Any) -> None:
        """None: the redirect is an error."""
        return


_opener: Final = urllib.request.build_opener(_NoRedirects)


def check_url(url: str) -> str:
    """`url`, or ValueError where nothing can be posted to it; the message has no more of it than the host."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:  # a port that is none, or half an IPv6 address
        raise ValueError(f"a URL must be like https://example.org/hook; of this one, {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"a URL must be like https://example.org/hook, and this begins {url[:12]!r}")
    if parts.username is not None:
        raise ValueError(f"a URL with a user in it is not supported; write https://{parts.hostname}, and the user as "
                         "a header: Authorization = \"Basic ...\"")  # fmt: skip
    if not _URL.fullmatch(url):
        raise ValueError(f"the URL of {parts.hostname} has a space or another character that must be written as %20 "
                         "and the like; a host that is not ASCII as xn--...")  # fmt: skip
    return url


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy of `headers`, or ValueError where one cannot be sent."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a header's name: wanted letters, digits and -, such as X-Team")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"header {name!r} must be one line of ASCII")
    return dict(headers)


def host_of(url: str) -> str:
    """What may be shown of a URL: paths and queries of webhooks are secrets."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """POST JSON. RefusedError when the server will not have it; OSError when it may at another time.

    Messages name the host, and no more of the URL.
    """
    sent = {"Content-Type": "application/json", "User-Agent": f"shmetrics/{shmetrics.__version__}", **headers}
    request = urllib.request.Request(url, body, sent, method="POST")  # `check_url` looked at the scheme
    try:
        with _opener.open(request, timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        said = _said(error)
        text = f"{host_of(url)} answered {error.code} {error.reason}" + (f": {said}" if said else "")
        if error.code >= 500 or error.code in _TRY_AGAIN:
            raise OSError(text) from None
        raise RefusedError(text) from None
    except urllib.error.URLError as error:
        raise OSError(f"{host_of(url)} cannot be reached: {error.reason}") from None
    except TimeoutError:
        raise OSError(f"{host_of(url)} did not answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{host_of(url)}: {type(error).__name__}: {error}") from None


def _said(error: urllib.error.HTTPError) -> str:
    """The beginning of the answer's body, as far as it comes."""
    with error:
        try:
            return error.read(_MOST_OF_ANSWER).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException):
            return ""
