"""The life of an alert: pending, firing, over; and what is announced of it."""

import json
import math

import pytest

from shmetrics.alerting.engine import Engine
from shmetrics.alerting.silences import Silence
from tests.alerting.looks import WALL, Given, GivenLook, reading, rule


class Story:
    """An engine, fed one value after the other."""

    def __init__(self, *rules, silences=()):
        self.engine = Engine(rules or [rule()], silences)
        self.look = None

    def at(self, now, *values, name="x"):
        """What is announced at a time when the rule reads these values: severities, or "over"."""
        readings = [each if not isinstance(each, int | float) else reading(each) for each in values]
        self.look = GivenLook(float(now), {name: readings})
        self.alerts = self.engine.judge(self.look)
        return ["over" if alert.state == "resolved" else alert.severity for alert in self.alerts]

    @property
    def active(self):
        return [alert.severity for alert in self.engine.active(self.look)]


def test_a_breach_is_announced_once_and_then_that_it_is_over():
    story = Story()
    assert story.at(0, 10) == []
    assert story.at(1, 11) == ["warning"]
    assert story.at(2, 12) == []
    assert story.active == ["warning"]
    assert story.at(3, 9) == ["over"]
    assert (story.at(4, 9), story.active) == ([], [])


def test_an_alert_says_everything():
    story = Story(rule("Hot", labels={"team": "ml"}, annotations={"runbook": "r"}))
    story.at(1, reading(11, worker=3, samples=50))
    (alert,) = story.alerts
    told = alert.as_dict()
    fingerprint = told.pop("fingerprint")
    assert told == {
        "type": "Hot",
        "severity": "warning",
        "state": "firing",
        "message": "hub forged: the figure 3 is 11, above 10",
        "current_value": 11.0,
        "threshold": 10.0,
        "timestamp": WALL + 1,
        "hub": "forged",
        "labels": {"team": "ml", "worker": "3"},
        "annotations": {"runbook": "r"},
        "started_at": WALL + 1,
        "ended_at": None,
        "highest_severity": "warning",
        "samples": 50,
    }
    story.at(31, reading(1, worker=3))
    (over,) = story.alerts
    assert over.fingerprint == fingerprint
    assert (over.severity, over.highest_severity, over.ended_at) == ("info", "warning", WALL + 31)
    assert over.message == "hub forged: Hot 3 is over after 30 s"


def test_below_is_the_other_way_round():
    story = Story(rule(below=10.0))
    assert [story.at(0, 10), story.at(1, 9), story.at(2, 10)] == [[], ["warning"], ["over"]]


class TestFor:
    """``for``: the condition must hold."""

    def test_it_fires_when_it_was_true_for_so_long(self):
        story = Story(rule(hold=10.0))
        assert [story.at(now, 11) for now in (0, 5, 9.9)] == [[], [], []]
        assert story.active == []
        assert story.at(10, 11) == ["warning"]

    def test_one_good_value_starts_it_anew(self):
        story = Story(rule(hold=10.0))
        assert [story.at(0, 11), story.at(5, 9), story.at(6, 11), story.at(15, 11)] == [[], [], [], []]
        assert story.at(16, 11) == ["warning"]

    def test_looks_in_between_change_nothing(self):
        story = Story(rule(hold=1.0))
        assert [story.at(at / 50, 11) for at in range(50)] == [[]] * 50
        assert story.at(1.0, 11) == ["warning"]


def test_an_alert_ends_only_at_clear():
    story = Story(rule(clear=5.0))
    assert [story.at(0, 7), story.at(1, 11), story.at(2, 7), story.at(3, 5)] == [[], ["warning"], [], ["over"]]


def test_keep_firing_for_bridges_gaps():
    story = Story(rule(keep_firing_for=10.0))
    assert [story.at(0, 11), story.at(9, 1), story.at(9.5, 11), story.at(19, 1), story.at(20, 1)] == [
        ["warning"], [], [], [], ["over"],
    ]  # fmt: skip


class TestSeverity:
    """It rises with the value, and never falls while the alert lasts."""

    def test_it_is_announced_when_it_rises(self):
        story = Story(rule(critical=20.0))
        assert [story.at(0, 11), story.at(1, 20), story.at(2, 25)] == [["warning"], ["critical"], []]
        assert story.alerts == []

    def test_it_does_not_fall(self):
        story = Story(rule(critical=20.0))
        assert [story.at(0, 20), story.at(1, 11)] == [["critical"], []]
        assert story.active == ["critical"]

    def test_the_threshold_told_is_the_rules_and_the_message_says_where_critical_begins(self):
        story = Story(rule(critical=20.0))
        story.at(0, 11)
        assert story.alerts[0].message == "hub forged: the figure is 11, above 10"
        story.at(1, 21)
        assert story.alerts[0].message == "hub forged: the figure is 21, above 10 (critical from 20)"
        assert story.alerts[0].threshold == 10.0


