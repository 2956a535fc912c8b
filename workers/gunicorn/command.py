"""How `shmetrics run` gets the hooks into an unchanged gunicorn: one more configuration file, `config`.

By two doors, since each is closed to some:

* GUNICORN_CMD_ARGS reaches every gunicorn that the command starts, through shell scripts and launchers too; but
  ``--config`` on a gunicorn's command line beats it;
* the end of the command line beats everything; but it is ours to write only where the command itself is gunicorn.

Considered, and not taken. A wrapper program that patches gunicorn in its own process must know which Python runs the
``gunicorn`` it finds, and is lost at a re-execution (USR2). ``sitecustomize`` on PYTHONPATH runs in *every* Python that
the command starts, hides the user's own, and does nothing under ``python -I``. Class settings of the command line
(``--logger-class``, ``--worker-class``) override the user's.
"""

import importlib.util
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

_VARIABLE: Final = "GUNICORN_CMD_ARGS"
_GUNICORN: Final = re.compile(r"gunicorn(3|-?3\.\d+)?")
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*t?")
_MODULES: Final = ("gunicorn", "gunicorn.app.wsgiapp")
_WITH_VALUE: Final = ("-X", "-W")
"""Options of Python that take the next argument."""


def measured(command: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command and its environment, such that a gunicorn it is, or starts, takes the hooks.

    For any other command nothing changes but GUNICORN_CMD_ARGS.
    """
    specification = importlib.util.find_spec("shmetrics.workers.gunicorn.config")
    assert specification is not None, "a file of this very package"
    ours = f"--config={specification.origin}"
    users = environment.get(_VARIABLE, "")
    return _with_option(command, ours), {**environment, _VARIABLE: f"{users} {shlex.quote(ours)}".lstrip()}


def _with_option(command: Sequence[str], option: str) -> list[str]:
    start = _arguments_of_gunicorn(command)
    if start is None:
        return list(command)
    end = command.index("--", start) if "--" in command[start:] else len(command)
    return [*command[:end], option, *command[end:]]


def _arguments_of_gunicorn(command: Sequence[str]) -> int | None:
    """Where the arguments of gunicorn begin; None when the command is something else."""
    if _is_gunicorn(command[0]):
        return 1
    if not _PYTHON.fullmatch(os.path.basename(command[0])):
        return None
    position = 1
    while command[position : position + 1] and command[position].startswith("-") and command[position] != "-m":
        position += 2 if command[position] in _WITH_VALUE else 1
    match command[position : position + 2]:
        case ["-m", module, *_]:
            return position + 2 if module in _MODULES else None
        case [script, *_]:
            return position + 1 if _is_gunicorn(script) else None
    return None


def _is_gunicorn(program: str) -> bool:
    return _GUNICORN.fullmatch(os.path.basename(program)) is not None
