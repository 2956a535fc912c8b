"""One file of rules, a gunicorn that degrades, and three that judge it: ours, a live Prometheus, and Alertmanager."""

import json
import re
import threading
import urllib.request

from tests.cli import run, until, writing_to
from tests.exporters import services
from tests.exporters.alerts.receivers import web_sink
from tests.gunicorns import gunicorns, ready

APP = """
from shmetrics import PerformanceMetrics

metrics = PerformanceMetrics(window_size=200, max_workers=8)

def app(environ, start_response):
    bad = environ["PATH_INFO"] == "/bad"
    metrics.update_inference(inference_time=0.4 if bad else 0.01)
    if bad:
        metrics.record_error()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""

RULES = """
[[rule]]
name = "HighErrorRate"
statistic = "error_rate"
window = "10s"
above = 0.2
for = "1s"
severity = "critical"
min_samples = 10

[[rule]]
name = "SlowRequests"
statistic = "p95_total_time"
window = "10s"
above = 0.25

[[rule]]
name = "ManyDead"
statistic = "slots_dead"
above = 1000

[[receiver]]
type = "alertmanager"
url = "{manager}"
resend = "1s"

[[receiver]]
type = "webhook"
url = "{hook}"
severities = ["critical"]
"""

EXPECTED = {("HighErrorRate", "critical"), ("SlowRequests", "warning")}
SERVING = re.compile(r'"url": "http://(127\.0\.0\.1:\d+)/metrics"')


class Load:
    """A client that asks for a path again and again, which may be changed."""

    def __init__(self, server):
        self.path, self._server, self._stop = "/", server, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._stop.wait(0.02):
            assert self._server.get(self.path)[0] == 200

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._thread.join()


def told(path):
    """What `shmetrics serve --json` has announced: name, severity and state of each."""
    events = [json.loads(line) for line in path.read_text().splitlines()[:-1] if '"event": "alert"' in line]
    return [(each["alert"]["type"], each["alert"]["severity"], each["alert"]["state"]) for each in events]


def test_a_degradation_fires_the_same_alerts_here_at_prometheus_and_at_alertmanager(tmp_path, hub_name):
    with (
        web_sink() as hook,
        web_sink() as grouped,
        services.alertmanager(tmp_path, grouped.url) as manager,
        gunicorns(tmp_path, APP) as start,
    ):
        server = ready(start(hub=hub_name))
        definition, exported, output = (tmp_path / name for name in ("rules.toml", "rules.yml", "serve.ndjson"))
        definition.write_text(RULES.format(manager=manager.url, hook=hook.url))
        assert run("rules", "export", str(definition), "--output", str(exported)).returncode == 0
        with writing_to(output, "serve", server.hub, "--rules", str(definition), "--port", "0", "--json") as serving:
            until(lambda: serving.poll() is not None or SERVING.search(output.read_text()))
            address = SERVING.search(output.read_text())[1]
            with services.prometheus(tmp_path, address, rules=[exported]) as prometheus, Load(server) as load:
                until(lambda: prometheus.value("requests_total") >= 20)
                assert (told(output), prometheus.firing()) == ([], set())
                load.path = "/bad"
                until(lambda: len(told(output)) >= 2 and prometheus.firing() >= EXPECTED, patience=60.0)
                assert {(name, severity) for name, severity, _ in told(output)} == EXPECTED == prometheus.firing()
                until(lambda: len(manager.alerts()) == 2)
                assert labels_at(manager) == EXPECTED
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=services.PATIENCE) as page:
                    text = page.read().decode()
                assert 'shmetrics_alerts_firing{alertname="HighErrorRate",severity="critical"} 1.0' in text
                assert 'shmetrics_alert_receiver_failing{receiver="alertmanager"} 0.0' in text
                load.path = "/"
                until(lambda: len(told(output)) == 4 and not prometheus.firing(), patience=60.0)
                until(lambda: not manager.alerts())
            serving.terminate()
            assert serving.wait(services.PATIENCE) == 0
    assert sorted(told(output)) == sorted([
        ("HighErrorRate", "critical", "firing"), ("HighErrorRate", "info", "resolved"),
        ("SlowRequests", "warning", "firing"), ("SlowRequests", "info", "resolved"),
    ])  # fmt: skip
    assert [(body["type"], body["state"]) for body in hook.bodies] == [
        ("HighErrorRate", "firing"), ("HighErrorRate", "resolved"),
    ]  # fmt: skip
    groups = {body["groupLabels"]["alertname"]: body["status"] for body in grouped.bodies}
    assert groups.keys() == {"HighErrorRate", "SlowRequests"}


def labels_at(manager):
    return {(each["labels"]["alertname"], each["labels"]["severity"]) for each in manager.alerts()}
