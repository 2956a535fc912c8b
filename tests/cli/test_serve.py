import fcntl
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest

from shmetrics.aggregator import Aggregator
from shmetrics.hub import Hub
from shmetrics.process import Identity
from shmetrics.writer import Writer
from tests.cli import PATIENCE, run, started, strict_json, struck, until, writing_to


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


@pytest.mark.parametrize("as_json", [False, True])
def test_quiet_it_prints_only_what_an_operator_should_know_and_once(make_segment, hub_name, output, as_json):
    segment = make_segment()
    writer = Writer(segment)
    writer.record(float("nan"), 1.0, 0.0, 0.0)
    arguments = ["serve", hub_name, "--quiet", "--interval", "0.02", *(["--json"] if as_json else [])]
    with writing_to(output, *arguments):
        until(lambda: lines_of(output))
        writer.record(float("inf"), 1.0, 0.0, 0.0)
        with Hub.attach(hub_name) as view:
            until(lambda: view.statistics()["invalid_records"] == 2)
        time.sleep(0.2)
    writer.close()
    (line,) = lines_of(output)
    text = strict_json(line)["finding"] if as_json else line.removeprefix("shmetrics: ")
    assert re.match(r"\d records with NaN", text)


def test_quiet_it_goes_on_where_its_words_are_lost(make_segment, hub_name):
    """It is beside a server then, whose log has a full disk, say."""
    writer = Writer(make_segment())
    with (
        open("/dev/full", "w") as full,
        started("serve", hub_name, "--quiet", "--interval", "0.02", stdout=full) as process,
        Hub.attach(hub_name) as view,
    ):
        until(lambda: view.has_aggregator)
        writer.record(float("nan"), 1.0, 0.0, 0.0)
        until(lambda: view.statistics()["findings"])
        writer.record(0.5)
        until(lambda: view.statistics()["peak_throughput"] > 0.0)
        process.terminate()
        assert process.wait(PATIENCE) == 0
    writer.close()


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


def test_a_standby_says_which_of_its_flags_wait(make_segment, hub_name, output, tmp_path):
    history = str(tmp_path / "history")
    with Aggregator(make_segment()) as leader:
        leader.try_lead()
        with writing_to(output, "serve", hub_name, "--history", history, "--postmortem-dir", str(tmp_path)) as standby:
            until(lambda: lines_of(output))
            standby.terminate()
            assert standby.wait(PATIENCE) == 0
    (line,) = lines_of(output)
    assert (
        "; until it ends, nothing is done here about --history, --postmortem-dir, which `shmetrics run` takes as well"
        in line
    )


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_quietly_and_gives_the_role_up(hub, output, sent, status):
    with writing_to(output, "serve", hub) as process:
        until(lambda: len(lines_of(output)) >= 2)
        process.send_signal(sent)
        assert process.wait(PATIENCE) == status
        assert process.stderr.read() == ""
    with Hub.attach(hub) as view:
        assert not view.has_aggregator


@pytest.mark.parametrize(
    "rules",
    ["", '[[rule]]\nname = "Errors"\nstatistic = "error_rate"\nlast = 50\nabove = 0.1\n'],
    ids=["without rules", "with rules"],
)
def test_a_sigterm_that_comes_where_exceptions_are_lost_ends_it_after_a_last_sample(hub, tmp_path, rules):
    (tmp_path / "rules.toml").write_text(rules)
    arguments = ["serve", hub, *(["--rules", str(tmp_path / "rules.toml")] if rules else [])]
    done = run(*arguments, "--interval", "60", program=struck(signal.SIGTERM, "  0 live  "))
    assert (done.returncode, done.stderr) == (0, "")
    assert [("  0 live  " in line) for line in done.stdout.splitlines()] == [False, True, True]


