"""Real services that tests start on loopback: Debian's Prometheus with promtool, and its Alertmanager with amtool.

`program` finds a browser as well (tests/browsers.py), and Redis (tests/celeries.py).

Where one is not installed its tests are skipped, which says how to get it; with SHMETRICS_TEST_SERVICES=require, as in
CI, they fail.
"""

import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress

import pytest

from tests.cli import until

VARIABLE = "SHMETRICS_TEST_SERVICES"
PATIENCE = 30.0
_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "redis-server": "redis-server",
}

_CONFIG = """
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  evaluation_interval: {interval}
rule_files: {rules}
scrape_configs:
  - job_name: shmetrics
    static_configs:
      - targets: {targets}
"""
_ALERTMANAGER = """
route:
  receiver: sink
  group_by: [alertname, hub]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: sink
    webhook_configs:
      - url: {url}
        send_resolved: true
"""
_LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')


def program(name):
    """The path of a service's program; without it the test is skipped, or fails where services are required."""
    path = shutil.which(name)
    if path is None:
        lack = f"{name} is not installed; on Debian: apt-get install {_PACKAGES[name]}"
        if os.environ.get(VARIABLE) == "require":
            pytest.fail(f"{lack} ({VARIABLE}=require)")
        pytest.skip(lack)
    return path


class Prometheus:
    """A Prometheus that runs, by its HTTP API."""

    def __init__(self, port):
        self._root = f"http://127.0.0.1:{port}"

    def get(self, path, **parameters):
        """The body of one answer."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        with urllib.request.urlopen(f"{self._root}{path}?{query}", timeout=PATIENCE) as response:
            return response.read()

    def api(self, path, **parameters):
        """The data of one call of the API, which succeeded."""
        answer = json.loads(self.get(f"/api/v1/{path}", **parameters))
        assert answer["status"] == "success", answer
        return answer["data"]

    def ready(self):
        """Whether it answers queries."""
        with suppress(urllib.error.URLError):  # an HTTPError, 503, is one too
            self.get("/-/ready")
            return True
        return False

    def query(self, expression):
        """An instant vector now: a list of pairs, the labels and the value."""
        result = self.api("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def value(self, expression):
        """The value of an expression that has one sample; NaN while it has none."""
        samples = self.query(expression)
        assert len(samples) <= 1, samples
        return samples[0][1] if samples else math.nan

    def history(self, series, period="10m"):
        """Every value that was scraped of one series, oldest first."""
        result = self.api("query", query=f"{series}[{period}]")["result"]
        assert len(result) <= 1, result
        return [float(value) for _, value in result[0]["values"]] if result else []

    def firing(self):
        """The alerts that fire: pairs of names and severities."""
        alerts = self.api("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"]["severity"]) for a in alerts if a["state"] == "firing"}

    def exemplars(self, selector, period=600.0):
        """Every exemplar of some series in the last `period` seconds: their labels, its ``trace_id``, its value."""
        now = time.time()
        found = self.api("query_exemplars", query=selector, start=now - period, end=now)
        exemplars = [(series["seriesLabels"], exemplar) for series in found for exemplar in series["exemplars"]]
        assert all(now - period < exemplar["timestamp"] <= now for _, exemplar in exemplars)
        return [(labels, exemplar["labels"]["trace_id"], float(exemplar["value"])) for labels, exemplar in exemplars]

    def targets(self):
        """What it scrapes, and how that goes."""
        return self.api("targets", state="active")["activeTargets"]


@contextmanager
def prometheus(directory, *targets, interval="500ms", rules=()):
    """A Prometheus that scrapes these addresses (``127.0.0.1:8000``) again and again; its data go into `directory`.

    ``rules``: paths of files of rules.
    """
    path = program("prometheus")
    config, log = directory / "prometheus.yml", directory / "prometheus.log"
    files = json.dumps([str(path) for path in rules])
    config.write_text(_CONFIG.format(interval=interval, targets=json.dumps(targets), rules=files))
    command = [path, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    command += ["--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage", "--log.format=logfmt"]
    with _running(command, log) as port:
        running = Prometheus(port)
        until(running.ready, PATIENCE)
        yield running


@contextmanager
def _running(command, log):
    """The port on which a service listens, which says so in its log."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=output)
    try:
        until(lambda: process.poll() is not None or _LISTENING.search(log.read_text()), PATIENCE)
        found = _LISTENING.search(log.read_text())
        assert found is not None, log.read_text()
        yield int(found[1])
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Alertmanager:
    """An Alertmanager that runs, by its HTTP API and by amtool."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def ready(self):
        """Whether it answers."""
        with suppress(urllib.error.URLError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=PATIENCE):
            return True
        return False

    def alerts(self):
        """What it knows to be active, as its API says."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=PATIENCE) as response:
            return json.loads(response.read())

    def amtool(self, *arguments):
        """What amtool says as JSON."""
        command = [program("amtool"), f"--alertmanager.url={self.url}", "--output=json", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done
        return json.loads(done.stdout)


@contextmanager
def alertmanager(directory, url, port=0):
    """An Alertmanager that tells this URL of groups of alerts; its data go into `directory`."""
    path = program("prometheus-alertmanager")
    config = directory / "alertmanager.yml"
    config.write_text(_ALERTMANAGER.format(url=url))
    command = [path, f"--config.file={config}", f"--storage.path={directory / 'alertmanager'}", "--log.format=logfmt"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with _running(command, directory / "alertmanager.log") as listening:
        running = Alertmanager(listening)
        until(running.ready, PATIENCE)
        yield running


def promtool(*arguments):
    """What a finished promtool said, which found nothing wrong."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_metrics(page):
    """The findings of ``promtool check metrics`` on a page in the text format, sorted; a name comes first in each.

    It ends with 0 without findings, 3 with some, 1 when it cannot read the page.
    """
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=PATIENCE, check=False
    )
    findings = sorted(done.stderr.decode().splitlines())
    assert done.returncode == (3 if findings else 0), done
    return findings
