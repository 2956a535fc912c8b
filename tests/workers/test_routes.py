"""Routes' templates, from what real frameworks leave; the frameworks are imported by these tests alone."""

import asyncio
import io
from wsgiref.util import setup_testing_defaults

import pytest

from shmetrics import CustomMetrics
from shmetrics.workers import asgi, wsgi
from shmetrics.workers.routes import route_of_environ, route_of_scope


def routes(metrics):
    """The labels of all requests there were: method, status, route."""
    found = CustomMetrics(metrics).get_all_metrics()["http_server_request_duration_seconds"]["series"]
    return sorted(tuple(each["labels"].values()) for each in found if each["count"])


def get_asgi(app, path, method="GET", **more):
    """Serve one request without a server; its status."""
    sent = []

    async def receive():
        if not sent:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [(b"host", b"testserver")], "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 80), "root_path": "", "asgi": {"version": "3.0"}, **more}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def get_wsgi(app, path, method="GET"):
    """Serve one request without a server; its status."""
    statuses = []
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    body = app(environ, lambda status, headers, exc_info=None: statuses.append(int(status[:3])))
    list(body)
    if hasattr(body, "close"):
        body.close()
    return statuses[-1]


# Starlette and FastAPI ------------------------------------------------------------------------------------------------


def test_starlette(metrics):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def hello(request):
        return PlainTextResponse("hello")

    routed = [
        Route("/users/{id:int}", hello),
        Mount("/mounted", routes=[Route("/inner/{x}", hello)]),
        Mount("/of/{tenant}", routes=[Route("/inner/{x}", hello)]),
    ]
    app = asgi.MetricsMiddleware(Starlette(routes=routed), metrics)
    paths = ["/users/1", "/users/2", "/mounted/inner/3", "/of/someone/inner/4", "/nowhere/5", "/users/six"]
    assert [get_asgi(app, path) for path in paths] == [200, 200, 200, 200, 404, 404]
    assert get_asgi(app, "/users/1", method="POST") == 405
    assert routes(metrics) == [
        ("GET", "200", "/inner/{x}"),  # the mount's own part is not known where it has parameters
        ("GET", "200", "/mounted/inner/{x}"),
        ("GET", "200", "/users/{id}"),
        ("GET", "404", ""),
        ("POST", "405", "/users/{id}"),
    ]


