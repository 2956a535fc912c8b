"""The template of a request's route, from what a framework leaves beside the request once it has routed it.

No framework is imported here: each names its own. Where none is known the route is the empty text, which for Prometheus
is no label at all; a path is never taken for one, since there is no end of paths. Django leaves nothing, and has a
middleware of its own (`django`).
"""

from collections.abc import Mapping
from typing import Any


def route_of_environ(environ: Mapping[str, Any]) -> str:
    """In a WSGI environ: Flask's (https://flask.palletsprojects.com/en/stable/api/#flask.Request.url_rule)."""
    request = environ.get("werkzeug.request")  # Flask takes it out again when it is through with the request
    return _text(getattr(getattr(request, "url_rule", None), "rule", None))


def route_of_scope(scope: Mapping[str, Any]) -> str:
    """In an ASGI scope: that of Starlette and FastAPI, or of Litestar.

    Of an application that is mounted in another the template is its own, with the mount's path before it where that has
    no parameters (``app_root_path`` and ``root_path`` are without and with the mounts).
    """
    route = scope.get("route")
    if route is None:
        template = scope.get("path_template")
        return "" if template is None else _text(template)
    fastapi = scope.get("fastapi")
    if isinstance(fastapi, dict):  # a router that is included in another keeps its own path, and the whole one is here
        route = fastapi.get("effective_route_context", route)
    template = _text(getattr(route, "path_format", None))
    mounts, outside = scope.get("root_path", ""), scope.get("app_root_path")
    if template and isinstance(outside, str) and template.count("{") == len(scope.get("path_params") or ()):
        return f"{mounts[len(outside) :]}{template}"
    return template


def _text(template: object) -> str:
    return template if isinstance(template, str) else ""
