"""The configuration file that `shmetrics run` gives to gunicorn: the user's own, and shmetrics' hooks after it.

gunicorn takes hooks from one configuration file only. So this file is put in the place of the user's (`command`), by
one more ``--config=`` at the end of GUNICORN_CMD_ARGS and of the command line; of several the last one counts. What the
user gave stands before it, untouched, is found here by gunicorn's own parser and read by gunicorn's own loader. So a
path, ``python:module``, the default ``gunicorn.conf.py``, hooks by dotted name and a reload (HUP) mean what they always
mean, and settings of the command line and of GUNICORN_CMD_ARGS go on beating those of the file.

gunicorn *executes* this file by its path, in whatever Python gunicorn runs in: it must do no harm in one that has no
shmetrics. Nobody imports it. Its own names start with an underscore, since any other could be that of a setting.
"""

import sys as _sys
from typing import Any as _Any

from gunicorn.app.base import Application as _Application
from gunicorn.config import Config as _Config
from gunicorn.config import get_default_config_file as _get_default_config_file

_OURS = "--config=" + __file__


def _location_of_users() -> "str | None":
    """By the rules of gunicorn: what the command line gives, else GUNICORN_CMD_ARGS, else the default if it exists."""
    config = _Config()
    parser = config.parser()
    for arguments in (_sys.argv[1:], config.get_cmd_args_from_env()):
        given: str | None = parser.parse_args([each for each in arguments if each != _OURS]).config
        if given:
            return given
    default: str | None = _get_default_config_file()
    return default


def _settings_of_users() -> "dict[str, _Any]":
    location = _location_of_users()
    if location is None:
        return {}
    loader = _Application.__new__(_Application)  # nothing else of an application is wanted
    loader.cfg = _Config()
    try:
        found: dict[str, _Any] = loader.load_config_from_file(location)
    except Exception as error:  # noqa: BLE001  gunicorn ends with these words, whatever it is, and would blame our file
        print(f"\nError: {error}", file=_sys.stderr, flush=True)
        _sys.exit(1)
    return {name: value for name, value in found.items() if name in loader.cfg.settings}


globals().update(_settings_of_users())

try:
    from shmetrics.workers.gunicorn import install as _install
except ImportError as _error:
    _hint = f"shmetrics: nothing is measured: {_sys.executable} cannot import it ({_error}); install it there"
    print(_hint, file=_sys.stderr, flush=True)
else:
    _install(globals())
