"""The alerts of the aggregator that leads."""

import os

import pytest

from shmetrics import segment
from shmetrics.aggregator import Aggregator
from shmetrics.alerting.dispatch import Dispatch
from shmetrics.alerting.leader import LeaderAlerts
from shmetrics.errors import RulesError
from shmetrics.slots import ERRORS
from shmetrics.writer import Writer
from tests.cli import until

PATIENCE = 30.0
RULES = '[[rule]]\nname = "Errors"\nstatistic = "error_rate"\nlast = 50\nabove = 0.1\n'
OTHER = '[[rule]]\nname = "Busy"\nstatistic = "active_workers"\nabove = 0\n'


class Fleet:
    """A hub with one worker, an aggregator that leads it, and a rules file."""

    def __init__(self, target, path):
        self.path, self.told = path, []
        self.writer = Writer(target)
        self.aggregator = Aggregator(segment.attach(target.name, writable=True))
        assert self.aggregator.try_lead()
        self.dispatches = []

    def alerts(self, text=RULES):
        self.write(text)
        return LeaderAlerts(str(self.path), self.aggregator._segment, self.aggregator.history, self.dispatch_of)

    def write(self, text):
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)

    def dispatch_of(self, file):
        file.check()
        dispatch = Dispatch()
        dispatch.register(self.told.append, f"receiver {len(self.dispatches)}")
        self.dispatches.append(dispatch)
        return dispatch

    def tick(self, alerts):
        alerts.arm()
        figures = self.aggregator.tick()
        return [alert.type for alert in alerts.look(self.aggregator.history.latest, lambda: figures)]


@pytest.fixture
def fleet(make_segment, tmp_path):
    fleet = Fleet(make_segment(), tmp_path / "rules.toml")
    for _ in range(60):
        fleet.writer.record(0.01)
    yield fleet
    for dispatch in fleet.dispatches:
        dispatch.close(PATIENCE)
    fleet.writer.close()
    fleet.aggregator.close()


def test_it_judges_at_each_tick_and_tells(fleet):
    alerts = fleet.alerts()
    assert fleet.tick(alerts) == []
    fleet.writer.add(ERRORS, 20)
    assert fleet.tick(alerts) == ["Errors"]
    until(lambda: fleet.told)
    assert (fleet.told[0]["type"], fleet.told[0]["current_value"]) == ("Errors", 0.4)
    assert [alert.type for alert in alerts.health.active] == ["Errors"]


def test_an_error_trips_it_before_the_next_tick(fleet):
    alerts = fleet.alerts()
    fleet.tick(alerts)
    assert not fleet.aggregator.wait(0.0, until=alerts.tripped)
    fleet.writer.add(ERRORS, 20)
    assert fleet.aggregator.wait(PATIENCE, until=alerts.tripped)
    assert alerts.has_tripped
    alerts.arm()
    snapshot = fleet.aggregator.look()
    assert snapshot is fleet.aggregator.history.latest
    assert [alert.type for alert in alerts.look(snapshot, dict)] == ["Errors"]
    alerts.rest(1.0)
    fleet.writer.add(ERRORS, 20)
    assert not alerts.tripped(), "it rests"


def test_a_file_with_a_mistake_is_refused_at_the_start(fleet):
    with pytest.raises(RulesError, match="did you mean `above`"):
        fleet.alerts(RULES.replace("above", "abov"))


class TestReload:
    """A file that changes is read again."""

    def test_one_that_did_not_change_is_not(self, fleet):
        alerts = fleet.alerts()
        assert alerts.reload() is None

    def test_rules_that_stay_go_on_and_new_ones_begin(self, fleet):
        alerts = fleet.alerts()
        fleet.tick(alerts)
        fleet.writer.add(ERRORS, 20)
        assert fleet.tick(alerts) == ["Errors"]
        fleet.write(RULES + OTHER)
        assert alerts.reload() == f"{fleet.path} was read again: 2 rules"
        assert fleet.tick(alerts) == ["Busy"], "and Errors is not announced again"
        assert len(fleet.dispatches) == 1, "the receivers did not change"

    def test_one_with_a_mistake_changes_nothing_and_is_told_once(self, fleet):
        alerts = fleet.alerts()
        fleet.tick(alerts)
        fleet.write(RULES.replace("0.1", "10"))
        said = alerts.reload()
        assert "so 10 is never right" in said
        assert said.endswith("the rules that were read before go on")
        assert alerts.reload() is None
        fleet.writer.add(ERRORS, 20)
        assert fleet.tick(alerts) == ["Errors"]

    def test_one_that_is_gone_changes_nothing(self, fleet):
        alerts = fleet.alerts()
        fleet.path.unlink()
        assert "cannot be read" in alerts.reload()

    def test_other_receivers_replace_the_old_ones_which_finish(self, fleet):
        alerts = fleet.alerts()
        fleet.tick(alerts)
        fleet.write(RULES + '[[receiver]]\ntype = "log"\n')
        alerts.reload()
        assert len(fleet.dispatches) == 2
        fleet.writer.add(ERRORS, 20)
        fleet.tick(alerts)
        until(lambda: fleet.dispatches[1].figures[0].sent == 1)
        assert fleet.dispatches[0].figures[0].sent == 0
