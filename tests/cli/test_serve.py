import signal
import time

import pytest

from shmetrics.aggregator import Aggregator
from shmetrics.hub import Hub
from shmetrics.process import Identity
from shmetrics.writer import Writer
from tests.cli import PATIENCE, strict_json, until, writing_to


@pytest.fixture
def hub(make_segment, hub_name):
    """The name of a hub without workers."""
    make_segment().close()
    return hub_name


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


def lines_of(path):
    """The complete lines in a file that is being written."""
    return path.read_text().split("\n")[:-1]


def test_it_prints_a_line_a_second(hub, output):
    start = time.monotonic()
    with writing_to(output, "serve", hub):
        until(lambda: len(lines_of(output)) >= 4, patience=10.0)
    assert time.monotonic() - start >= 2.0
    first, *rest = lines_of(output)
    assert first.startswith(f"leading hub '{hub}' (pid ")
    assert all("  0 live  0.0/s  p50 -  p95 -  " in line for line in rest)


def test_interval_sets_the_pace(hub, output):
    with writing_to(output, "serve", hub, "--interval", "60"):
        until(lambda: len(lines_of(output)) == 2)
        with Hub.attach(hub) as view:
            assert view.has_aggregator
    assert len(lines_of(output)) == 2


def test_json_is_an_object_a_line(hub, output):
    with writing_to(output, "serve", hub, "--json", "--interval", "0.05"):
        until(lambda: len(lines_of(output)) >= 3)
    event, *samples = map(strict_json, lines_of(output))
    assert event == {"event": "leader", "hub": hub}
    assert all(sample["total_requests"] == 0 for sample in samples)


def test_it_reaps_the_dead(make_segment, hub_name, output):
    segment = make_segment()
    writer = Writer(segment, identity=lambda role: Identity(1, 1, "dead"))
    writer.record(0.1)
    writer.close()
    with writing_to(output, "serve", hub_name, "--interval", "0.05"):
        until(lambda: segment.retired_index == 1)
        until(lambda: any(line.endswith("total 1") for line in lines_of(output)))


def test_a_standby_takes_over_within_a_second_of_a_sigkill(hub, output, tmp_path):
    second = tmp_path / "second"
    with writing_to(output, "serve", hub) as leader:
        until(lambda: lines_of(output))
        with writing_to(second, "serve", hub, "--json"):
            until(lambda: lines_of(second))
            leader.kill()
            leader.wait(PATIENCE)
            until(lambda: len(lines_of(second)) >= 2, patience=1.0)
    events = [strict_json(line)["event"] for line in lines_of(second)[:2]]
    assert events == ["standby", "leader"]


def test_a_standby_says_so_and_prints_no_figures(make_segment, hub_name, output):
    with Aggregator(make_segment()) as leader:
        leader.try_lead()
        with writing_to(output, "serve", hub_name) as standby:
            until(lambda: lines_of(output))
            standby.terminate()
            assert standby.wait(PATIENCE) == 0
    assert lines_of(output) == [f"another aggregator leads hub '{hub_name}'; standing by"]


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_quietly_and_gives_the_role_up(hub, output, sent, status):
    with writing_to(output, "serve", hub) as process:
        until(lambda: len(lines_of(output)) >= 2)
        process.send_signal(sent)
        assert process.wait(PATIENCE) == status
        assert process.stderr.read() == ""
    with Hub.attach(hub) as view:
        assert not view.has_aggregator


def test_the_figures_it_prints_are_the_hubs(make_segment, hub_name, output):
    segment = make_segment()
    writer = Writer(segment)
    for _ in range(3):
        writer.record(0.0123)
    with writing_to(output, "serve", hub_name, "--interval", "0.05"):
        until(lambda: len(lines_of(output)) >= 2)
    writer.close()
    assert "  1 live  " in lines_of(output)[1]
    assert "  p95 12.3 ms  err 0.00 %  total 3" in lines_of(output)[1]
