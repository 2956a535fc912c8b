"""The hooks by themselves, and chained with the user's own of the same names."""

import os
import resource

import pytest
from gunicorn.config import Config

from shmetrics.workers import gunicorn as hooks

NAMES_BY_ARITY = {1: ("on_starting", "post_worker_init", "on_exit"), 2: ("worker_exit", "child_exit")}
ARITIES = [(name, arity) for arity, names in NAMES_BY_ARITY.items() for name in names]
OWN_BY_ARITY = {1: lambda subject: None, 2: lambda server, worker: None}


@pytest.mark.parametrize(("name", "arity"), ARITIES)
def test_gunicorn_accepts_the_hook_alone_and_chained(name, arity):
    alone, chained = {}, {name: OWN_BY_ARITY[arity]}
    hooks.install(alone)
    hooks.install(chained)
    Config().set(name, alone[name])
    Config().set(name, chained[name])
    assert alone[name] is getattr(hooks, name)
    assert chained[name] is not OWN_BY_ARITY[arity]


@pytest.mark.parametrize(("name", "arity"), ARITIES)
def test_the_users_hook_runs_first_and_gets_all_arguments(monkeypatch, name, arity):
    calls = []
    own = {1: lambda subject: calls.append(("own", subject)), 2: lambda *both: calls.append(("own", *both))}[arity]
    monkeypatch.setattr(hooks.metrics, "claim_all", lambda: calls.append("ours") or True)
    monkeypatch.setattr(hooks.metrics, "close_all", lambda: calls.append("ours"))
    namespace = {name: own}
    hooks.install(namespace)
    subjects = [LoggingServer() for _ in range(arity)]
    monkeypatch.setenv("SHMETRICS_HUB", "t-nobody-made-this")
    namespace[name](*subjects)
    assert calls[0] == ("own", *subjects)
    assert calls[1:] == (["ours"] if name in ("post_worker_init", "worker_exit") else [])


def test_a_hook_of_the_user_may_be_a_dotted_name():
    """gunicorn resolves it."""
    namespace = {"on_starting": "tests.workers.test_gunicorn_install.dotted"}
    Config().set("on_starting", namespace["on_starting"])
    hooks.install(namespace)
    server = LoggingServer()
    Config().set("on_starting", namespace["on_starting"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHMETRICS_HUB", "t-nobody-made-this")
        namespace["on_starting"](server)
    assert server.seen


def dotted(server):
    server.seen = True


class LoggingServer:
    """What of an arbiter or a worker the hooks use."""

    def __init__(self):
        self.log, self.pid, self.lines = self, 1, []

    def info(self, text, *values):
        self.lines.append(text % values)


def test_install_leaves_other_names_alone():
    namespace = {"workers": 4, "when_ready": print}
    hooks.install(namespace)
    assert namespace.keys() - {name for name, _ in ARITIES} == {"workers", "when_ready"}
    assert (namespace["workers"], namespace["when_ready"]) == (4, print)


def test_a_second_install_changes_nothing():
    namespace = {}
    hooks.install(namespace)
    once = dict(namespace)
    hooks.install(namespace)
    assert namespace == once


def test_every_hook_may_be_imported_by_itself():
    assert sorted(hooks.__all__) == sorted(name for name, _ in ARITIES)


def test_on_starting_keeps_the_name_that_there_is(monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", "resnet")
    server = LoggingServer()
    hooks.on_starting(server)
    assert os.environ["SHMETRICS_HUB"] == "resnet"
    assert server.lines == ["shmetrics: hub resnet"]


def test_child_exit_without_a_hub_does_nothing(monkeypatch):
    monkeypatch.setenv("SHMETRICS_HUB", "t-nobody-made-this")
    assert hooks.child_exit(LoggingServer(), LoggingServer()) is None


def test_child_exit_without_descriptors_does_not_reach_the_arbiter(monkeypatch, make_segment):
    monkeypatch.setenv("SHMETRICS_HUB", make_segment().name)
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert hooks.child_exit(LoggingServer(), LoggingServer()) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
