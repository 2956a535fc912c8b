"""HTTP for receivers: one POST, with a time-out, that either arrived or raises. Any thread may call."""

import http.client
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


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An alert that is POSTed and redirected would be GET, without its body: as good as lost."""

    def redirect_request(self, *_arguments: Any) -> None:
        """None: the redirect is an error."""
        return


_opener: Final = urllib.request.build_opener(_NoRedirects)


def check_url(url: str) -> str:
    """`url`, or ValueError where nothing can be posted to it."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a URL must be like https://example.org/hook, not {url!r}")
    return url


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
        with error:
            said = error.read(_MOST_OF_ANSWER).decode("utf-8", "replace").strip()
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
