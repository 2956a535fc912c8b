"""The configuration file of `shmetrics run`: all that the user configured, by whatever way, and the hooks after it."""

import json
import re
import subprocess
import sys

import pytest

from shmetrics.workers import gunicorn as hooks
from shmetrics.workers.gunicorn.command import measured
from tests.cli import PATIENCE, environment

HOOKS = hooks.__all__

LOAD = """
import json, sys
{before}
from gunicorn.app.wsgiapp import WSGIApplication

cfg = WSGIApplication().cfg

def named(value):
    return f"{{value.__module__}}.{{value.__qualname__}}" if callable(value) else repr(value)

print(json.dumps({{name: named(setting.get()) for name, setting in cfg.settings.items()}}))
try:
    cfg.worker_exit(None, type("Worker", (), {{"pid": -1}}))
except ZeroDivisionError as error:
    print(error)
"""
"""What gunicorn does until it has its configuration; prints all settings, and calls a hook."""

CONF = """
workers = 3
bind = ["127.0.0.1:1", "127.0.0.1:2"]
raw_env = ["A=1"]
unknown_name = object()

def worker_exit(server, worker):
    print("the user's hook")

def when_ready(server):
    print("ready")
"""


def load(directory, *arguments, before="", with_hooks=True, status=0, complaints=None, **variables):
    """All settings of a gunicorn with this command line, and the lines that it printed; or why there are none."""
    command = ["gunicorn", *arguments]
    variables = environment(**variables)
    if with_hooks:
        command, variables = measured(command, variables)
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(before=before), *command[1:]],
        cwd=directory, env=variables, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    if status:
        return re.sub(" at 0x[0-9a-f]+", "", done.stderr)
    if complaints is not None:
        assert re.fullmatch(complaints, done.stderr), done.stderr
    settings, *lines = done.stdout.splitlines()
    return json.loads(settings), lines


def without_config(settings):
    """All but the path of the configuration file itself."""
    return {name: value for name, value in settings.items() if name != "config"}


WAYS = {
    "no configuration": ((), {}),
    "the default file": ((), {}),
    "-c": (("-c", "conf.py"), {}),
    "-cFILE": (("-cconf.py",), {}),
    "--config": (("--config", "conf.py"), {}),
    "--config=": (("--config=conf.py",), {}),
    "an abbreviation": (("--conf", "conf.py"), {}),
    "file:": (("-c", "file:conf.py"), {}),
    "python:": (("-c", "python:package.conf"), {}),
    "GUNICORN_CMD_ARGS": ((), {"GUNICORN_CMD_ARGS": "-w 9 --config conf.py"}),
    "both": (("--config", "conf.py"), {"GUNICORN_CMD_ARGS": "-w 9 --config nothing.py"}),
    "options beside": (("-c", "conf.py", "-w", "7", "--name", "x", "--preload"), {"GUNICORN_CMD_ARGS": "--threads 4"}),
    "the last of two": (("-c", "nothing.py", "-c", "conf.py"), {}),
    "separated": (("-c", "conf.py", "-w", "7", "--"), {}),
}


@pytest.fixture
def directory(tmp_path, request):
    """Has the configuration under all names but the default, and that for the one who asks for it."""
    (tmp_path / "conf.py").write_text(CONF)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "conf.py").write_text(CONF)
    if "the default file" in request.node.name:
        (tmp_path / "gunicorn.conf.py").write_text(CONF)
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_is_what_it_is_without_us_and_the_hooks_are_there(directory, way):
    arguments, variables = WAYS[way]
    arguments = (*arguments, "app:app")
    ours, lines = load(directory, *arguments, PYTHONPATH=str(directory), **variables)
    theirs, their_lines = load(directory, *arguments, with_hooks=False, PYTHONPATH=str(directory), **variables)
    changed = {name for name, value in without_config(ours).items() if theirs[name] != value}
    assert changed == set(HOOKS)
    assert all(ours[name] == f"shmetrics.workers.gunicorn.{name}" for name in HOOKS)
    assert lines == their_lines == ([] if way == "no configuration" else ["the user's hook"])


def test_a_hook_by_dotted_name_is_called_too(tmp_path):
    (tmp_path / "mine.py").write_text("def leaving(server, worker):\n    print('dotted')\n")
    (tmp_path / "gunicorn.conf.py").write_text("worker_exit = 'mine.leaving'\n")
    assert load(tmp_path, "app:app", PYTHONPATH=str(tmp_path))[1] == ["dotted"]


def test_a_hook_that_raises_still_raises(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("def worker_exit(server, worker):\n    1 / 0\n")
    assert load(tmp_path, "app:app")[1] == ["division by zero"]


def test_hooks_that_the_user_has_installed_are_not_there_twice(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("import shmetrics.workers.gunicorn as s\ns.install(globals())\n")
    ours, _ = load(tmp_path, "app:app")
    theirs, _ = load(tmp_path, "app:app", with_hooks=False)
    assert without_config(ours) == without_config(theirs)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-c", "missing.py"), ""),
        (("-c", "python:missing"), ""),
        (("-c", "conf.py"), "1 / 0"),
        (("-c", "conf.py"), "def syntax error"),
        (("-c", "conf.py"), "workers = 'many'"),
        (("-c", "conf.py"), "def worker_exit(server):\n    pass"),
        (("-c", "conf.py"), "import sys; sys.exit('enough')"),
    ],
)
def test_what_is_wrong_with_the_users_file_is_said_as_without_us(tmp_path, arguments, text):
    (tmp_path / "conf.py").write_text(text)
    ours = load(tmp_path, *arguments, "app:app", status=1)
    theirs = load(tmp_path, *arguments, "app:app", status=1, with_hooks=False)
    assert ours == theirs
    assert ours


def test_a_python_without_shmetrics_serves_unmeasured_and_is_told(directory):
    ours, lines = load(
        directory, "-c", "conf.py", "app:app", before="sys.modules['shmetrics'] = None",
        complaints=r"shmetrics: nothing is measured: /.* cannot import it \(.*\); install it there\n",
    )  # fmt: skip
    theirs, their_lines = load(directory, "-c", "conf.py", "app:app", with_hooks=False)
    assert without_config(ours) == without_config(theirs)
    assert lines == their_lines == ["the user's hook"]
