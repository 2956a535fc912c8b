"""The inventory: every file of this user's hubs in shared memory, which of them serve nobody, and their removal.

A file serves nobody when no process can have a use for it any more, which is decided by kernel locks and by what refers
to it, and where that cannot be known, it stays:

* a hub that goes with a process (private, or an arbiter's), when that process is gone and nobody has it attached;
* a semaphore whose hub is gone, or is another instance by now, or of a guard that its owner has replaced;
* a semaphore that was to exist for an instant only (a template, a fence), when it is older than a minute.

A hub with a name of its own is never among them: its totals wait for the next start of the server.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from shmetrics import hub, naming, segment, slots
from shmetrics.errors import HubInUseError, HubNotFoundError, ShmetricsError
from shmetrics.process import start_ticks

INSTANT: Final = 60.0
"""Seconds after which a file that was to exist for an instant has been left behind."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_SLACK: Final = 1.0
"""Seconds by which a process that started later than a hub was created did so for certain."""

_SEMAPHORE: Final = re.compile(
    r"(?P<hub>[a-z0-9_-]{1,48})\.(?P<instance>[0-9a-f]{16})\.(?:bell|g(?P<slot>\d+)\.(?P<number>\d+))"
)
_INSTANTANEOUS: Final = re.compile(r"(?:template|fence)\.\d+\.[0-9a-f]{16}")


@dataclass(frozen=True)
class Leftover:
    """A hub, or a file of a semaphore, and why it is there for nothing, or why it must stay."""

    name: str
    """The hub's name, or the file's in /dev/shm."""
    is_hub: bool
    why: str


def leftovers(*, wall: Callable[[], float] = time.time) -> Iterator[Leftover]:
    """What serves nobody, hubs first. ``wall``: the wall clock, which file times are in."""
    for name in naming.hub_names():
        owner = naming.owner_of(name)
        if owner is not None and (why := _why_owner_is_gone(name, owner)) and not _users_of(name):
            yield Leftover(name, True, f"{why}, and nobody has it attached")
    prefix = f"sem.{naming.segment_file('')}"
    for file in naming.files():
        if file.startswith(prefix) and (why := _why_useless(file, file[len(prefix) :], wall())):
            yield Leftover(file, False, why)


def unremovable() -> Iterator[Leftover]:
    """The hubs that stay, each with the reason."""
    for name in naming.hub_names():
        try:
            users = _users_of(name)
        except HubNotFoundError:
            continue
        except ShmetricsError as error:
            yield Leftover(name, True, str(error))
            continue
        if users:
            yield Leftover(name, True, f"in use by {' and '.join(users)}")
        elif naming.owner_of(name) is None:
            yield Leftover(name, True, f"its totals wait for the next start; `shmetrics rm {name}` removes it")
        else:
            yield Leftover(name, True, f"process {naming.owner_of(name)}, which it goes with, lives")


def remove(leftover: Leftover) -> bool:
    """Remove what serves nobody; False when it went meanwhile, or somebody has found a use for it."""
    if leftover.is_hub:
        try:
            hub.remove(leftover.name)
        except (HubNotFoundError, HubInUseError):
            return False
        return True
    try:
        os.unlink(f"{naming.SHM_DIR}/{leftover.name}")
    except FileNotFoundError:
        return False
    return True


def remove_predecessors() -> None:
    """Remove the hubs that went with an earlier process of our own number, and that nobody uses.

    Process 1 of a container that was killed has left one, and its successor, in the same /dev/shm, has the same number.
    To be called before this process makes a hub of its own.
    """
    for name in naming.hub_names():
        if naming.owner_of(name) == os.getpid():
            with suppress(ShmetricsError):  # in use after all, or gone, or no hub: not ours to remove
                hub.remove(name)


def is_gone(pid: int) -> bool:
    """Whether there is no process of that number to be seen."""
    return not os.path.exists(f"/proc/{pid}")


def _why_owner_is_gone(name: str, pid: int) -> str | None:
    """Why the process that a hub went with is gone; None when it lives, or may: its pid could be another's by now."""
    if is_gone(pid):
        return f"process {pid}, which it went with, is gone"
    started = start_ticks(pid)
    try:
        target = segment.attach(name)
    except ShmetricsError:
        return None
    created = float(target.header["created_monotonic"])
    target.close()
    # A process's start counts from boot, suspensions included (proc(5)), and a hub's creation does not: put on that
    # clock, it comes out later than it was where there was a suspension since, so that the hub stays.
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    if started is None or not started / _TICKS_PER_SECOND > created + suspended + _SLACK:
        return None
    return f"process {pid}, which it went with, is gone, and its number another's"


def _users_of(name: str) -> list[str]:
    """Who uses a hub, in words; HubNotFoundError and HubRefusedError as from `segment.attach`."""
    target = segment.attach(name)
    try:
        return hub.users(target)
    finally:
        target.close()


def _why_useless(file: str, rest: str, now: float) -> str | None:
    """Why a semaphore's file serves nobody; None when it does, or is nothing that we would make.

    ``rest``: the file's name after what all of this user's have in common.
    """
    try:
        status = os.lstat(f"{naming.SHM_DIR}/{file}")
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return None
    if _INSTANTANEOUS.fullmatch(rest):
        return "its maker was killed while making it" if now - status.st_ctime > INSTANT else None
    match = _SEMAPHORE.fullmatch(rest)
    return None if match is None else _why_of_no_hub(match)


def _why_of_no_hub(match: re.Match[str]) -> str | None:
    name, number = match["hub"], match["number"]
    try:
        target = segment.attach(name)
    except HubNotFoundError:
        return f"hub {name!r} is gone"
    except ShmetricsError:
        return None  # of the same hub, perhaps, which somebody may yet be able to read
    try:
        if f"{target.instance:016x}" != match["instance"]:
            return f"hub {name!r} is another by now"
        if number is None or int(match["slot"]) >= target.layout.max_workers:
            return None
        current = slots.words_of(target, int(match["slot"]))[slots.GUARD]
        return f"its owner made guard {current} in its place" if int(number) < current else None
    finally:
        target.close()
