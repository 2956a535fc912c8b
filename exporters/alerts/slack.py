"""A chat: incoming webhooks of Slack, and of what takes the same (Mattermost, Rocket.Chat, Discord's ``/slack``).

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import json
from typing import Final

from shmetrics.alerting.outbox import Announcement, Backoff
from shmetrics.exporters.alerts.posting import TIMEOUT, check_url, post

_COLOURS: Final = {"critical": "#d00000", "warning": "#e09000", "info": "#4080c0", "resolved": "#20a040"}


class Slack:
    """Posts a message for each alert. The URL is a secret. ValueError for what is none."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = check_url(url)
        self._timeout = timeout
        self.backoff = Backoff()

    def __call__(self, alert: Announcement) -> None:
        """Post one."""
        post(self._url, json.dumps(message(alert)).encode(), {}, self._timeout)


def message(alert: Announcement) -> dict[str, object]:
    """What is posted: a line for notifications, and an attachment with a colour, labels and links."""
    over = alert["state"] == "resolved"
    kind = "resolved" if over else alert["severity"]
    title = _escaped(f"[{kind.upper()}] {alert['type']}")
    text = _escaped(alert["message"])
    fields = [
        {"title": _escaped(name), "value": _escaped(str(value)), "short": len(str(value)) < 40}
        for name, value in {**alert["labels"], **alert["annotations"]}.items()
    ]
    attachment = {"color": _COLOURS[kind], "fallback": f"{title}: {text}", "title": title, "text": text,
                  "fields": fields, "ts": int(alert["timestamp"])}  # fmt: skip
    return {"text": f"{title}: {text}", "attachments": [attachment]}


def _escaped(text: str) -> str:
    """The three characters that mean something to Slack."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
