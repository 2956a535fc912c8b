"""gunicorn: hooks for its configuration file.

    # gunicorn.conf.py
    import shmetrics.workers.gunicorn
    shmetrics.workers.gunicorn.install(globals())          # last line: chains with hooks defined above

All workers then share the hub that ``SHMETRICS_HUB`` names, or one named after the arbiter, which goes with it. A
worker takes its slot before its first request, and gives it up when it leaves; after a SIGKILL only the arbiter's
`child_exit` runs, which rings the aggregator's doorbell. The hooks hold nothing together: without them everything
still works, only a little later. Each may also be imported by itself.

What each hook receives is documented at https://docs.gunicorn.org/en/stable/settings.html#server-hooks. gunicorn itself
is not imported here.
"""

import os
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from shmetrics import doorbell, hub, metrics, naming, segment
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.metrics import HUB_VARIABLE

__all__ = ["child_exit", "on_exit", "on_starting", "post_worker_init", "worker_exit"]

Hook = Callable[..., Any]

_OWN_HUB: Final = "SHMETRICS_GUNICORN_HUB"
"""Environment variable with the name that `install` or `on_starting` gave; survives a re-execution (USR2)."""


def on_starting(server: Any) -> None:
    """In the arbiter, before any fork: name the hub that the workers share, unless it has a name."""
    _name_hub()
    server.log.info("shmetrics: hub %s", os.environ[HUB_VARIABLE])


def post_worker_init(worker: Any) -> None:
    """In the worker, with the application loaded: take the slot now, so that no request waits for it."""
    if not metrics.claim_all():
        worker.log.warning("shmetrics: no slot for worker %s yet", worker.pid)


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its orderly end: give the slot up."""
    metrics.close_all()


def child_exit(server: Any, worker: Any) -> None:
    """In the arbiter, after a worker ended in whatever way: let the aggregator notice at once."""
    # No hub was made, so nobody is to be told; or no descriptors are left, and the next tick tells the aggregator.
    with suppress(ShmetricsError, ValueError, OSError):
        target = segment.attach(os.environ.get(HUB_VARIABLE, ""), writable=True)
        doorbell.ring(target)
        target.close()


def on_exit(server: Any) -> None:
    """In the arbiter, at its end: remove the hub if it is the arbiter's own.

    By force: a worker killed a moment ago may still hold its slot, and an aggregator may look on. But an arbiter that
    has a successor, or is one (USR2), leaves the hub to the other.
    """
    name = os.environ.get(HUB_VARIABLE)
    if name is None or name != os.environ.get(_OWN_HUB) or server.reexec_pid or server.master_pid:
        return
    with suppress(HubNotFoundError):  # no worker recorded anything
        hub.remove(name, force=True)


_HOOKS: Final[tuple[Hook, ...]] = (on_starting, post_worker_init, worker_exit, child_exit, on_exit)


def install(namespace: dict[str, Any]) -> None:
    """Add the hooks to a configuration's namespace, ``globals()``, each after the user's own of that name.

    Names the hub at once: with ``--preload`` gunicorn loads the application before it calls any hook.
    """
    _name_hub()
    for hook in _HOOKS:
        own = namespace.get(hook.__name__)
        if isinstance(own, str):  # gunicorn takes a hook's dotted name as well
            own = pkgutil.resolve_name(own)
        namespace[hook.__name__] = hook if own is None or own is hook else _chain(own, hook)


def _chain(first: Hook, second: Hook) -> Hook:
    """Call one hook, then the other. gunicorn counts a hook's parameters, so they are spelled out."""
    if second in (worker_exit, child_exit):

        def two(server: Any, worker: Any) -> None:
            first(server, worker)
            second(server, worker)

        return two

    def one(subject: Any) -> None:
        first(subject)
        second(subject)

    return one


def _name_hub() -> None:
    """Name the hub after this process, unless it has a name; what is forked from here inherits that."""
    if metrics.default_hub() is None:  # should no hub have such a name, an error now and not in every worker
        os.environ[HUB_VARIABLE] = os.environ[_OWN_HUB] = naming.arbiter_name()
