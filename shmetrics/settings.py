"""Switches in the environment, each read when an object is made, so that a wrong one is found then."""

import os
from typing import Final

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off", "")


def switch(name: str) -> bool | None:
    """What an environment variable says: yes, no, or nothing where it is not set; ValueError for anything else."""
    setting = os.environ.get(name)
    if setting is None:
        return None
    if setting.lower() in _TRUE:
        return True
    if setting.lower() in _FALSE:
        return False
    raise ValueError(f"{name} must be 1 or 0, not {setting!r}")
