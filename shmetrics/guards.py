"""Named semaphores: the guard of each slot, the fence of strict mode, the aggregator's doorbell.

A guard keeps a reader's copy of a slot and its owner's fold apart, so that in the common case no copy is ever repeated.
Nothing *rests* on it. A POSIX semaphore has no owner: when its holder is killed it stays at 0, and no bystander can
tell "dead" from "slow" without a race. So nobody ever releases on behalf of another, every acquire is bounded, and a
guard that stays busy is replaced by the slot's owner alone, under a new number.

Acquires are polls on the monotonic clock: ``sem_timedwait`` counts on the wall clock, and a clock set back an hour
would make a wait of 5 ms last that hour.
"""

import os
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Final

import posix_ipc

from shmetrics import naming
from shmetrics.layout import SEMAPHORE_BYTES

_POLL: Final = 0.0002
_LARGEST_VALUE: Final = 1024
_PRIVATE: Final = (0, 128)
_WORDS: Final = struct.Struct(f"{SEMAPHORE_BYTES // 4}I")


class Semaphore:
    """One named semaphore with bounded operations only. Not for use by two threads at once.

    As a context manager it closes (not releases) itself.
    """

    def __init__(self, semaphore: "posix_ipc.Semaphore") -> None:
        self._semaphore = semaphore

    def try_acquire(self) -> bool:
        """Take it without waiting; False when it is busy."""
        try:
            self._semaphore.acquire(0)
        except posix_ipc.BusyError:
            return False
        return True

    def acquire(
        self, patience: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> bool:
        """Poll for at most `patience` seconds; should the clock stand still, for as many polls as fit into them."""
        if self.try_acquire():
            return True
        deadline, slept = clock() + patience, 0.0
        while clock() < deadline and slept < patience:
            sleep(_POLL)
            slept += _POLL
            if self.try_acquire():
                return True
        return False

    def release(self) -> None:
        """Give back what this object acquired.

        Harmless when that is impossible: the value was overwritten with the largest there is, or the semaphore closed
        in a child that was forked in between. Nothing rests on a guard.
        """
        with suppress(OSError, posix_ipc.Error):
            self._semaphore.release()

    @property
    def value(self) -> int:
        """The semaphore's value at some recent instant; a guard's is 0 or 1."""
        return int(self._semaphore.value)

    def close(self) -> None:
        """Unmap it; the name stays."""
        self._semaphore.close()

    def __enter__(self) -> "Semaphore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def guard_name(prefix: str, slot: int, number: int) -> str:
    """The name of the `number`-th guard of a slot; ``prefix`` from `naming.semaphore_prefix`."""
    return f"{prefix}g{slot}.{number}"


def bell_name(prefix: str) -> str:
    """The name of the hub's doorbell."""
    return f"{prefix}bell"


def is_sound(contents: bytes) -> bool:
    """Whether the C library may be given a semaphore of these bytes.

    It trusts each of them: a third word that no library stores makes ``sem_post`` wait for ever or abort the process.
    We only ever poll, so nobody waits in ours, and everything after value, waiters and kind is zero.
    """
    if len(contents) != SEMAPHORE_BYTES:
        return False
    value, waiters, private, *others = _WORDS.unpack(contents)
    return value <= _LARGEST_VALUE and not waiters and private in _PRIVATE and not any(others)


@lru_cache(maxsize=1)
def template() -> bytes:
    """The bytes of a fresh semaphore of value 1, as this system's C library makes them: found out once a process."""
    name = f"{naming.segment_file('')}template.{os.getpid()}.{os.urandom(8).hex()}"
    semaphore = posix_ipc.Semaphore("/" + name, posix_ipc.O_CREX, 0o600, 1)
    try:
        os.chmod(_path(name), 0o600)  # the umask took its share of the mode
        with open(_path(name), "rb") as file:
            return file.read()
    finally:
        semaphore.unlink()
        semaphore.close()


def create(name: str, fresh: bytes) -> Semaphore | None:
    """Make a new semaphore of value 1, replacing a leftover of that name; None when the system has no room for one.

    ``fresh``: a `template`. The semaphore is written nameless and then linked, like the segment: ``sem_open`` would
    write it to a file with a random name first, which stays for ever when its creator is killed there. Only a name's
    one rightful creator calls this (a guard's is the owner of the slot).
    """
    if not is_sound(fresh):
        return None
    try:
        descriptor = os.open(naming.SHM_DIR, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # no space, no descriptors: go on without
        return None
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, fresh)
        unlink(name)
        naming.link(descriptor, f"sem.{name}")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return open_existing(name)


def open_existing(name: str) -> Semaphore | None:
    """Open a semaphore if a safe one of that name exists.

    The file is looked at first: glibc maps whatever it finds, and a short file would kill this process with SIGBUS.
    Since it must be ours and /dev/shm is sticky, nobody else can exchange it between the look and the opening.
    """
    try:
        descriptor = os.open(_path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        safe = (
            stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and not status.st_mode & 0o077
            and is_sound(os.read(descriptor, SEMAPHORE_BYTES + 1))
        )
    finally:
        os.close(descriptor)
    if not safe:
        return None
    try:
        return Semaphore(posix_ipc.Semaphore("/" + name))
    except (OSError, posix_ipc.Error):
        return None


def unlink(name: str) -> bool:
    """Remove a name; whoever has the semaphore open keeps it. False when that is not possible."""
    try:
        os.unlink(_path(name))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def unlink_all(prefix: str) -> None:
    """Remove every semaphore of this user whose name starts so; what cannot be removed is not ours to remove."""
    start = f"sem.{prefix}"
    for file in os.listdir(naming.SHM_DIR):
        if file.startswith(start):
            with suppress(OSError):  # its owner replaced it meanwhile, or it is somebody else's
                path = f"{naming.SHM_DIR}/{file}"
                if os.lstat(path).st_uid == os.geteuid():
                    os.unlink(path)


def _path(name: str) -> str:
    return f"{naming.SHM_DIR}/sem.{name}"


class Fence:
    """A full memory barrier, for CPUs that reorder plain stores or loads.

    ``sem_post`` followed by ``sem_trywait`` on a semaphore of this process alone: POSIX lists both among the functions
    that synchronise memory (XBD 4.12), and a release followed by an acquire is a full barrier in practice. Unlike a
    Python lock it stays what it is when a framework replaces the threading module. It never waits.
    """

    def __init__(self) -> None:
        name = f"{naming.segment_file('')}fence.{os.getpid()}.{os.urandom(8).hex()}"
        semaphore = posix_ipc.Semaphore("/" + name, posix_ipc.O_CREX, 0o600, 1)
        semaphore.unlink()  # nobody else needs it: only the mapping is used, and a fork may share it
        self._release = semaphore.release
        self._acquire = semaphore.acquire
        self._close = semaphore.close

    def __call__(self) -> None:
        """Let no load or store of this thread cross this point."""
        self._release()
        self._acquire(0)

    def __del__(self) -> None:
        close = getattr(self, "_close", None)
        if close is not None:
            close()
