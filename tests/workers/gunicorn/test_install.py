"""The hooks by themselves, and chained with the user's own of the same names."""

import os
import resource
import types
from contextlib import contextmanager

import pytest
from gunicorn.config import Config

from shmetrics import Hub, PerformanceMetrics, segment
from shmetrics.workers import gunicorn as hooks

NAMES_BY_ARITY = {
    1: ("on_starting", "pre_exec", "post_worker_init", "worker_abort", "on_exit"),
    2: ("worker_exit", "child_exit"),
    3: ("nworkers_changed",),
}
ARITIES = [(name, arity) for arity, names in NAMES_BY_ARITY.items() for name in names]
OWN_BY_ARITY = {
    1: lambda subject: None,
    2: lambda server, worker: None,
    3: lambda server, new_value, old_value: None,
}


class Server:
    """What of an arbiter or a worker the hooks use."""

    reexec_pid = master_pid = 0
    aborted = False

    def __init__(self, pid=1, uid=None):
        self.log, self.pid, self.lines = self, pid, []
        self.cfg = types.SimpleNamespace(uid=os.geteuid() if uid is None else uid, env_orig={})

    def info(self, text, *values):
        self.lines.append(text % values)

    warning = debug = info


@pytest.fixture(autouse=True)
def _variables(monkeypatch):
    """Those that the hooks set are gone afterwards."""
    monkeypatch.setenv("SHMETRICS_HUB", "t-nobody-made-this")
    monkeypatch.delenv("SHMETRICS_GUNICORN_HUB", raising=False)


@contextmanager
def descriptors(count):
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


# Installing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arity"), ARITIES)
def test_gunicorn_accepts_the_hook_alone_and_chained(name, arity):
    alone, chained = {}, {name: OWN_BY_ARITY[arity]}
    hooks.install(alone)
    hooks.install(chained)
    Config().set(name, alone[name])
    Config().set(name, chained[name])
    assert alone[name] is getattr(hooks, name)
    assert chained[name] is not OWN_BY_ARITY[arity]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize(("name", "arity"), ARITIES)
def test_the_users_hook_runs_first_and_gets_all_arguments_and_ours_runs_whatever_that_raises(
    monkeypatch, name, arity, raises
):
    calls = []

    def called(*arguments):
        calls.append(arguments)
        if raises:
            raise ZeroDivisionError

    def one(subject):
        called(subject)

    def two(server, worker):
        called(server, worker)

    def three(server, new_value, old_value):
        called(server, new_value, old_value)

    monkeypatch.setattr(hooks, "_HOOKS", tuple(_replaced(hook, calls) for hook in hooks._HOOKS))
    namespace = {name: {1: one, 2: two, 3: three}[arity]}
    hooks.install(namespace)
    subjects = tuple(range(arity))
    if raises:
        with pytest.raises(ZeroDivisionError):
            namespace[name](*subjects)
    else:
        namespace[name](*subjects)
    assert calls == [subjects, (name, *subjects)]


def _replaced(hook, calls):
    def replacement(*arguments):
        calls.append((hook.__name__, *arguments))

    replacement.__name__ = hook.__name__
    return replacement


def test_a_hook_of_the_user_may_be_a_dotted_name():
    """gunicorn resolves it."""
    namespace = {"on_starting": f"{__name__}.dotted"}
    Config().set("on_starting", namespace["on_starting"])
    hooks.install(namespace)
    server = Server()
    Config().set("on_starting", namespace["on_starting"])
    namespace["on_starting"](server)
    assert server.seen
    assert server.lines == ["shmetrics: hub t-nobody-made-this"]


def dotted(server):
    server.seen = True


def test_install_leaves_other_names_alone():
    namespace = {"workers": 4, "when_ready": print}
    hooks.install(namespace)
    assert namespace.keys() - {name for name, _ in ARITIES} == {"workers", "when_ready"}
    assert (namespace["workers"], namespace["when_ready"]) == (4, print)


@pytest.mark.parametrize("own", [{}, {"on_exit": OWN_BY_ARITY[1]}])
def test_a_second_install_changes_nothing(own):
    namespace = dict(own)
    hooks.install(namespace)
    once = dict(namespace)
    hooks.install(namespace)
    assert namespace == once


def test_importing_everything_is_importing_the_hooks():
    namespace = {}
    exec("from shmetrics.workers.gunicorn import *", namespace)
    installed = {}
    hooks.install(installed)
    assert {name: hook for name, hook in namespace.items() if name != "__builtins__"} == installed
    assert sorted(installed) == sorted(name for name, _ in ARITIES)


def test_importing_and_installing_name_no_hub(monkeypatch):
    """Nothing of a configuration that is only looked at stays in the environment."""
    monkeypatch.delenv("SHMETRICS_HUB")
    hooks.install({})
    assert "SHMETRICS_HUB" not in os.environ


