"""Kernel locks: who is alive, who may change the registry, who leads.

Open-file-description locks (``F_OFD_SETLK``, fcntl(2)) on single bytes of the segment. The kernel frees them when the
last descriptor of the description closes, whatever killed the process, for zombies and across PID namespaces, where
``kill(pid, 0)`` lies. Three rules make that true:

* a lock lives on a descriptor of its own, opened for it alone and never mapped (a mapping would keep it alive);
* a child of fork shares its parent's descriptions, so it closes those of the parent's locks at once (`forks`), or a
  dead parent would look alive; it never *unlocks* them, which would free them for the parent too;
* whoever releases a lock unlocks it before closing it, since a child that was just forked may hold it a moment longer.

A program may close descriptors that are not its own (daemons close them all), and the kernel gives the numbers to the
next files opened. So a number is never believed: before it is used or closed, the file behind it is compared.
"""

import errno
import fcntl
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from shmetrics import forks
from shmetrics.descriptors import above_standard

REGISTRY: Final = 0
"""Held while claiming, reaping and defining; always briefly."""
ROLE: Final = 1
"""Held by the one aggregator that samples and alerts."""
ATTACHED: Final = 2
"""Shared by all who have the segment attached for writing; exclusive while it is removed."""
REMOVAL: Final = 3
"""Held while the name is removed, so that only one process does."""
_SLOT_ZERO: Final = 16
_WATCH_ZERO: Final = 1 << 40

_FLOCK: Final = struct.Struct("@hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid: struct flock, 64-bit Linux
_LONGEST_PAUSE: Final = 0.05
"""Seconds between two tries to get a lock, at most."""
_BUSY: Final = (errno.EAGAIN, errno.EACCES)


class RegistryBusyError(Exception):
    """Another process held REGISTRY for longer than the caller was ready to wait. Internal."""


def slot_byte(slot: int) -> int:
    """The byte whose lock says that the owner of a slot is alive."""
    return _SLOT_ZERO + slot


def watch_byte(digest: int) -> int:
    """The byte whose lock says that somebody watches by certain alert rules; ``digest``: 40 bits of theirs.

    It lies far behind the end of the file, where bytes can be locked as well.
    """
    return _WATCH_ZERO + digest % (1 << 40)


def is_locked(descriptor: int, byte: int) -> bool:
    """Whether any *other* open file description holds the byte. One system call; a read-only descriptor will do."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, byte))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def try_share(descriptor: int, byte: int) -> bool:
    """Hold the byte together with others, on the descriptor's own description; False while one has it exclusively.

    Children of fork and mappings keep the description, and so the lock, until the last of them is gone.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_RDLCK, byte))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def unlock(descriptor: int, byte: int) -> None:
    """Give a byte up, for all who have the description."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, byte))


def file_of(descriptor: int) -> tuple[int, int] | None:
    """Which file a descriptor stands for: device and inode; None when it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _request(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def polls(
    patience: float, clock: Callable[[], float], sleep: Callable[[float], None], longest: float = 0.002
) -> Iterator[None]:
    """Once for each try to get something that another process has: at once, and for at most `patience` seconds.

    Jitter keeps a crowd of starters from marching in step; and pauses grow, or the polls of the crowd would keep the
    CPUs from whoever has it. ``longest``: what the first may last, in seconds. Should the clock stand still, the sleeps
    asked for add up to `patience` at most.
    """
    deadline, slept = clock() + patience, 0.0
    while True:
        yield
        left = min(deadline - clock(), patience - slept)
        if left <= 0.0:
            return
        pause = min(left, random.uniform(0.1 * longest, longest))
        sleep(pause)
        slept += pause
        longest = min(2.0 * longest, _LONGEST_PAUSE)


class ByteLock:
    """One byte, exclusively locked on a description of its own, until released or until the process ends.

    ``descriptor``: any open descriptor of the segment; it is opened anew through /proc, which works for an unlinked
    file too. One thread uses it; a child of fork finds it released, and the lock still its parent's.
    """

    def __init__(self, descriptor: int, byte: int) -> None:
        self._source = descriptor
        self._file = file_of(descriptor)
        self._byte = byte
        self._descriptor = -1
        self._locked = False
        self._owner = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the lock. Any thread may ask: one that is being tried for is not held yet."""
        return self._locked and self._is_open()

    @property
    def is_left(self) -> bool:
        """Whether the lock was released, or left to the parent by a child of fork. No system call, and no other."""
        return self._descriptor < 0

    def try_acquire(self) -> bool:
        """Take the lock without waiting; False when another description has it. True again while it is held."""
        if self.held:
            return True
        self._close()  # what a try that a signal handler ended left
        self._open()
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, self._byte))
        except OSError as error:
            self._close()
            if error.errno in _BUSY:
                return False
            raise
        self._locked = True
        return True

    def acquire(
        self, patience: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> bool:
        """Poll for the lock for at most `patience` seconds."""
        return any(self.try_acquire() for _ in polls(patience, clock, sleep))

    def release(self) -> None:
        """Give the lock up; harmless when it is not held."""
        if self._is_open() and self._owner == os.getpid():
            unlock(self._descriptor, self._byte)
        self._close()

    def after_fork_in_child(self) -> None:
        """Close what is the parent's. Called by `forks`."""
        self._close()

    def _open(self) -> None:
        """Open a description that no child of fork has a descriptor of, now or later."""
        forks.register(self)
        while True:
            epoch = forks.epoch()
            self._descriptor = os.open(f"/proc/self/fd/{self._source}", os.O_RDWR | os.O_CLOEXEC)
            self._descriptor = above_standard(self._descriptor)
            self._owner = os.getpid()
            if not self._is_open():
                os.close(self._descriptor)
                self._descriptor = -1
                raise OSError(errno.ESTALE, "the segment's descriptor was closed, and its number is another file's now")
            if forks.epoch() == epoch:
                return
            self._close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:  # an exception came between acquiring and whoever was to release
            self.release()

    def _is_open(self) -> bool:
        """Whether the descriptor is still the segment's."""
        return self._descriptor >= 0 and file_of(self._descriptor) == self._file

    def _close(self) -> None:
        self._locked = False
        is_open, descriptor, self._descriptor = self._is_open(), self._descriptor, -1
        if is_open:
            os.close(descriptor)

    def __enter__(self) -> "ByteLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
