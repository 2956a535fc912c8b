"""The examples of the original documentation, each run with only its import line changed (`tests/seed`)."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

SEED = Path(__file__).parent / "seed"
SPEED = 40
"""The examples sleep for minutes; their clock runs this much faster. shmetrics' own is left alone."""

_RUNNER = f"""
import runpy, sys, time
import shmetrics
sleep, now, start = time.sleep, time.time, time.time()
time.sleep = lambda seconds: sleep(seconds / {SPEED})
time.time = lambda: start + (now() - start) * {SPEED}
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("example", "requests"), [("basic_tracking", "100"), ("multi_threaded", r"\d{3,}"), ("best_practices", "60")]
)
def test_an_example_of_the_original_documentation_runs(example, requests):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUNNER, str(SEED / f"{example}.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(rf"(?:Total requests(?: processed)?: |^){requests}$", done.stdout, re.MULTILINE), done.stdout


def test_the_example_of_custom_metrics_runs():
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SEED / "custom_metrics.py")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^  model_accuracy: .*'value': 0.945", done.stdout, re.MULTILINE)
    assert re.search(r"^  data_freshness: .*'count': 1.0, 'sum': 8.5", done.stdout, re.MULTILINE)
    assert re.search(r"^  feature_drift: .*'age'.*'value': 1.0", done.stdout, re.MULTILINE)


def test_the_example_of_alerts_runs_and_says_what_is_wrong_once():
    """At its own pace: 20 errors and nothing else; 10 slow requests, ten a second; 30 cache misses; and no hit."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SEED / "alerts.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(CRITICAL|WARNING):root:\w+(?: ALERT)?: hub \S+: (\w+ \w+)", done.stderr, re.MULTILINE)
    assert sorted(told) == [  # each handler has a thread of its own
        ("CRITICAL", "error rate"),
        ("CRITICAL", "p95 total"),
        ("CRITICAL", "throughput over"),
        ("WARNING", "cache hit"),
    ]
    assert len(done.stderr.splitlines()) == len(told), done.stderr
    assert "  Total alerts: 4\n  Critical alerts: 3\n  Warning alerts: 1\n" in done.stdout
    assert "   Current value: 0.26\n   Threshold: 0.1\n" in done.stdout


_DRAWING = """
import runpy, sys, types
for name in ("matplotlib", "matplotlib.pyplot", "pandas"):  # the example imports them and uses neither
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_the_example_of_analytics_runs():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRAWING, str(SEED / "analytics.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^  Throughput trend: insufficient_data$", done.stdout, re.MULTILINE)
    assert re.search(r"^  cache: high impact\n    Recommendation: .*\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^CSV export: \d+ columns$", done.stdout, re.MULTILINE)
    assert "\nrequests_total 50.0\n" in done.stdout


def test_the_example_of_profiling_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SEED / "profiling.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "  Function calls: 1\n" in done.stdout
    total = float(re.search(r"^  Total time: ([\d.]+)s$", done.stdout, re.MULTILINE)[1])
    parts = re.findall(r"^    \S.*: ([\d.]+)s \([\d.]+%\)$", done.stdout, re.MULTILINE)
    assert sum(map(float, parts)) == pytest.approx(total, abs=0.001)
    assert "complex_ml_operation" in (tmp_path / "performance_profile.html").read_text()


_SCRAPE = """
import fcntl, runpy, socket, struct, sys, urllib.request
import prometheus_client
servers, start = [], prometheus_client.start_http_server
prometheus_client.start_http_server = lambda *args: servers.append(start(*args))
if sys.argv[2] == "alone":  # in a network of our own, whose loopback is down at first
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
runpy.run_path(sys.argv[1], run_name="__main__")
with urllib.request.urlopen("http://localhost:8000/metrics") as answer:
    print(answer.read().decode())
for server, thread in servers:
    server.shutdown()
    server.server_close()
    thread.join()
"""


def _network_of_its_own():
    """What starts a command where every port is free, and whether there is such a thing here."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    return command if allowed else []


def test_the_example_of_prometheus_runs():
    alone = _network_of_its_own()
    command = [*alone, sys.executable, "-W", "error", "-c", _SCRAPE, str(SEED / "prometheus.py")]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(
            [*command, "alone" if alone else "beside others"], capture_output=True, text=True, timeout=60
        )
        if "Address already in use" not in done.stderr or time.monotonic() > deadline:
            break
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    page = {family.name: family for family in text_string_to_metric_families(done.stdout.split("/metrics\n")[1])}
    for name, kind in (
        ("inference_duration_seconds", "histogram"),
        ("batch_size_total", "histogram"),
        ("requests", "counter"),
        ("errors", "counter"),
        ("cache_hits", "counter"),
        ("cache_misses", "counter"),
        ("throughput_requests_per_second", "gauge"),
    ):
        assert page[name].type == kind
    memory = page["model_memory_usage_bytes"]
    assert (memory.documentation, memory.type) == ("Memory usage of loaded models", "gauge")
    assert [sample.value for sample in memory.samples] == [512 * 1024 * 1024]
