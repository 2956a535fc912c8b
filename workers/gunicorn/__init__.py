"""gunicorn: hooks for its configuration file. One line measures an unchanged application:

    # gunicorn.conf.py
    from shmetrics.workers.gunicorn import *                    # where the file has none of these hooks itself

    import shmetrics.workers.gunicorn
    shmetrics.workers.gunicorn.install(globals())               # last line: chains with hooks defined above

Under ``shmetrics run -- gunicorn ...`` not even that is needed (`config` says how it gets in).

All workers share the hub that ``SHMETRICS_HUB`` names, or one named after the arbiter, which goes with it. A worker
takes its slot before its first request, and gives it up when it leaves; after a SIGKILL only the arbiter's `child_exit`
runs, which says how it ended. The hooks hold nothing together: without them everything still works, only a little
later. Each may also be imported by itself. None of them lets trouble with metrics become the server's.

What each hook receives is documented at https://docs.gunicorn.org/en/stable/settings.html#server-hooks. gunicorn itself
is imported in `config` only, which gunicorn executes.
"""

import functools
import os
import pkgutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import doorbell, endings, hub, metrics, naming, segment
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.metrics import HUB_VARIABLE
from shmetrics.workers.gunicorn import application, ending

__all__ = [
    "child_exit",
    "nworkers_changed",
    "on_exit",
    "on_starting",
    "post_worker_init",
    "pre_exec",
    "worker_abort",
    "worker_exit",
]

Hook = Callable[..., Any]

_OWN_HUB: Final = "SHMETRICS_GUNICORN_HUB"
"""Environment variable with the name that the arbiter gave the hub, which then goes with it, or with its successor."""


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    """In the arbiter, whenever the number of workers is set: name the hub that they share, unless it has a name.

    This is the first hook that gunicorn calls at all, and the only one before ``--preload`` loads the application.
    """
    _name_hub()


def on_starting(server: Any) -> None:
    """In the arbiter, before any fork: say which hub it is."""
    name = _name_hub()
    server.log.info("shmetrics: hub %s", name)
    if server.cfg.uid != os.geteuid() and os.path.exists(naming.segment_path(name)):
        server.log.warning(
            "shmetrics: hub %s is of user %s, and workers of user %s cannot take a slot in it; "
            "start gunicorn as that user, without --user", name, os.geteuid(), server.cfg.uid,
        )  # fmt: skip


def pre_exec(server: Any) -> None:
    """In the process that becomes the arbiter's successor (USR2): hand it the hub.

    It is started with the environment that gunicorn found at first, in which the hub had no name yet.
    """
    for variable in (HUB_VARIABLE, _OWN_HUB):
        if variable in os.environ:
            server.cfg.env_orig[variable] = os.environ[variable]


def post_worker_init(worker: Any) -> None:
    """In the worker, with the application loaded: have it measured, and take the slot, so that no request waits."""
    try:
        application.measure(worker)
        if not metrics.claim_all():
            worker.log.warning("shmetrics: no slot for worker %s yet", worker.pid)
    except (ShmetricsError, ValueError, OSError) as error:
        worker.log.warning("shmetrics: worker %s is not measured: %s", worker.pid, error)


def worker_abort(worker: Any) -> None:
    """In the worker, when the arbiter has given it up (a time-out): its end is not an orderly one.

    So it keeps its slot until it is dead, and gets an obituary, with the requests that it serves now: they are over
    before it is, by the exception that ends it.
    """
    worker.aborted = True  # as the arbiter says of it in its own process
    metrics.hold_all(-signal.SIGABRT)


def worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its orderly end: give the slot up.

    gunicorn calls it in the arbiter as well, for a worker that was gone when it was to be signalled.
    """
    if worker.pid == os.getpid() and not worker.aborted:
        metrics.close_all()


def child_exit(server: Any, worker: Any) -> None:
    """In the arbiter, after a worker ended in whatever way: say how, and let the aggregator notice at once.

    One that the arbiter gave up ended by its SIGABRT, whatever status the release has it exit with (0 or 1).
    """
    status = ending.status_of(server, worker)
    if status is not None and worker.aborted and os.WIFEXITED(status):
        status = int(signal.SIGABRT)  # as the wait status of what that ended
    _reports.add(server, worker.pid, status)


def on_exit(server: Any) -> None:
    """In the arbiter, at its end: remove the hub if it is the arbiter's own.

    By force: a worker killed a moment ago may still hold its slot, and an aggregator may look on. But an arbiter that
    has a successor, or is one whose predecessor lives (USR2), leaves the hub to the other.
    """
    name = os.environ.get(HUB_VARIABLE)
    if name is None or name != os.environ.get(_OWN_HUB) or server.reexec_pid or server.master_pid == os.getppid():
        return
    for user in {server.cfg.uid, os.geteuid()}:  # with --preload the arbiter makes it, else a worker does
        try:
            with _as_user(user):
                hub.remove(name, force=True)
        except HubNotFoundError:  # no worker recorded anything
            pass
        except (ShmetricsError, OSError) as error:
            server.log.warning("shmetrics: hub %s stays (`shmetrics gc` removes it): %s", name, error)


def _report(server: Any, pid: int, status: int | None) -> None:
    try:
        with _as_user(server.cfg.uid):
            target = segment.attach(os.environ.get(HUB_VARIABLE, ""), writable=True)
            if status is None:
                doorbell.ring(target)
            else:
                endings.report_end(target, pid, os.waitstatus_to_exitcode(status))
            target.close()
    except (ShmetricsError, ValueError, OSError) as error:
        # No hub was made, so nobody is to be told; or no descriptors are left, and the next tick tells the aggregator.
        server.log.debug("shmetrics: the end of worker %s was not reported: %s", pid, error)


_reports: Final = ending.Reports(_report)
_HOOKS: Final[tuple[Hook, ...]] = (
    nworkers_changed, on_starting, pre_exec, post_worker_init, worker_abort, worker_exit, child_exit, on_exit,
)  # fmt: skip


def install(namespace: dict[str, Any]) -> None:
    """Add the hooks to a configuration's namespace, ``globals()``, each after the user's own of that name."""
    for hook in _HOOKS:
        own = namespace.get(hook.__name__)
        if isinstance(own, str):  # gunicorn takes a hook's dotted name as well
            own = pkgutil.resolve_name(own)
        if own is None or own is hook:
            namespace[hook.__name__] = hook
        elif getattr(own, "__wrapped__", None) is not hook:  # else it is chained already
            namespace[hook.__name__] = _chain(own, hook)


def _chain(first: Hook, second: Hook) -> Hook:
    """Call one hook, then the other, whatever the first raises.

    gunicorn counts a hook's parameters, and `functools.wraps` is what it then looks through.
    """

    @functools.wraps(second)
    def both(*arguments: Any) -> None:
        try:
            first(*arguments)
        finally:
            second(*arguments)

    return both


def _name_hub() -> str:
    """The hub's name. If there is none: after this process, in the environment of all that is forked from it."""
    try:
        name = metrics.default_hub()
    except ValueError as error:  # no hub can have that name; gunicorn shows a RuntimeError as a line, and ends
        raise RuntimeError(str(error)) from None
    if name is None:
        name = os.environ[HUB_VARIABLE] = os.environ[_OWN_HUB] = naming.arbiter_name()
    return name


@contextmanager
def _as_user(uid: int) -> Iterator[None]:
    """Find and change the hubs of that user, where root started a server with ``--user``: hubs belong to users."""
    own = os.geteuid()
    if own != 0 or uid == own:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)
