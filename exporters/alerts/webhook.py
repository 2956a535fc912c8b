"""A webhook: one POST for each alert, its body the alert as JSON."""

import json
from collections.abc import Mapping
from typing import Final

from shmetrics.alerting.outbox import Announcement, Backoff
from shmetrics.exporters.alerts.posting import TIMEOUT, check_headers, check_url, post

SCHEMA: Final = 1
"""What ``schema`` says in every body. Raised when a key changes its meaning or goes; a new key does not raise it."""


class Webhook:
    """Posts alerts. ``headers``: sent with each, such as ``Authorization``. ValueError for what is no URL."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> None:
        self._url = check_url(url)
        self._headers = check_headers(headers or {})
        self._timeout = timeout
        self.backoff = Backoff()

    def __call__(self, alert: Announcement) -> None:
        """Post one: `schema`, and the keys of `Alert.as_dict`."""
        body = json.dumps({"schema": SCHEMA, **alert}, allow_nan=False)
        post(self._url, body.encode(), self._headers, self._timeout)
