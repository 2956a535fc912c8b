"""Which families a registry shows already, so that no series is twice on its page.

The metrics of `face` are on their registry each by itself; an exporter of the same hub there leaves them to it. What is
known here is this process's own, by registry, for as long as the registry lives. Any thread may call.
"""

from collections.abc import Set
from typing import Any, Final
from weakref import WeakKeyDictionary


class _Shown:
    """What the metrics of one registry show."""

    def __init__(self) -> None:
        self.hubs: dict[str, str] = {}
        """By family name, the hub it is of."""
        self.whole: dict[str, Set[str]] = {}
        """Hubs whose every custom metric is shown, but for some families."""


_shown: Final[WeakKeyDictionary[Any, _Shown]] = WeakKeyDictionary()


def claim(registry: object, hub: str, family: str) -> None:
    """Say that a registry shows a family of a hub from now on."""
    _shown.setdefault(registry, _Shown()).hubs[family] = hub


def claim_whole(registry: object, hub: str, but: Set[str]) -> None:
    """Say that a registry shows every custom metric of a hub, ``but`` for some families: at any time what is in it."""
    _shown.setdefault(registry, _Shown()).whole[hub] = but


def shows(registry: object, hub: str, family: str) -> bool:
    """Whether a registry shows this family of this very hub."""
    shown = _of(registry)
    if shown is None:
        return False
    return shown.hubs.get(family) == hub or (hub in shown.whole and family not in shown.whole[hub])


def shows_whole(registry: object, hub: str) -> bool:
    """Whether `claim_whole` was said of a registry and a hub."""
    shown = _of(registry)
    return shown is not None and hub in shown.whole


def families(registry: object, hub: str) -> set[str]:
    """The families of a hub that metrics on a registry show, each by itself."""
    shown = _of(registry)
    return set() if shown is None else {family for family, its_hub in shown.hubs.items() if its_hub == hub}


def has_name(registry: object, family: str) -> bool:
    """Whether a metric on a registry has this name, whatever hub it is of."""
    shown = _of(registry)
    return shown is not None and family in shown.hubs


def _of(collector: object) -> _Shown | None:
    try:
        return _shown.get(collector)
    except TypeError:  # collectors need be neither hashable nor weakly referable
        return None
