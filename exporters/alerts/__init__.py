"""Alerts that leave the process: receivers, and how a rules file names them.

    log           a line in the log                      webhook       JSON to any address
    slack         a message to a chat                    alertmanager  Prometheus' Alertmanager, API v2
    mail          by SMTP                                command       a program of the operator's
    config        ``[[receiver]]`` of a rules file       posting       HTTP, for those that need it

A receiver is a callable that takes one alert (`shmetrics.alerting.Alert.as_dict`) and raises: `RefusedError` where
trying again is no use, anything else where it is. Queues, threads and tries are the outbox's
(`shmetrics.alerting.outbox`), so a receiver may take its time, within its time-out. Each works as a handler, too:

    alerting.register_handler("critical", Webhook("https://example.org/hook"))

Only the standard library is needed.
"""

from shmetrics.exporters.alerts.alertmanager import Alertmanager
from shmetrics.exporters.alerts.command import Command
from shmetrics.exporters.alerts.config import dispatch_of
from shmetrics.exporters.alerts.log import Log
from shmetrics.exporters.alerts.mail import Mail
from shmetrics.exporters.alerts.slack import Slack
from shmetrics.exporters.alerts.webhook import Webhook

__all__ = ["Alertmanager", "Command", "Log", "Mail", "Slack", "Webhook", "dispatch_of"]
