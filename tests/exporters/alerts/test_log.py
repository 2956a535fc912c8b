"""Alerts in the log."""

import logging

import pytest

from shmetrics.exporters.alerts import Log
from tests.exporters.alerts.receivers import alert


@pytest.mark.parametrize(
    ("severity", "level"), [("critical", logging.CRITICAL), ("warning", logging.WARNING), ("info", logging.INFO)]
)
def test_each_has_the_level_of_its_severity_and_carries_the_alert(severity, level, caplog):
    caplog.set_level(logging.INFO)
    Log()(alert(severity=severity).as_dict())
    (record,) = caplog.records
    assert (record.levelno, record.name) == (level, "shmetrics.alerts")
    assert record.getMessage() == f"{severity} HighErrorRate: hub resnet: error rate over 5m is 12 %, above 5 %"
    assert record.alert["labels"] == {"worker": "3"}
