"""A live gunicorn with four workers, `shmetrics serve` beside it, and a real Prometheus that scrapes that."""

import http.client
import os
import re
import signal
import threading
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlencode

import numpy as np
import pytest

from shmetrics.exporters.prometheus import BATCH_BUCKETS, DURATION_BUCKETS
from tests.cli import run, until, writing_to
from tests.exporters import services
from tests.gunicorns import WORKERS, gunicorns, ready

APP = '''
import os
from urllib.parse import parse_qsl
from shmetrics import CustomMetrics, PerformanceMetrics

metrics = PerformanceMetrics(window_size=1000, max_workers=8, max_series=64)
custom = CustomMetrics(metrics)
tokens = custom.counter("tokens_total", "Tokens.", labels=["model"])
waits = custom.histogram("wait_seconds", "Waiting.", labels=["model"], buckets=[0.001, 0.01])

def app(environ, start_response):
    """Record what the query says."""
    asked = dict(parse_qsl(environ["QUERY_STRING"]))
    model, trace = asked.pop("model"), asked.pop("trace", None)
    exemplar = trace and {"trace_id": trace}
    tokens.labels(model=model).inc(int(asked["batch_size"]), exemplar=exemplar)
    waits.labels(model=model).observe(float(asked["preprocessing_time"]), exemplar=exemplar)
    metrics.update_inference(**{name: float(value) for name, value in asked.items()})
    if exemplar:
        metrics.record_exemplar(float(asked["inference_time"]), exemplar)
    if environ["PATH_INFO"] == "/error":
        metrics.record_error()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
'''

MODELS = ("small", 'la"rge\\é')
FRACTIONS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


class Scraped:
    """A Prometheus, and the server whose fleet it sees."""

    def __init__(self, server, prometheus):
        self.server, self.prometheus = server, prometheus

    def wait_for_total(self, total):
        until(lambda: self.prometheus.value("requests_total") >= total)

    def wait_for_scrapes(self, count):
        """As many more as there were."""
        wanted = len(self.prometheus.history("requests_total")) + count
        until(lambda: len(self.prometheus.history("requests_total")) >= wanted)


@pytest.fixture
def server(tmp_path, hub_name):
    """A gunicorn whose workers have their slots."""
    with gunicorns(tmp_path, APP) as start:
        yield ready(start(hub=hub_name))


@pytest.fixture
def scraped(server, tmp_path):
    """Prometheus needs five seconds before its first scrape, so tests with it are few and large."""
    with serving(server.hub, tmp_path) as address, services.prometheus(tmp_path, address) as prometheus:
        until(lambda: prometheus.value("requests_total") == 0)
        yield Scraped(server, prometheus)


@contextmanager
def serving(hub, directory):
    """The address at which `shmetrics serve` serves."""
    output = directory / "serve"
    with writing_to(output, "serve", hub, "--port", "0") as process:
        pattern = re.compile(r"serving http://(127\.0\.0\.1:\d+)/metrics\n")
        until(lambda: process.poll() is not None or pattern.search(output.read_text()))
        assert process.poll() is None, process.stderr.read()
        yield pattern.search(output.read_text())[1]
        process.terminate()
        assert process.wait(services.PATIENCE) == 0


def requests(seed, count):
    """Requests as they are asked for: every measure, and a model."""
    rng = np.random.default_rng(seed)
    times = {
        "inference_time": rng.lognormal(-3.0, 1.5, count),
        "preprocessing_time": rng.exponential(0.002, count),
        "quantization_time": rng.uniform(0.0, 0.01, count),
    }
    batches, models = rng.integers(1, 65, count), rng.choice(MODELS, count)
    return [
        {name: float(values[at]) for name, values in times.items()}
        | {"batch_size": int(batches[at]), "model": str(models[at])}
        for at in range(count)
    ]


def path(request, error=False):
    return f"{'/error' if error else '/'}?{urlencode(request)}"


# What arrives ---------------------------------------------------------------------------------------------------------


def test_what_prometheus_has_is_what_was_sent(scraped):
    sent = requests(1, 240)
    answers = [scraped.server.get(path(request, error=at % 10 == 0)) for at, request in enumerate(sent)]
    assert {status for status, _ in answers} == {200}
    scraped.wait_for_total(240)
    value = scraped.prometheus.value
    assert (value("requests_total"), value("errors_total")) == (240, 24)
    for model in MODELS:
        counted = scraped.prometheus.query("tokens_total")
        tokens = sum(request["batch_size"] for request in sent if request["model"] == model)
        assert [number for labels, number in counted if labels["model"] == model] == [tokens]
    check_histogram(scraped.prometheus, "inference_duration_seconds", [each["inference_time"] for each in sent])
    check_window(scraped.prometheus, "inference_window_duration_seconds", [each["inference_time"] for each in sent])
    check_histogram(scraped.prometheus, "batch_size_total", [each["batch_size"] for each in sent], BATCH_BUCKETS)
    assert value("sum(shmetrics_worker_requests_total)") == 240
    assert value("count(shmetrics_worker_resident_memory_bytes > 1e6)") == WORKERS
    assert [(target["health"], target["lastError"]) for target in scraped.prometheus.targets()] == [("up", "")]