def test_a_sigterm_that_comes_where_exceptions_are_lost_ends_a_standby(make_segment, hub_name):
    with Aggregator(make_segment()) as leader:
        leader.try_lead()
        done = run("serve", hub_name, program=struck(signal.SIGTERM, "standing by"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"another aggregator leads hub '{hub_name}'; standing by\n"


def test_further_sigterms_end_it_though_nobody_reads_what_it_prints(hub):
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))  # it is full
    with open(reading), started("serve", hub, stdout=writing) as process, Hub.attach(hub) as view:
        os.close(writing)
        until(lambda: view.has_aggregator)
        until(lambda: process.terminate() or process.poll() is not None, pause=0.1)


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


class TestPages:
    """With --port it serves the fleet to Prometheus, beside its ticks."""

    def get(self, url):
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.read().decode()

    def url(self, output):
        """Where it says that it serves."""
        return until(lambda: lines_of(output))[0].removeprefix("serving ")

    def test_the_fleet_is_served_while_it_leads(self, make_segment, hub_name, output):
        writer = Writer(make_segment())
        writer.record(0.25)
        with writing_to(output, "serve", hub_name, "--port", "0"):
            url = self.url(output)
            until(lambda: len(lines_of(output)) >= 3)
            page = self.get(url)
            assert self.get(url.replace("/metrics", "/healthz")) == "ok\n"
            assert self.get(url.replace("/metrics", "/readyz")) == "ready\n"
        writer.close()
        assert "\nrequests_total 1.0\n" in page
        assert lines_of(output)[1].startswith("leading hub ")

    def test_a_standby_serves_too(self, hub, output, tmp_path):
        second = tmp_path / "second"
        with writing_to(output, "serve", hub, "--port", "0"), writing_to(second, "serve", hub, "--port", "0"):
            urls = [self.url(each) for each in (output, second)]
            pages = [self.get(url) for url in urls]
        assert urls[0] != urls[1]
        assert all("\nrequests_total 0.0\n" in page for page in pages)

    def test_json_says_where(self, hub, output):
        with writing_to(output, "serve", hub, "--port", "0", "--json"):
            event = strict_json(until(lambda: lines_of(output))[0])
            assert "requests_total" in self.get(event.pop("url"))
        assert event == {"event": "serving", "hub": hub}

    def test_the_environment_names_port_and_host(self, hub, output):
        with writing_to(output, "serve", hub, SHMETRICS_PORT="0", SHMETRICS_HOST="127.0.0.2"):
            url = self.url(output)
            assert url.startswith("http://127.0.0.2:")
            assert self.get(url)

    def test_the_variable_that_kubernetes_makes_of_a_service_called_shmetrics_is_no_port(self, hub, output):
        with writing_to(output, "serve", hub, SHMETRICS_PORT="tcp://10.0.0.1:80"):
            assert until(lambda: lines_of(output))[0].startswith("leading hub ")

    def test_a_port_in_use_is_an_error(self, hub):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = run("serve", hub, "--port", str(port))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"shmetrics: cannot listen on port {port} of 127.0.0.1: ")

    @pytest.mark.parametrize("port", ["x", "-1", "65536", "", "1.5", "\u0663"])
    def test_what_is_no_port_is_wrong_usage(self, hub, port):
        done = run("serve", hub, f"--port={port}")
        assert done.returncode == 2
        assert "from 0 to 65535" in done.stderr

    def test_a_removed_hub_is_no_longer_ready(self, hub, output):
        with writing_to(output, "serve", hub, "--port", "0"):
            ready = self.url(output).replace("/metrics", "/readyz")
            assert self.get(ready) == "ready\n"
            assert run("rm", "--force", hub).returncode == 0
            with pytest.raises(urllib.error.HTTPError, match="503"):
                self.get(ready)

    @pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_a_signal_ends_it_quietly_though_a_client_hangs_on(self, hub, output, sent, status):
        with writing_to(output, "serve", hub, "--port", "0") as process:
            port = int(self.url(output).split(":")[2].split("/")[0])
            with socket.create_connection(("127.0.0.1", port)):
                until(lambda: len(lines_of(output)) >= 3)
                process.send_signal(sent)
                assert process.wait(PATIENCE) == status
            assert process.stderr.read() == ""
