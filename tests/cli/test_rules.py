import json

import pytest

from tests.cli import run, strict_json

RULES = """
[[rule]]
name = "HighErrorRate"
statistic = "error_rate"
window = "1m"
above = 0.05
critical = 0.5
for = "20s"

[[rule]]
name = "Recent"
statistic = "p95_total_time"
last = 50
above = 0.25

[[test]]
name = "a bad minute"
series = { requests = "100x30", errors = "0x6 20x6 0x18", p95_total_time = "0.1" }
[[test.expect]]
at = "2m"
firing = ["HighErrorRate"]
[[test.expect]]
at = "5m"
firing = []
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


class TestCheck:
    def test_a_right_file_is_listed(self, path):
        done = run("rules", "check", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "warning   HighErrorRate: error rate over 1m above 5 %, critical from 50 %, for 20s",
            "warning   Recent: p95 total time over the last 50 measurements above 250 ms",
            f"{path} is right: 2 rules, 0 silences, 1 test; told to the output of serve",
        ]

    def test_json(self, path):
        told = strict_json(run("rules", "check", str(path), "--json").stdout)
        assert [rule["name"] for rule in told["rules"]] == ["HighErrorRate", "Recent"]
        assert told["rules"][0]["critical"] == 0.5

    def test_every_mistake_is_told_with_its_line(self, path):
        path.write_text(RULES.replace("above = 0.05", "abov = 0.05").replace("last = 50", 'last = "50"'))
        done = run("rules", "check", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == [
            f"shmetrics: {path} has 2 mistakes:",
            f"{path}:6: rule 'HighErrorRate': there is no key `abov`; did you mean `above`?",
            f"{path}:13: rule 'Recent': `last` must be a whole number from 1 to 1,000,000, not a text ('50')",
        ]

    def test_tests_are_checked_too(self, path):
        path.write_text(RULES.replace("requests = ", "reqests = ").replace('"HighErrorRate"]', '"HighErorRate"]'))
        done = run("rules", "check", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        heading, *mistakes = done.stderr.splitlines()
        assert heading == f"shmetrics: {path} has 2 mistakes:"
        assert any("`series` has no 'reqests'; did you mean 'requests'?" in line for line in mistakes)
        assert any("there is no rule 'HighErorRate'" in line for line in mistakes)

    def test_receivers_are_checked_too(self, path):
        path.write_text(RULES + '[[receiver]]\ntype = "webhook"\nurl = "example.org"\n')
        done = run("rules", "check", str(path))
        assert done.returncode == 1
        assert "receiver webhook: a URL must be like https://example.org/hook" in done.stderr

    def test_a_file_that_is_not_there(self, tmp_path):
        done = run("rules", "check", str(tmp_path / "none"))
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot be read" in done.stderr


class TestTest:
    def test_tests_that_pass(self, path):
        done = run("rules", "test", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "ok      a bad minute\n1 passed, 0 failed\n"

    def test_tests_that_fail_say_what_was_announced(self, path):
        path.write_text(RULES.replace("firing = []", 'firing = ["Recent"]'))
        done = run("rules", "test", str(path))
        assert done.returncode == 1
        first, failure, *timeline, last = done.stdout.splitlines()
        assert (first, failure) == ("FAILED  a bad minute", "        at 5m: Recent should fire, and does not")
        assert " s  warning   hub test: error rate over 1m is " in timeline[0]
        assert last == "0 passed, 1 failed"
        told = strict_json(run("rules", "test", str(path), "--json").stdout)
        assert told[0]["failures"] == ["at 5m: Recent should fire, and does not"]

    def test_a_file_without_tests_is_an_error(self, path):
        path.write_text(RULES.split("[[test]]", maxsplit=1)[0])
        done = run("rules", "test", str(path))
        assert done.returncode == 1
        assert "has no [[test]]; write one" in done.stderr

    def test_a_recording_is_replayed(self, path, tmp_path):
        recording = tmp_path / "fleet.ndjson"
        lines = [
            {"hub": {"taken_at": 1.7e9 + at, "name": "r"}, "workers": [], "total_requests": 100 * at,
             "total_errors": 20 * max(0, at - 60)}
            for at in range(120)
        ]  # fmt: skip
        recording.write_text("\n".join(map(json.dumps, lines)))
        done = run("rules", "test", str(path), "--recording", str(recording))
        assert done.returncode == 0
        assert "Recent is left out: the recording lacks p95_total_time" in done.stderr
        announced, summary = done.stdout.splitlines()
        assert "warning   hub r: error rate over 1m is" in announced
        assert summary == "1 announcement in 119s"


class TestExport:
    def test_it_writes_what_prometheus_reads_and_tells_what_is_left_out(self, path):
        done = run("rules", "export", str(path), "--match", 'job="r"')
        assert done.returncode == 0
        assert done.stdout.count("- alert: HighErrorRate\n") == 2
        assert 'errors_total{job="r"}[1m]' in done.stdout
        assert done.stderr.startswith("shmetrics: left out: Recent: Prometheus does not know the last 50")

    def test_into_a_file(self, path, tmp_path):
        target = tmp_path / "rules.yml"
        done = run("rules", "export", str(path), "--format", "prometheus", "--output", str(target))
        assert (done.returncode, done.stdout) == (0, "")
        assert target.read_text().startswith("# Written by `shmetrics rules export`.\n")

    def test_json_has_what_was_left_out_beside_it(self, path):
        told = strict_json(run("rules", "export", str(path), "--json").stdout)
        assert told["text"].startswith("# Written by")
        assert [text.split(":")[0] for text in told["left_out"]] == ["Recent"]

    def test_a_bad_matcher_is_an_error(self, path):
        done = run("rules", "export", str(path), "--match", "job")
        assert (done.returncode, done.stdout) == (1, "")
        assert "label matchers must be like" in done.stderr


def test_a_verb_below_is_wanted_and_help_has_examples():
    assert run("rules").returncode == 2
    for words in (("rules", "--help"), ("rules", "test", "--help")):
        assert "shmetrics rules export rules.toml --output rules.yml" in run(*words).stdout
