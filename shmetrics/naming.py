"""Names: of hubs as users say them, and of the files they stand for in /dev/shm.

A hub ``resnet`` of user 1000 is the file ``shmetrics.1000.resnet``; its semaphores start with
``sem.shmetrics.1000.resnet.<instance>.``. The instance is random, so a new hub of an old name shares nothing with it.
"""

import os
import re
from collections.abc import Iterator
from typing import Final

SHM_DIR: Final = "/dev/shm"  # where glibc keeps POSIX shared memory and named semaphores (shm_overview(7))

MORE_SHM: Final = (
    f"give the container more: docker run --shm-size=256m, or in Kubernetes an emptyDir with medium: Memory mounted at "
    f"{SHM_DIR}"
)
"""What to do when SHM_DIR is too small."""

USABLE_SHM: Final = (
    f"mount a tmpfs at {SHM_DIR} in which every user may make files (mode 1777), as systems and containers do"
)
"""What to do when SHM_DIR is missing, read-only, forbidden, or no tmpfs."""

_NAME: Final = re.compile(r"[a-z0-9_-]{1,48}")
_AUTOMATIC: Final = re.compile(
    r"private-(\d{1,10})-[0-9a-f]{8}|gunicorn-(\d{1,10})|run-[a-z0-9_-]{1,24}-(\d{1,10})-[0-9a-f]{8}"
)


def check_name(name: str) -> str:
    """Return the name, or raise ValueError when it is not one a hub can have."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"hub name must be 1 to 48 characters of a-z, 0-9, '_' and '-', not {name!r}")
    return name


def private_name() -> str:
    """A name for a hub that nobody needs to know."""
    return f"private-{os.getpid()}-{os.urandom(4).hex()}"


def arbiter_name() -> str:
    """The name of a hub that goes with the calling process, the arbiter of a server."""
    return f"gunicorn-{os.getpid()}"


def run_name(command: str) -> str:
    """A name for the hub of a command that the calling process runs, and that goes with it."""
    known_as = re.sub(r"[^a-z0-9_-]+", "-", os.path.basename(command).lower()).strip("-")[:24] or "command"
    return f"run-{known_as}-{os.getpid()}-{os.urandom(4).hex()}"


def owner_of(name: str) -> int | None:
    """The process that a hub without a name of its own goes with, by what it is called; None for a hub with a name."""
    match = _AUTOMATIC.fullmatch(name)
    return None if match is None else int(match[match.lastindex or 0])


def segment_file(name: str) -> str:
    """The file name, without directory, of a hub of this user."""
    return f"shmetrics.{os.geteuid()}.{name}"


def segment_path(name: str) -> str:
    """The full path of a hub of this user."""
    return f"{SHM_DIR}/{segment_file(name)}"


def semaphore_prefix(name: str, instance: int) -> str:
    """What the POSIX names of one hub's semaphores start with, after the leading slash."""
    return f"{segment_file(name)}.{instance:016x}."


def files() -> list[str]:
    """What there is in SHM_DIR, sorted, and out of date at once; nothing where there is no such directory."""
    try:
        return sorted(os.listdir(SHM_DIR))
    except FileNotFoundError:
        return []


def is_usable() -> bool:
    """Whether this user may make files in SHM_DIR."""
    return os.access(SHM_DIR, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)


def hub_names() -> Iterator[str]:
    """Names of all hubs of this user, sorted; being a directory listing, it may be out of date at once."""
    prefix = segment_file("")
    for file in files():
        if file.startswith(prefix) and _NAME.fullmatch(name := file[len(prefix) :]):
            yield name


def of_others(name: str) -> str:
    """Which other users have a hub of that name, for a message; nothing where nobody has."""
    hubs = (re.fullmatch(rf"shmetrics\.(\d+)\.{re.escape(name)}", file, re.ASCII) for file in files())
    users = [hub[1] for hub in hubs if hub]
    return f"; user {' and user '.join(users)} has one of that name: ask as that user" if users else ""


def known_hubs() -> str:
    """The hubs of this user, for a message: by name, but for private ones, which nobody asks for and may be many."""
    names = list(hub_names())
    shown = [name for name in names if not name.startswith("private-")]
    if count := len(names) - len(shown):
        shown.append(f"{count} private one{'s' if count > 1 else ''}")
    return ", ".join(shown) or "none"


def link(descriptor: int, file: str) -> None:
    """Give an O_TMPFILE file its name in SHM_DIR (open(2)); with a directory descriptor os.link follows /proc."""
    directory = os.open(SHM_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{descriptor}", file, dst_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)
