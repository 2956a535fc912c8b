"""Django: what tells the middlewares of this package the route of a request, for which Django leaves no other sign.

    MIDDLEWARE = ["shmetrics.workers.django.route_middleware", ...]        # in the settings, first

It measures nothing itself: `wsgi.MetricsMiddleware` or `asgi.MetricsMiddleware` around the application does, and
without one this does nothing. The route is the pattern that Django found, ``/users/<int:pk>/``
(https://docs.djangoproject.com/en/stable/ref/urlresolvers/#django.urls.ResolverMatch.route).
"""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

from shmetrics.workers.http_metrics import REQUEST_KEY, HttpRequest


@sync_and_async_middleware  # type: ignore[untyped-decorator]  # Django has no types
def route_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Django's middleware, for its synchronous and its asynchronous handlers."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: Any) -> Any:
            try:
                return await get_response(request)
            finally:
                _note(request)

        return asynchronous

    def synchronous(request: Any) -> Any:
        try:
            return get_response(request)
        finally:
            _note(request)

    return synchronous


def _note(request: Any) -> None:
    """Give the route to the request's measurement, which is in what the server gave to Django."""
    given = request.scope if hasattr(request, "scope") else request.META
    measurement = given.get(REQUEST_KEY)
    match = request.resolver_match
    if isinstance(measurement, HttpRequest) and match is not None:
        route = match.route  # of `path` without its first slash, of `re_path` a regular expression
        measurement.route = measurement.route or (route if route.startswith("^") else f"/{route}")
