"""Where the face's metrics live when nobody says so, and what the default registry shows: in processes of their own."""

import os
import re
import subprocess
import sys

import pytest

PAGE = """
from shmetrics.exporters.prometheus import *
from shmetrics.exporters import prometheus as face
def page():
    print(generate_latest().decode())
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PAGE + code],
        capture_output=True, text=True, timeout=60, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def value(page, name):
    """The value of the only sample called so."""
    [found] = re.findall(rf"^{re.escape(name)} (.*)$", page, re.MULTILINE)
    return float(found)


def test_metrics_made_at_import_count_in_forked_children_without_any_setting():
    done = run("""
import multiprocessing
served = Counter("served", "help")
by_model = Histogram("latency", "help", ["model"])
def work():
    served.inc(2)
    by_model.labels("a").observe(1)
children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
for child in children: child.start()
for child in children: child.join()
page()
""")
    assert value(done.stdout, "served_total") == 6.0
    assert value(done.stdout, 'latency_count{model="a"}') == 3.0
    assert done.stderr == ""


def test_processes_that_name_one_hub_share_it_and_show_what_the_others_defined(hub_name):
    environment = {"SHMETRICS_HUB": hub_name}
    run('Counter("shared", "help").inc(2); Gauge("others", "help", ["a"], multiprocess_mode="sum").labels("x").set(3)',
        **environment)  # fmt: skip
    done = run('Counter("shared", "help").inc(3); Counter("hidden", "help", registry=None); page()', **environment)
    assert value(done.stdout, "shared_total") == 5.0
    assert value(done.stdout, 'others{a="x"}') == 3.0
    assert "hidden" not in done.stdout


def test_importing_makes_no_hub():
    assert run("import os; print([f for f in os.listdir('/dev/shm') if str(os.getpid()) in f])").stdout == "[]\n"


def test_an_exporter_of_the_same_hub_on_the_default_registry_shows_nothing_twice():
    done = run("""
from shmetrics import PerformanceMetrics, CustomMetrics, PrometheusExporter
metrics = PerformanceMetrics()
PrometheusExporter(metrics)
use(metrics)
Counter("mine", "help").inc()
CustomMetrics(metrics).counter("theirs").inc()
page()
""")
    for name in ("mine_total", "theirs_total", "requests_total"):
        value(done.stdout, name)


def test_a_hub_must_be_chosen_before_metrics_are_made():
    done = run("""
from shmetrics import PerformanceMetrics
Counter("c", "help")
try:
    use(PerformanceMetrics())
except RuntimeError as error:
    print(error)
""")
    assert "before the module that makes them is imported" in done.stdout


def test_the_default_registry_can_be_scraped_by_http_wsgi_and_asgi():
    done = run("""
import asyncio, urllib.request
from wsgiref.util import setup_testing_defaults
Counter("c", "help").inc()
server, thread = start_http_server(0, "127.0.0.1")
with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
    print(answer.read().decode())
server.shutdown(); server.server_close(); thread.join()
environ = {}
setup_testing_defaults(environ)
print(b"".join(make_wsgi_app()(environ, lambda *_: None)).decode())
print(b"".join(make_wsgi_app(registry=REGISTRY, disable_compression=True)(environ, lambda *_: None)).decode())
async def send(message):
    print(message.get("body", b"").decode())
async def receive():
    return {"type": "http.request"}
scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
asyncio.run(make_asgi_app()(scope, receive, send))
""")
    assert re.findall(r"^c_total (.*)$", done.stdout, re.MULTILINE) == ["1.0"] * 4


def test_what_else_the_original_offers_is_handed_on():
    import prometheus_client

    from shmetrics.exporters import prometheus

    for name in prometheus_client.__all__:
        assert getattr(prometheus, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = prometheus.nonsense