class TestCooldown:
    """Once within it: an alert that flaps does not announce itself again and again."""

    def test_a_second_breach_within_it_is_held_back_and_counted_once(self):
        story = Story()
        assert [story.at(0, 11), story.at(1, 1), story.at(2, 11), story.at(3, 11), story.at(4, 1)] == [
            ["warning"], ["over"], [], [], [],
        ]  # fmt: skip
        assert story.engine.counts["cooldown"] == 1

    def test_what_was_held_back_is_announced_when_it_fires_still_at_its_end(self):
        story = Story()
        story.at(0, 11), story.at(1, 1), story.at(2, 11)
        assert story.at(99, 11) == []
        assert story.at(100, 11) == ["warning"]
        assert story.at(101, 1) == ["over"]

    def test_what_lasts_is_announced_again_after_each(self):
        story = Story()
        announced = [now for now in range(350) if story.at(now, 11)]
        assert announced == [0, 100, 200, 300]

    def test_a_warning_after_a_critical_is_held_back_and_a_critical_after_a_warning_is_not(self):
        story = Story(rule(critical=20.0))
        story.at(0, 21), story.at(1, 1)
        assert story.at(2, 11) == []
        story = Story(rule(critical=20.0))
        story.at(0, 11), story.at(1, 1)
        assert story.at(2, 21) == ["critical"]

    def test_each_worker_has_its_own(self):
        story = Story()
        assert story.at(0, reading(11, worker=0), reading(1, worker=1)) == ["warning"]
        assert story.at(1, reading(11, worker=0), reading(11, worker=1)) == ["warning"]

    def test_none_at_all_announces_at_every_look(self):
        story = Story(rule(cooldown=0.0))
        assert [story.at(now, 11) for now in range(3)] == [["warning"]] * 3


class TestNothingToJudge:
    """A reading may be missing: the worker is gone, or too few requests came."""

    def test_too_few_samples_are_not_judged(self):
        story = Story(rule(min_samples=10))
        assert story.at(0, reading(11, samples=9)) == []
        assert story.at(1, reading(11, samples=10)) == ["warning"]

    def test_a_source_says_how_many_it_needs(self):
        story = Story(rule(source=Given(least_samples=5)))
        assert story.at(0, reading(11, samples=4)) == []
        assert story.at(1, reading(11)) == ["warning"]

    def test_an_alert_whose_reading_is_gone_is_over(self):
        story = Story()
        story.at(0, reading(11, worker=0), reading(11, worker=1))
        assert story.at(1, reading(11, worker=1)) == ["over"]
        assert story.alerts[0].labels == {"worker": "0"}

    def test_nan_is_no_reading_and_the_one_before_it_is_told(self):
        story = Story()
        story.at(0, 11)
        assert story.at(1, math.nan) == ["over"]
        assert story.alerts[0].current_value == 11.0

    def test_what_was_pending_is_forgotten(self):
        story = Story(rule(hold=10.0))
        assert [story.at(0, 11), story.at(5), story.at(10, 11)] == [[], [], []]


class TestSilences:
    """Nobody is told, for a while."""

    def test_what_is_silenced_is_found_and_counted_but_not_announced(self):
        story = Story(silences=[Silence(rule="Ru*", end=WALL + 10)])
        assert [story.at(0, 11), story.at(1, 11)] == [[], []]
        assert (story.active, story.engine.counts["silenced"]) == (["warning"], 1)
        assert story.engine.active(story.look, silenced=False) == []

    def test_it_is_announced_when_the_silence_ends(self):
        story = Story(silences=[Silence(end=WALL + 10)])
        assert [story.at(0, 11), story.at(9, 11), story.at(10, 11)] == [[], [], ["warning"]]

    def test_the_end_of_what_was_announced_is_told_all_the_same(self):
        story = Story()
        story.at(0, 11)
        story.engine.silences = (Silence(end=WALL + 100),)
        assert story.at(1, 1) == ["over"]

    def test_the_end_of_what_never_was_is_not(self):
        story = Story(silences=[Silence(end=WALL + 100)])
        assert [story.at(0, 11), story.at(1, 1)] == [[], []]


class TestOtherRules:
    """Rules may be exchanged while alerts fire."""

    def test_what_fires_by_a_rule_that_stays_goes_on(self):
        story = Story(rule("A"), rule("B"))
        assert story.at(0, 11) == ["warning", "warning"]
        story.engine.use([rule("B", above=10.5), rule("C", above=1000.0)])
        assert story.at(1, 11) == []
        assert story.at(2, 1) == ["over"]

    def test_two_of_one_name_are_refused(self):
        with pytest.raises(ValueError, match="two rules are called 'A'"):
            Engine([rule("A"), rule("A")])


def test_it_counts_announcements_by_severity_and_by_rule():
    story = Story(rule("A", critical=20.0), rule("B", cooldown=0.0))
    for now, value in enumerate((11, 21, 1)):
        story.at(now, value)
    assert story.engine.counts["warning"], story.engine.counts["critical"] == (3, 1)
    assert story.engine.counts["info"] == 2
    assert story.engine.by_type == {"A": 2, "B": 2}


def test_a_rule_with_more_alerts_than_anybody_reads_is_cut_off_and_counted():
    story = Story()
    assert len(story.at(0, *(reading(11, worker=at) for at in range(1500)))) == 1000
    assert story.engine.counts["overflow"] == 1


def test_what_it_remembers_does_not_grow_with_labels_that_come_and_go():
    story = Story()
    for now in range(1000):
        story.at(now, reading(11, worker=now))
    assert len(story.engine._announced_at) <= 101
    assert len(story.engine._conditions) == 1


def test_values_that_json_has_no_word_for_are_not_told():
    story = Story()
    assert story.at(0, math.nan) == []
    assert story.at(1, math.inf) == ["warning"]
    json.dumps(story.alerts[0].as_dict(), allow_nan=False)