def check_histogram(prometheus, name, sent, bounds=DURATION_BUCKETS):
    """Every bucket exactly, and Prometheus' own quantiles in the right bucket."""
    values = np.sort(np.array(sent, float))
    buckets = {labels["le"]: count for labels, count in prometheus.query(f"{name}_bucket")}
    assert buckets.pop("+Inf") == prometheus.value(f"{name}_count") == len(values)
    assert {float(bound): count for bound, count in buckets.items()} == {
        bound: np.count_nonzero(values <= bound) for bound in bounds
    }
    assert prometheus.value(f"{name}_sum") == pytest.approx(values.sum(), rel=1e-12)
    for fraction in FRACTIONS:
        exact = np.quantile(values, fraction, method="inverted_cdf")  # the value of that rank, as Prometheus counts
        told = prometheus.value(f"histogram_quantile({fraction}, {name}_bucket)")
        assert np.searchsorted(bounds, told) == np.searchsorted(bounds, exact), (fraction, told, exact)


def check_window(prometheus, name, sent):
    """The percentiles of the window, which has all records still, are exact."""
    told = {labels["percentile"]: value for labels, value in prometheus.query(name)}
    assert told == {text: pytest.approx(np.percentile(sent, float(text)), rel=1e-12) for text in ("50", "95", "99")}


def test_exemplars_arrive_with_the_trace_of_their_request_and_the_slowest_is_there(scraped):
    sent = [request | {"trace": f"trace-{at}"} for at, request in enumerate(requests(3, 120))]
    for request in sent:
        scraped.server.get(path(request))
    scraped.wait_for_total(120)
    scraped.wait_for_scrapes(2)
    exemplars = scraped.prometheus.exemplars
    found = exemplars("inference_duration_seconds_bucket")
    check_exemplars(found, DURATION_BUCKETS, {each["trace"]: each["inference_time"] for each in sent})
    slowest = max(sent, key=lambda each: each["inference_time"])
    assert slowest["trace"] in {trace for _, trace, _ in found}
    for model in MODELS:
        mine = [each for each in sent if each["model"] == model]
        found = [each for each in exemplars("wait_seconds_bucket") if each[0]["model"] == model]
        check_exemplars(found, (0.001, 0.01), {each["trace"]: each["preprocessing_time"] for each in mine})
        found = [each for each in exemplars("tokens_total") if each[0]["model"] == model]
        assert {(trace, value) for _, trace, value in found} <= {(each["trace"], each["batch_size"]) for each in mine}
        assert found


def check_exemplars(found, bounds, sent):
    """Each is of a request that was sent, with its value, in the bucket where that belongs. ``sent``: by trace."""
    assert found
    for labels, trace, value in found:
        assert sent[trace] == pytest.approx(value, rel=1e-12)
        at = np.searchsorted(bounds, value)
        assert float(labels["le"]) == (bounds[at] if at < len(bounds) else np.inf)


# When workers are killed ----------------------------------------------------------------------------------------------


class Load:
    """Clients that ask until told to stop, and count their answers; usable as a context manager."""

    def __init__(self, server, clients=3):
        self.responses = [0] * clients
        self.interrupted = [0] * clients
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(at,)) for at in range(clients)]

    def _ask(self, at):
        asked = path(requests(at, 1)[0])
        while not self._stop.wait(0.005):
            try:
                self.responses[at] += self._server.get(asked)[0] == 200
            except (OSError, http.client.HTTPException):
                self.interrupted[at] += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_totals_never_go_down_when_workers_are_killed(scraped):
    victims = []
    with Load(scraped.server) as load:
        for _ in range(3):
            victim = next(iter(scraped.server.pids() - set(victims)))
            victims.append(victim)
            os.kill(victim, signal.SIGKILL)
            until(lambda: len(scraped.server.pids() - set(victims)) == WORKERS)
            scraped.wait_for_scrapes(3)
    done = sum(load.responses)
    scraped.wait_for_total(done)
    last = scraped.prometheus.history("requests_total")[-1]
    assert 50 < done <= last <= done + sum(load.interrupted)
    assert scraped.prometheus.value("shmetrics_workers_seen_total") == WORKERS + len(victims)
    for total in ("requests_total", "inference_duration_seconds_count", "inference_duration_seconds_sum"):
        history = scraped.prometheus.history(total)
        assert history == sorted(history)
        assert scraped.prometheus.value(f"resets({total}[10m])") == 0
    for model in MODELS:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"')
        history = scraped.prometheus.history(f'tokens_total{{model="{escaped}"}}')
        assert history == sorted(history)


# promtool -------------------------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_but_the_name_that_was_promised(server, tmp_path):
    server.get(path(requests(1, 1)[0]))
    exported = run("export", server.hub, "--format", "prometheus").stdout.encode()
    with serving(server.hub, tmp_path) as address:
        served = urllib.request.urlopen(f"http://{address}/metrics", timeout=services.PATIENCE).read()
    for page in (served, exported):
        assert services.check_metrics(page) == ['batch_size_total non-counter metrics should not have "_total" suffix']
