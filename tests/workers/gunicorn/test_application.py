"""Which middleware is put around a worker's application, and when none is."""

import os
import types

import pytest
from gunicorn.workers.ggevent import GeventPyWSGIWorker, GeventWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker
from uvicorn_worker import UvicornH11Worker, UvicornWorker

from shmetrics import Hub, PerformanceMetrics
from shmetrics.workers.asgi import MetricsMiddleware as Asgi
from shmetrics.workers.gunicorn import application
from shmetrics.workers.wsgi import MetricsMiddleware as Wsgi
from tests.gunicorns import needs_asgi_worker


class Base:
    """What of a worker is looked at, without a server around it."""

    def __init__(self, app, place="wsgi"):
        self.log, self.lines = self, []
        self.pid = os.getpid()
        setattr(self, place, app)

    def info(self, text, *values):
        self.lines.append(text % values)

    warning = info


def worker_of(cls, app, place="wsgi", interface=None):
    worker = type("Own", (Base, cls), {})(app, place)
    if interface:
        worker.config = types.SimpleNamespace(interface=interface)
    return worker


@pytest.fixture
def hub(monkeypatch, hub_name):
    monkeypatch.setenv("SHMETRICS_HUB", hub_name)
    return hub_name


def app():
    raise AssertionError("nobody asked for it")


@pytest.mark.parametrize("cls", [SyncWorker, ThreadWorker, GeventWorker, GeventPyWSGIWorker])
def test_workers_of_gunicorn_and_classes_made_of_them_get_the_wsgi_middleware(hub, cls):
    worker = worker_of(cls, app)
    application.measure(worker)
    assert type(worker.wsgi) is Wsgi
    worker.wsgi.metrics.close()


@needs_asgi_worker
def test_its_asgi_worker_gets_the_asgi_middleware(hub):
    from gunicorn.workers.gasgi import ASGIWorker

    worker = worker_of(ASGIWorker, app, "asgi")
    application.measure(worker)
    assert type(worker.asgi) is Asgi
    worker.asgi.metrics.close()


@pytest.mark.parametrize(("interface", "middleware"), [("auto", Asgi), ("asgi3", Asgi), ("wsgi", Wsgi)])
@pytest.mark.parametrize("cls", [UvicornWorker, UvicornH11Worker])
def test_uvicorns_worker_gets_what_it_is_configured_for(hub, cls, interface, middleware):
    worker = worker_of(cls, app, interface=interface)
    application.measure(worker)
    assert type(worker.wsgi) is middleware
    worker.wsgi.metrics.close()


def test_a_worker_that_nothing_is_known_of_is_left_alone_and_it_is_said(hub):
    worker = worker_of(object, app)
    application.measure(worker)
    assert worker.wsgi is app
    assert "no way to measure requests of worker class Own" in worker.lines[0]


def test_uvicorns_worker_with_an_interface_that_there_is_no_middleware_for_is_left_alone(hub):
    worker = worker_of(UvicornWorker, app, interface="asgi2")
    application.measure(worker)
    assert worker.wsgi is app


def test_a_middleware_is_not_put_around_a_middleware_even_of_another_hub(hub, hub_name):
    with PerformanceMetrics(max_workers=2, name=f"{hub_name}-2") as metrics:
        wrapped = Wsgi(app, metrics)
        worker = worker_of(SyncWorker, wrapped)
        application.measure(worker)
        assert worker.wsgi is wrapped
        metrics.unlink()


def test_an_application_with_metrics_of_the_hub_is_left_to_record_its_requests(hub):
    with PerformanceMetrics(max_workers=2):
        worker = worker_of(SyncWorker, app)
        application.measure(worker)
        assert worker.wsgi is app
        assert "left to record its requests" in worker.lines[0]


def test_metrics_of_another_hub_make_no_difference(hub):
    with PerformanceMetrics(max_workers=2, name=f"{hub}-2") as metrics:
        worker = worker_of(SyncWorker, app)
        application.measure(worker)
        assert type(worker.wsgi) is Wsgi
        worker.wsgi.metrics.close()
        metrics.unlink()


def test_a_hub_that_exists_is_taken_as_it_is_without_a_warning(hub, caplog):
    PerformanceMetrics(name=hub, max_workers=3, window_size=7, max_series=40).close()
    worker = worker_of(SyncWorker, app)
    application.measure(worker)
    with Hub.attach(hub) as view:
        assert view.statistics()["hub"]["slots_total"] == 3
    assert caplog.messages == []
    worker.wsgi.metrics.close()
