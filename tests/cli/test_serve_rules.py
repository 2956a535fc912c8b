"""`shmetrics serve --rules`: once for the whole fleet, at once, and whoever leads."""

import json
import time

import pytest

from shmetrics.slots import ERRORS
from shmetrics.writer import Writer
from tests.cli import run, until, writing_to
from tests.exporters.alerts.receivers import web_sink
from tests.test_forks import Child

RULES = '[[rule]]\nname = "Errors"\nstatistic = "error_rate"\nlast = 50\nabove = 0.1\n'


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
def worker(make_segment):
    writer = Writer(make_segment())
    for _ in range(60):
        writer.record(0.01)
    yield writer
    writer.close()


def lines(path):
    return path.read_text().splitlines()


def test_it_says_when_a_rule_fires_and_when_it_is_over(worker, hub_name, rules, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "serve", hub_name, "--rules", str(rules), "--interval", "0.05"):
        until(lambda: len(lines(output)) >= 3)
        worker.add(ERRORS, 20)
        until(lambda: any("! warning Errors: hub " in line for line in lines(output)))
        for _ in range(60):
            worker.record(0.01)
        until(lambda: any("! over Errors: hub " in line for line in lines(output)))
    assert sum("Errors" in line for line in lines(output)) == 2


def test_json_has_the_whole_alert_before_the_next_sample_is_due(worker, hub_name, rules, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "serve", hub_name, "--rules", str(rules), "--interval", "3600", "--json"):
        until(lambda: len(lines(output)) == 2)
        worker.add(ERRORS, 20)
        until(lambda: len(lines(output)) == 3)
    event = json.loads(lines(output)[2])
    assert (event["event"], event["hub"]) == ("alert", hub_name)
    assert (event["alert"]["type"], event["alert"]["current_value"]) == ("Errors", 0.4)


def test_two_tell_once_and_the_standby_goes_on_when_the_leader_is_killed(worker, hub_name, rules, tmp_path):
    with web_sink() as sink:
        rules.write_text(f'{RULES}[[receiver]]\ntype = "webhook"\nurl = "{sink.url}"\n')
        first, second = tmp_path / "first", tmp_path / "second"
        options = ("serve", hub_name, "--rules", str(rules), "--interval", "0.05")
        with writing_to(first, *options) as leader:
            until(lambda: len(lines(first)) >= 2)
            with writing_to(second, *options):
                until(lambda: lines(second))
                worker.add(ERRORS, 20)
                until(lambda: sink.requests)
                for _ in range(60):
                    worker.record(0.01)
                until(lambda: len(sink.requests) == 2)
                assert [body["state"] for body in sink.bodies] == ["firing", "resolved"]
                leader.kill()
                leader.wait()
                until(lambda: len(lines(second)) >= 3)
                worker.add(ERRORS, 20)
                until(lambda: len(sink.requests) == 3)


def test_the_death_of_a_worker_over_a_request_is_told_before_the_next_sample_is_due(worker, hub_name, rules, tmp_path):
    rules.write_text('[[rule]]\nname = "Died"\nfinding = "died"\nseverity = "critical"\n')
    output = tmp_path / "output"

    def serve():
        own = Writer(worker._segment)
        own.record(0.01)
        own.enter("/generate")
        return own

    options = ("--rules", str(rules), "--interval", "3600", "--json")
    with Child(serve) as child, writing_to(output, "serve", hub_name, *options):
        until(lambda: len(lines(output)) == 2)
        child.kill()
        until(lambda: any('"event": "alert"' in line for line in lines(output)))
    (event,) = [json.loads(line) for line in lines(output) if '"event": "alert"' in line]
    assert (event["alert"]["type"], event["alert"]["severity"]) == ("Died", "critical")
    assert event["alert"]["labels"] == {"finding": "dead_worker", "worker": "1"}
    assert "/generate" in event["alert"]["message"]


def test_a_file_that_changes_is_read_again(worker, hub_name, rules, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "serve", hub_name, "--rules", str(rules), "--interval", "0.05"):
        until(lambda: len(lines(output)) >= 3)
        rules.write_text(RULES.replace("above", "abov"))
        until(lambda: any("did you mean `above`" in line for line in lines(output)))
        rules.write_text(RULES + '[[rule]]\nname = "Busy"\nstatistic = "active_workers"\nabove = 0\n')
        until(lambda: any("was read again: 2 rules" in line for line in lines(output)))
        until(lambda: any("! warning Busy" in line for line in lines(output)))


def test_a_mistake_ends_it_before_it_begins(worker, hub_name, rules):
    rules.write_text(RULES.replace("0.1", "10"))
    start = time.monotonic()
    done = run("serve", hub_name, "--rules", str(rules))
    assert (done.returncode, done.stdout) == (1, "")
    assert "so 10 is never right" in done.stderr
    assert time.monotonic() - start < 30.0


def test_the_environment_names_the_file(worker, hub_name, tmp_path):
    done = run("serve", hub_name, SHMETRICS_RULES=str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert "none.toml: cannot be read" in done.stderr