def test_starlette_with_the_middleware_within(metrics):
    """As `Starlette(middleware=...)` and `add_middleware` put it."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request):
        return PlainTextResponse("hello")

    async def fail(request):
        raise ValueError("x")

    app = Starlette(
        routes=[Route("/users/{id}", hello), Route("/fail/{id}", fail)],
        middleware=[Middleware(asgi.MetricsMiddleware, metrics=metrics)],
    )
    assert get_asgi(app, "/users/1") == 200
    with pytest.raises(ValueError, match="x"):
        get_asgi(app, "/fail/1")
    assert routes(metrics) == [("GET", "200", "/users/{id}"), ("GET", "500", "/fail/{id}")]
    assert metrics.get_statistics()["total_errors"] == 1


def test_fastapi(metrics):
    from fastapi import APIRouter, FastAPI

    def show(item: int):
        return item

    async def crash(item: int):
        raise ValueError("x")

    router = APIRouter(prefix="/items")
    router.get("/{item}")(show)
    mounted = FastAPI()
    mounted.get("/inner/{item}")(show)
    app = FastAPI()
    app.get("/plain/{item}")(show)
    app.get("/crash/{item}")(crash)
    app.include_router(router, prefix="/v1")
    app.mount("/mounted", mounted)
    app.add_middleware(asgi.MetricsMiddleware, metrics=metrics)
    paths = ["/plain/1", "/v1/items/2", "/mounted/inner/3", "/plain/four", "/nowhere"]
    assert [get_asgi(app, path) for path in paths] == [200, 200, 200, 422, 404]
    with pytest.raises(ValueError, match="x"):
        get_asgi(app, "/crash/6")
    assert routes(metrics) == [
        ("GET", "200", "/mounted/inner/{item}"),
        ("GET", "200", "/plain/{item}"),
        ("GET", "200", "/v1/items/{item}"),
        ("GET", "404", ""),
        ("GET", "422", "/plain/{item}"),
        ("GET", "500", "/crash/{item}"),
    ]


def test_a_root_path_of_the_servers_is_no_mount(metrics):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def hello(request):
        return PlainTextResponse("hello")

    inner = [Route("/users/{id}", hello)]
    app = asgi.MetricsMiddleware(Starlette(routes=[*inner, Mount("/mounted", routes=inner)]), metrics)
    for path in ("/proxied/users/1", "/proxied/mounted/users/1"):
        assert get_asgi(app, path, root_path="/proxied") == 200
    assert routes(metrics) == [("GET", "200", "/mounted/users/{id}"), ("GET", "200", "/users/{id}")]


# Flask ----------------------------------------------------------------------------------------------------------------


def test_flask(metrics):
    from flask import Blueprint, Flask

    def show(item):
        return str(item)

    def crash(item):
        raise ValueError("x")

    blueprint = Blueprint("items", "items", url_prefix="/v1")
    blueprint.get("/items/<int:item>")(show)
    web = Flask("web")
    web.get("/plain/<item>")(show)
    web.get("/crash/<item>")(crash)
    web.register_blueprint(blueprint)
    web.wsgi_app = wsgi.MetricsMiddleware(web.wsgi_app, metrics)
    paths = ["/plain/1", "/plain/2", "/v1/items/3", "/v1/items/four", "/nowhere", "/crash/5"]
    assert [get_wsgi(web, path) for path in paths] == [200, 200, 200, 404, 404, 500]
    assert get_wsgi(web, "/plain/1", method="PUT") == 405
    assert routes(metrics) == [
        ("GET", "200", "/plain/<item>"),
        ("GET", "200", "/v1/items/<int:item>"),
        ("GET", "404", ""),
        ("GET", "500", "/crash/<item>"),
        ("PUT", "405", ""),
    ]
    assert metrics.get_statistics()["total_errors"] == 1


# What nobody wrote ----------------------------------------------------------------------------------------------------


class Of:
    """An object with these attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("environ", "route"),
    [
        ({}, ""),
        ({"werkzeug.request": None}, ""),
        ({"werkzeug.request": Of()}, ""),
        ({"werkzeug.request": Of(url_rule=None)}, ""),
        ({"werkzeug.request": Of(url_rule=Of(rule=5))}, ""),
        ({"werkzeug.request": Of(url_rule=Of(rule="/x/<y>"))}, "/x/<y>"),
    ],
)
def test_an_environ_without_a_route_has_none(environ, route):
    assert route_of_environ(environ) == route


@pytest.mark.parametrize(
    ("scope", "route"),
    [
        ({}, ""),
        ({"path_template": "/litestar/{x}"}, "/litestar/{x}"),
        ({"path_template": 5}, ""),
        ({"route": Of()}, ""),
        ({"route": Of(path_format=None), "root_path": "/m", "app_root_path": ""}, ""),
        ({"route": Of(path_format="/x"), "root_path": "/m", "app_root_path": ""}, "/m/x"),
        ({"route": Of(path_format="/x"), "root_path": "/m", "app_root_path": None}, "/x"),
        ({"route": Of(path_format="/x"), "fastapi": {}}, "/x"),
        ({"route": Of(path_format="/x"), "fastapi": 5}, "/x"),
        ({"route": Of(path_format="/x"), "fastapi": {"effective_route_context": Of(path_format="/v/x")}}, "/v/x"),
    ],
)
def test_a_scope_without_a_route_has_none(scope, route):
    assert route_of_scope(scope) == route
