"""The log: a line for each alert, under the logger ``shmetrics.alerts``."""

import logging
from typing import Final

from shmetrics.alerting.outbox import Announcement

_LEVELS: Final = {"critical": logging.CRITICAL, "warning": logging.WARNING, "info": logging.INFO}


class Log:
    """Logs alerts, each at the level of its severity. The record has the whole alert as its attribute ``alert``."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("shmetrics.alerts") if logger is None else logger

    def __call__(self, alert: Announcement) -> None:
        """Log one."""
        self._logger.log(
            _LEVELS[alert["severity"]], "%s %s: %s", alert["severity"], alert["type"], alert["message"],
            extra={"alert": dict(alert)},
        )  # fmt: skip
