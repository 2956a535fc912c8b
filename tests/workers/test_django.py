"""Django's route middleware, under real Django in a process of its own: its settings are global."""

import json
import subprocess
import sys

import pytest

SITE = """
import asyncio, io, json, sys
from wsgiref.util import setup_testing_defaults
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path, re_path
from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.workers import asgi, wsgi

def show(request, item=None):
    return HttpResponse(str(item))

async def show_async(request, item):
    return HttpResponse(str(item))

def crash(request):
    raise ValueError("x")

urlpatterns = [
    path("", show),
    path("users/<int:item>/", show),
    path("async/<int:item>/", show_async),
    path("crash/", crash),
    re_path("^old/(?P<item>[0-9]+)$", show),
    path("v1/", include([path("items/<slug:item>", show)])),
]
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None,
                   MIDDLEWARE=["shmetrics.workers.django.route_middleware"])
metrics = PerformanceMetrics(max_workers=2, max_series=128)
paths = ["/", "/users/1/", "/users/2/", "/async/3/", "/crash/", "/old/4", "/v1/items/five", "/nowhere"]

def get_wsgi(app, path):
    environ = {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    body = app(environ, lambda *_: None)
    list(body)
    body.close()

def get_asgi(app, path):
    asked = []
    async def receive():
        if asked:
            await asyncio.Event().wait()
        asked.append(1)
        return {"type": "http.request", "body": b""}
    async def send(message):
        pass
    asyncio.run(app({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}, receive, send))

if sys.argv[1] == "wsgi":
    bare = get_wsgi_application()
    app, get = wsgi.MetricsMiddleware(bare, metrics), get_wsgi
else:
    bare = get_asgi_application()
    app, get = asgi.MetricsMiddleware(bare, metrics), get_asgi
for each in paths:
    get(app, each)
get(bare, "/users/1/")  # unmeasured
series = CustomMetrics(metrics).get_all_metrics()["http_server_request_duration_seconds"]["series"]
figures = metrics.get_statistics()
print(json.dumps({
    "routes": sorted([*each["labels"].values(), each["count"]] for each in series if each["count"]),
    "totals": [figures["total_requests"], figures["total_errors"]],
}))
"""


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_routes_are_the_patterns_that_django_found(tmp_path, kind):
    (tmp_path / "site_of_test.py").write_text(SITE)
    done = subprocess.run(
        [sys.executable, "site_of_test.py", kind], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "routes": [
            ["GET", "200", "/", 1],
            ["GET", "200", "/async/<int:item>/", 1],
            ["GET", "200", "/users/<int:item>/", 2],
            ["GET", "200", "/v1/items/<slug:item>", 1],
            ["GET", "200", "^old/(?P<item>[0-9]+)$", 1],
            ["GET", "404", "", 1],
            ["GET", "500", "/crash/", 1],
        ],
        "totals": [8, 1],
    }
