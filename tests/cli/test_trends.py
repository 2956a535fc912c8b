import math
import re
import time

import pytest

from shmetrics.cli import main
from shmetrics.history_file import read
from shmetrics.writer import Writer
from tests.cli import PATIENCE, run_on_terminal, strict_json, until, writing_to


@pytest.fixture
def busy(make_segment, hub_name):
    """A hub whose traffic went from 5 to 15 requests a second in the last minute, most of it preprocessing."""
    moment = [0.0]
    writer = Writer(make_segment(window_size=1000), clock=lambda: moment[0])
    start = math.floor(time.monotonic()) - 60
    for second in range(60):
        for at in range(5 + second // 6):
            moment[0] = start + second + 0.05 * at
            writer.record(0.01, 1, 0.03)
    yield hub_name
    writer.close()


def lines_of(capsys, *arguments):
    assert main(["trends", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_people_see_trends_and_what_to_do(busy, capsys):
    first, _, head, throughput, latency, errors, *others = lines_of(capsys, busy)
    assert re.match(  # a second may pass before the look, and be one without requests
        rf"hub {busy}  over 1 min \d s of traffic  stability: (fair|good), by its throughput variation of 0\.", first
    )
    assert head.split() == ["trend", "direction", "a", "minute", "change", "confidence"]
    assert throughput.split()[:2] == ["throughput", "increasing"]
    assert latency.split()[:3] == ["latency", "stable", "+0"]
    assert errors.split()[:5] == ["error", "rate", "stable", "+0", "points"]
    at = others.index("bottlenecks, the worst first")
    assert others[at + 1].startswith("high    preprocessing: 75 % of total time, 30 ms a request")
    assert others[at + 2].startswith("    Prepare inputs in other threads")


def test_json_has_all_of_it(busy, capsys):
    document = strict_json("\n".join(lines_of(capsys, busy, "--json")))
    assert document["hub"] == busy
    assert document["throughput_trend"] == document["trends"]["throughput"]["direction"] == "increasing"
    assert document["bottlenecks"][0]["component"] == "preprocessing"
    assert document["stability"]["limited_by"] == "throughput_variation"


def test_over_says_how_far_back(busy, capsys):
    document = strict_json("\n".join(lines_of(capsys, busy, "--json", "--over", "40")))
    assert 39.0 <= document["seconds"] <= 40.0


def test_an_empty_hub_has_no_data(make_segment, hub_name, capsys):
    make_segment().close()
    lines = lines_of(capsys, hub_name)
    assert lines[0] == f"hub {hub_name}  over 0 s of traffic  stability: insufficient data"
    assert lines[3].split() == ["throughput", "insufficient", "data", "-", "-", "-"]
    assert lines[6] == "a trend needs 30 s of traffic, and 12 values or more in it"
    assert lines[-1] == "no bottlenecks"


def test_a_terminal_shows_colours(busy):
    assert "\x1b[31mhigh    preprocessing" in run_on_terminal("trends", busy)
    assert "\x1b" not in run_on_terminal("trends", busy, NO_COLOR="1")


def test_a_terminal_shows_no_line_that_it_would_break(busy):
    lines = run_on_terminal("trends", busy, NO_COLOR="1", COLUMNS="80").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("    ")  # the hub, its stability, and why


def test_a_file_that_is_no_history_is_an_error(busy, tmp_path, capsys):
    assert main(["trends", busy, "--history", str(tmp_path / "none")]) == 1
    assert "cannot read a history from" in capsys.readouterr().err


class TestHistory:
    """`serve --history` writes what `trends --history` reads."""

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "resnet.history"

    @pytest.fixture
    def writer(self, make_segment):
        writer = Writer(make_segment())
        yield writer
        writer.close()

    def serving(self, hub, path, output, *arguments):
        return writing_to(output, "serve", hub, "--history", str(path), "--interval", "0.05", *arguments)

    def ticks(self, output):
        return output.read_text().count(" live ")

    def test_a_sigkill_of_the_aggregator_loses_no_request(self, writer, hub_name, path, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        with self.serving(hub_name, path, first) as aggregator:
            until(lambda: self.ticks(first))
            for _ in range(7):
                writer.record(0.1)
            until(lambda: "total 7" in first.read_text())
            aggregator.kill()
            aggregator.wait(PATIENCE)
        for _ in range(5):
            writer.record(0.2)
        with self.serving(hub_name, path, second) as aggregator:
            until(lambda: self.ticks(second))
            for _ in range(3):
                writer.record(0.4)
            until(lambda: "total 15" in second.read_text())
            aggregator.terminate()
            aggregator.wait(PATIENCE)
            assert aggregator.stderr.read() == ""
        window = read(str(path), hub_name).window(3600.0)
        assert window.requests == 15
        assert window.percentile("total_time", 100.0) == pytest.approx(0.4, rel=0.011)

    def test_what_is_wrong_with_the_file_is_said_and_the_aggregator_goes_on(self, writer, hub_name, path, tmp_path):
        output = tmp_path / "output"
        path.write_text("thresholds = 5\n")
        with self.serving(hub_name, path, output):
            until(lambda: self.ticks(output) > 2)
        assert output.read_text().splitlines()[1].startswith(f"going on without a history file: {path}: it is not a")
        assert path.read_text() == "thresholds = 5\n"

    def test_json_says_it_as_an_event(self, writer, hub_name, path, tmp_path):
        output = tmp_path / "output"
        path.mkdir()
        with self.serving(hub_name, path, output, "--json"):
            until(lambda: output.read_text().count("\n") > 3)
        event = strict_json(output.read_text().splitlines()[1])
        assert (event["event"], event["hub"]) == ("history", hub_name)
        assert event["message"].endswith("it is not a regular file; name another")

    def test_a_standby_opens_the_file_when_it_leads(self, writer, hub_name, path, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        with writing_to(first, "serve", hub_name, "--interval", "0.05") as leader:
            until(lambda: self.ticks(first))
            with self.serving(hub_name, path, second):
                until(lambda: "standing by" in second.read_text())
                assert not path.exists()
                leader.kill()
                until(lambda: self.ticks(second))
                assert path.exists()

    def test_trends_reads_it(self, writer, hub_name, path, tmp_path, capsys):
        output = tmp_path / "output"
        with self.serving(hub_name, path, output) as aggregator:
            until(lambda: self.ticks(output) > 2)
            aggregator.terminate()
            aggregator.wait(PATIENCE)
        assert "insufficient data" in "".join(lines_of(capsys, hub_name, "--history", str(path), "--over", "86400"))