# The hub's name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lambda server: hooks.nworkers_changed(server, 4, None), hooks.on_starting])
def test_a_hub_without_a_name_is_named_after_the_arbiter(monkeypatch, call):
    monkeypatch.delenv("SHMETRICS_HUB")
    call(Server())
    assert os.environ["SHMETRICS_HUB"] == os.environ["SHMETRICS_GUNICORN_HUB"] == f"gunicorn-{os.getpid()}"


def test_a_name_that_there_is_is_kept():
    server = Server()
    hooks.nworkers_changed(server, 4, None)
    hooks.on_starting(server)
    assert os.environ["SHMETRICS_HUB"] == "t-nobody-made-this"
    assert "SHMETRICS_GUNICORN_HUB" not in os.environ
    assert server.lines == ["shmetrics: hub t-nobody-made-this"]


def test_a_name_that_no_hub_can_have_ends_gunicorn_with_a_line(monkeypatch):
    """It shows what a RuntimeError says, and no traceback."""
    monkeypatch.setenv("SHMETRICS_HUB", "No Name")
    with pytest.raises(RuntimeError, match="environment variable SHMETRICS_HUB: hub name must be"):
        hooks.nworkers_changed(Server(), 4, None)


def test_workers_of_another_user_than_the_hubs_are_warned_of(monkeypatch, make_segment):
    monkeypatch.setenv("SHMETRICS_HUB", make_segment().name)
    server = Server(uid=os.geteuid() + 1)
    hooks.on_starting(server)
    assert "cannot take a slot in it" in server.lines[1]


def test_the_successor_of_an_arbiter_gets_the_hub_and_that_it_goes_with_it(monkeypatch):
    monkeypatch.delenv("SHMETRICS_HUB")
    server = Server()
    hooks.nworkers_changed(server, 4, None)
    hooks.pre_exec(server)
    name = f"gunicorn-{os.getpid()}"
    assert server.cfg.env_orig == {"SHMETRICS_HUB": name, "SHMETRICS_GUNICORN_HUB": name}


# Trouble --------------------------------------------------------------------------------------------------------------


def test_child_exit_without_a_hub_does_nothing():
    hooks.child_exit(Server(), Server())


def test_child_exit_without_descriptors_does_not_reach_the_arbiter(monkeypatch, make_segment):
    monkeypatch.setenv("SHMETRICS_HUB", make_segment().name)
    with descriptors(0):
        hooks.child_exit(Server(), Server())


def test_a_hub_that_cannot_be_removed_at_the_end_is_told_of(monkeypatch, make_segment):
    name = make_segment().name
    monkeypatch.setenv("SHMETRICS_HUB", name)
    monkeypatch.setenv("SHMETRICS_GUNICORN_HUB", name)
    server = Server()
    with descriptors(0):
        hooks.on_exit(server)
    assert server.lines[0].startswith(f"shmetrics: hub {name} stays (`shmetrics gc` removes it): ")
    segment.attach(name).close()


def test_a_hub_that_nobody_made_needs_no_removal(monkeypatch):
    monkeypatch.setenv("SHMETRICS_GUNICORN_HUB", "t-nobody-made-this")
    server = Server()
    hooks.on_exit(server)
    assert server.lines == []


def test_what_gunicorn_tells_the_arbiter_of_a_worker_that_was_gone_leaves_the_arbiters_own_records_alone(hub_name):
    """With --preload an arbiter may have a slot of its own."""
    with PerformanceMetrics(name=hub_name, max_workers=4) as metrics:
        metrics.update_inference(0.1)
        hooks.worker_exit(Server(), Server(pid=os.getpid() + 1))
        assert metrics.get_statistics()["active_workers"] == 1
        hooks.worker_exit(Server(), Server(pid=os.getpid()))
        assert metrics.get_statistics()["active_workers"] == 0


def test_a_worker_that_was_given_up_keeps_its_slot_until_it_is_dead(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4) as metrics:
        metrics.update_inference(0.1)
        worker = Server(pid=os.getpid())
        hooks.worker_abort(worker)
        hooks.worker_exit(Server(), worker)
        with Hub.attach(hub_name) as hub:
            metrics.close()
            assert hub.statistics()["active_workers"] == 1
    hooks.metrics.close_all()


def test_a_worker_that_cannot_be_measured_serves_all_the_same(monkeypatch, make_segment):
    """The file of the hub has been overwritten."""
    target = make_segment()
    target.header["magic"] = 0
    monkeypatch.setenv("SHMETRICS_HUB", target.name)
    worker = Server(pid=os.getpid())
    from gunicorn.workers.sync import SyncWorker

    worker.__class__ = type("Worker", (Server, SyncWorker), {})
    worker.wsgi = app = object()
    hooks.post_worker_init(worker)
    assert worker.wsgi is app
    assert worker.lines[0].startswith(f"shmetrics: worker {os.getpid()} is not measured: ")
    segment.unlink(target.name, target.instance)
