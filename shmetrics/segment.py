"""The segment: one file in /dev/shm, created whole or not at all, attached only when everything about it is right.

Creation: ``O_TMPFILE`` (a file without a name), mode 0600 whatever the umask, every byte reserved by
``posix_fallocate`` so that a full /dev/shm is a clear error now and never a SIGBUS later, header written, and only then
linked under its name. Whoever loses the race for the name attaches to the winner's. A name is never freed to be taken
again, and a file never opened with a size, so no process can see half a hub.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from shmetrics import forks, guards, layout, naming
from shmetrics.arrays import np
from shmetrics.descriptors import above_standard, standard_taken
from shmetrics.entries import Contents
from shmetrics.errors import (
    HubFileTypeError,
    HubLayoutError,
    HubNotFoundError,
    HubOwnerError,
    HubPermissionError,
    HubSpaceError,
    HubStaleError,
    PlatformError,
)
from shmetrics.layout import HEADER, Layout, offset_of
from shmetrics.locks import ATTACHED, REMOVAL, ByteLock, file_of, try_share, unlock
from shmetrics.process import boot_id
from shmetrics.strict import is_strict, new_fence
from shmetrics.structs import Fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

REMOVAL_PATIENCE: Final = 1.0
"""Seconds that attaching, or another removal, waits for a removal under way to end."""
_UNUSABLE: Final = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.EOPNOTSUPP,
)
"""What open(2) says of a directory that is missing, forbidden, or of a file system without O_TMPFILE."""

_RETIRED_INDEX: Final = offset_of(HEADER, "retired_index")


class Segment:
    """A mapped hub: its bytes, its layout, and typed views of its parts.

    Made by `create`, `attach` and `create_or_attach`. Any process and thread may hold one; it is not synchronised: the
    protocol in `slots`, `writer` and `reader` says who may touch which byte when. The mapping is inherited by fork.
    """

    def __init__(self, name: str, descriptor: int, dims: Layout, *, writable: bool) -> None:
        self.name = name
        self.layout = dims
        self.writable = writable
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.memory = mmap.mmap(descriptor, dims.size, mmap.MAP_SHARED, protection)
        self.header = Fields(HEADER, self.memory)
        self._index: memoryview[int] = memoryview(self.memory)[_RETIRED_INDEX : _RETIRED_INDEX + 8].cast("Q")
        self.instance: int = self.header["instance"]
        self.fresh_semaphore: bytes = self.header["semaphore"]
        self.known = Contents.blank(dims.max_series, dims.cells)
        """What this process has read of the catalog: `catalog` keeps it here."""
        self.strict = is_strict()
        """Whether memory is ordered explicitly, as the environment said when this was made."""
        self.fence = new_fence(strict=self.strict)
        self._attached_by = os.getpid()
        self._file = file_of(descriptor)
        if writable:
            forks.register(self)
        self._descriptor = descriptor  # last: until here the caller is the one to close it

    @property
    def raw(self) -> NDArray[np.uint8]:
        """All bytes, as an array."""
        return np.frombuffer(self.memory, np.uint8)

    @property
    def slots(self) -> NDArray[np.void]:
        """The slots, as an array: shape (max_workers,), of ``Layout.slot``."""
        dims = self.layout
        slots: NDArray[np.void] = np.ndarray((dims.max_workers,), dims.slot, self.memory, dims.slots_offset)
        return slots

    def part(self, slot: int, name: str) -> memoryview[int]:
        """The bytes of a part of a slot."""
        start = self.slot_offset(slot) + offset_of(self.layout.slot, name)
        return memoryview(self.memory)[start : start + self.layout.slot.size_of(name)]

    @property
    def descriptor(self) -> int:
        """A descriptor of the segment: for locks, never for reading. OSError when there is none to be had.

        Should the one it was mapped by have been closed by somebody who closes all descriptors, another is opened by
        the hub's name.
        """
        if self._file is None:
            raise OSError(errno.EBADF, "the segment was closed")
        if file_of(self._descriptor) != self._file:
            self._descriptor = self._open_again()
        return self._descriptor

    def _open_again(self) -> int:
        access = os.O_RDWR if self.writable else os.O_RDONLY
        path = naming.segment_path(self.name)
        descriptor = above_standard(os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        if file_of(descriptor) != self._file:
            os.close(descriptor)
            raise OSError(errno.ESTALE, f"the descriptor of hub {self.name!r} was closed, and its name is gone")
        return descriptor

    @property
    def file(self) -> tuple[int, int] | None:
        """Device and inode: what tells one segment from another, whatever it is called."""
        return self._file

    @property
    def retired_index(self) -> int:
        """How many reaps there were; its lowest bit names the good retired copy."""
        return self._index[0]

    def retired(self, index: int) -> NDArray[np.void]:
        """The retired copy that is good while `retired_index` is `index`: zero-dimensional, shared memory."""
        view: NDArray[np.void] = np.ndarray((), self.layout.retired, self.memory, self._retired_offset(index))
        return view

    def _retired_offset(self, index: int) -> int:
        return self.layout.retired_offset + (index & 1) * self.layout.retired.itemsize

    def retired_generation(self, slot: int) -> int:
        """The last incarnation of a slot whose totals are in the retired area."""
        start = self._retired_offset(self.retired_index) + offset_of(self.layout.retired, "folded_generation")
        generation: int = memoryview(self.memory)[start + 8 * slot : start + 8 * slot + 8].cast("Q")[0]
        return generation

    def flip_retired(self, index: int) -> None:
        """Make the other retired copy the good one, in a single 8-byte store. The caller holds REGISTRY."""
        self.fence()
        self._index[0] = index % 2**64
        self.fence()

    def slot_offset(self, slot: int) -> int:
        """Bytes from the start of the segment to a slot."""
        return self.layout.slots_offset + slot * self.layout.slot.itemsize

    @property
    def is_unlinked(self) -> bool:
        """Whether the hub's name was removed; this mapping goes on working, but nobody new can find it."""
        try:
            return os.fstat(self.descriptor).st_nlink == 0
        except OSError:
            if self._file is None:
                raise
            return True  # it could not be opened again by its name

    def close(self) -> None:
        """Close the descriptor. The mapping goes when the last view of it does.

        What a process attached it gives up, and its children of fork keep: they have attached it themselves.
        """
        descriptor, file, self._descriptor, self._file = self._descriptor, self._file, -1, None
        if file is not None and file_of(descriptor) == file:
            if self.writable and self._attached_by == os.getpid():
                unlock(descriptor, ATTACHED)
            os.close(descriptor)

    def after_fork_in_child(self) -> None:
        """Hold ATTACHED on a description of this process's own: the parent may give up theirs. Called by `forks`.

        Where that cannot be (no descriptor left, no /proc), the parent's has to do.
        """
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDWR | os.O_CLOEXEC)
            try:
                try_share(own, ATTACHED)
                os.dup2(own, self._descriptor, inheritable=False)  # the same number: locks know the segment by it
                self._attached_by = os.getpid()
            finally:
                os.close(own)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()


def create(name: str, dims: Layout) -> Segment:
    """Create a hub.

    FileExistsError when the name is taken, HubSpaceError when /dev/shm has no room, PlatformError when it is unusable.
    """
    naming.check_name(name)
    _check_platform()
    with _space_explained(name, dims), standard_taken():
        descriptor = above_standard(_open_nameless())
        try:
            os.fchmod(descriptor, 0o600)
            os.posix_fallocate(descriptor, 0, dims.size)
            os.pwrite(descriptor, _new_header(dims), 0)
            try_share(descriptor, ATTACHED)
            segment = Segment(name, descriptor, dims, writable=True)
        except BaseException:
            os.close(descriptor)
            raise
        try:
            naming.link(descriptor, naming.segment_file(name))
        except BaseException:
            segment.close()
            raise
        return segment


def _open_nameless() -> int:
    """A file in shared memory without a name; PlatformError where there can be none, however much room there is."""
    try:
        return os.open(naming.SHM_DIR, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _UNUSABLE:
            raise
        raise PlatformError(
            f"{naming.SHM_DIR} cannot hold a hub of user {os.geteuid()} ({error.strerror}); {naming.USABLE_SHM}"
        ) from error


def attach(name: str, *, writable: bool = False) -> Segment:
    """Attach to an existing hub, after checking everything that can be checked; see the errors for what that is.

    ``writable``: for recording. Such an attachment keeps the hub from being removed, as long as the process lives.
    """
    naming.check_name(name)
    _check_platform()
    deadline = time.monotonic() + REMOVAL_PATIENCE
    while True:
        with standard_taken():
            segment = _attach(name, writable=writable)
        if not writable:
            return segment
        settled = try_share(segment.descriptor, ATTACHED) or time.monotonic() >= deadline
        if settled and not segment.is_unlinked:  # else it was removed between our opening and our locking it
            return segment
        segment.close()
        time.sleep(0.001)


def _attach(name: str, *, writable: bool) -> Segment:
    path = naming.segment_path(name)
    access = os.O_RDWR if writable else os.O_RDONLY
    try:
        # O_NONBLOCK: a FIFO squatting on the name must not make us wait for its other end.
        descriptor = above_standard(os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        raise HubNotFoundError(
            f"no hub named {name!r} for user {os.geteuid()}; there are: {naming.known_hubs()} "
            f"(the server that uses a hub makes it){naming.of_others(name)}"
        ) from None
    except OSError as error:
        raise _refusal_to_open(path, error) from error
    try:
        dims = _check(descriptor, path, name)
        return Segment(name, descriptor, dims, writable=writable)
    except BaseException:
        os.close(descriptor)
        raise


def create_or_attach(name: str, dims: Layout, *, any_dimensions: bool = False) -> Segment:
    """The hub of that name, created with these dimensions if there is none.

    HubLayoutError when it exists with others, unless ``any_dimensions``.
    """
    while True:
        segment: Segment | None = None
        with suppress(HubNotFoundError):
            segment = attach(name, writable=True)
        if segment is None:  # not in a handler: that there was no hub is no part of what may go wrong in making it
            try:
                return create(name, dims)
            except FileExistsError:
                continue  # another starter was faster: attach to its hub
        if segment.layout != dims and not any_dimensions:
            found = segment.layout
            segment.close()
            raise HubLayoutError(
                f"hub {name!r} exists with {found}, but {dims} was asked for; "
                f"use the same numbers, another name, or stop the server and remove it with `shmetrics rm {name}`; "
                f"where it is `shmetrics run` that makes it, give that {flags_for(found, dims)}"
            )
        return segment


def flags_for(found: Layout, wanted: Layout) -> str:
    """The flags of `shmetrics run` that would have made the hub as it was wanted, and not as it was found."""
    return " ".join(
        f"--{name.replace('_', '-')} {getattr(wanted, name)}"
        for name in ("window_size", "max_workers", "max_series")
        if getattr(wanted, name) != getattr(found, name)
    )


def unlink(name: str, instance: int) -> bool:
    """Remove a hub's name and its semaphores; processes that have it mapped go on undisturbed.

    Only files of this user and of this very instance are touched. Harmless when they are gone, or when something else
    has taken the name meanwhile. False when another process is removing the hub, for longer than REMOVAL_PATIENCE.
    """
    path = naming.segment_path(name)
    descriptor = _open_instance(path, instance)
    if descriptor is not None:
        try:
            # One remover at a time, or the name that the second removes would be a new hub's.
            with ByteLock(descriptor, REMOVAL) as removal:
                if not removal.acquire(REMOVAL_PATIENCE):
                    return False
                if os.fstat(descriptor).st_nlink:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
        finally:
            os.close(descriptor)
    guards.unlink_all(naming.semaphore_prefix(name, instance))
    return True


def _open_instance(path: str, instance: int) -> int | None:
    """A descriptor of the file, or None when it does not hold this very hub of this user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        header = b""
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            header = os.pread(descriptor, HEADER.itemsize, 0)
        if len(header) == HEADER.itemsize and Fields(HEADER, header)["instance"] == instance:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _check_platform() -> None:
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        raise PlatformError(
            f"shmetrics needs a 64-bit Linux (O_TMPFILE, open-file-description locks), and this is {sys.platform}"
        )


@contextmanager
def _space_explained(name: str, dims: Layout) -> Iterator[None]:
    """Turn what the system says when shared memory is full into a HubSpaceError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM, errno.EDQUOT):
            raise
        free = os.statvfs(naming.SHM_DIR)
        raise HubSpaceError(
            f"hub {name!r} needs {dims.size:,} bytes of shared memory for {dims}, and a few pages for semaphores, but "
            f"{naming.SHM_DIR} has {free.f_bavail * free.f_frsize:,} of {free.f_blocks * free.f_frsize:,} free, and "
            f"room for {free.f_favail:,} more files; ask for fewer workers or a smaller window, remove old hubs "
            f"(`shmetrics gc`, `shmetrics ls`), or {naming.MORE_SHM}"
        ) from error


def _new_header(dims: Layout) -> bytearray:
    data = bytearray(HEADER.itemsize)
    header = Fields(HEADER, data)
    header["magic"] = layout.MAGIC
    header["version"] = layout.VERSION
    header["layout_hash"] = dims.hash
    header["size"] = dims.size
    header["max_workers"] = dims.max_workers
    header["window_size"] = dims.window_size
    header["max_series"] = dims.max_series
    header["instance"] = int.from_bytes(os.urandom(8), "little")
    header["boot"] = boot_id().encode()
    header["semaphore"] = guards.template()
    header["creator_pid"] = os.getpid()
    header["created_monotonic"] = time.monotonic()
    header["created_wall"] = time.time()
    return data


def _refusal_to_open(path: str, error: OSError) -> Exception:
    if error.errno == errno.ELOOP:
        return HubFileTypeError(f"{path} is a symbolic link, not a hub; find out who made it, and remove it")
    if error.errno in (errno.EACCES, errno.EPERM):
        with suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                return HubPermissionError(
                    f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so that its own user may not open it for "
                    f"this, but a hub is 0600: `chmod 600 {path}`"
                )
        return HubOwnerError(f"{path} may not be opened by user {os.geteuid()}; run as the user who started the server")
    if error.errno in (errno.EISDIR, errno.ENXIO, errno.ENODEV):
        return HubFileTypeError(f"{path} is not a regular file and so not a hub; find out who made it, and remove it")
    return error


def _check(descriptor: int, path: str, name: str) -> Layout:
    """Everything that makes a file a hub we may map. Reads with pread, so a short file cannot raise SIGBUS."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise HubFileTypeError(f"{path} is not a regular file and so not a hub; find out who made it, and remove it")
    if status.st_uid != os.geteuid():
        raise HubOwnerError(f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}; "
                            f"run as the user who started the server")  # fmt: skip
    if status.st_mode & 0o077:
        raise HubPermissionError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, but a hub is 0600: others could have changed it; "
            f"if you trust its contents `chmod 600 {path}`, else remove it"
        )
    remedy = f"remove it with `shmetrics rm --force {name}` and restart the server"
    data = os.pread(descriptor, HEADER.itemsize, 0)
    if len(data) < HEADER.itemsize:
        raise HubLayoutError(f"{path} holds only {len(data)} bytes, too few for a hub; {remedy}")
    header = Fields(HEADER, data)
    if header["magic"] != layout.MAGIC:
        raise HubLayoutError(f"{path} does not start as a hub does; {remedy}")
    if header["version"] != layout.VERSION:
        raise HubLayoutError(
            f"hub {name!r} has layout version {header['version']}, this shmetrics has {layout.VERSION}; "
            f"run the same shmetrics everywhere, or {remedy}"
        )
    try:
        dims = Layout(header["max_workers"], header["window_size"], header["max_series"])
    except ValueError as error:
        raise HubLayoutError(f"hub {name!r} has impossible dimensions ({error}); {remedy}") from None
    if header["layout_hash"] != dims.hash:
        raise HubLayoutError(
            f"hub {name!r} was laid out differently (hash {header['layout_hash']:016x}, here {dims.hash:016x}); "
            f"run the same shmetrics everywhere, or {remedy}"
        )
    if not header["size"] == status.st_size == dims.size:
        raise HubLayoutError(f"hub {name!r} has {status.st_size:,} bytes instead of {dims.size:,}; {remedy}")
    boot = boot_id()
    if boot and header["boot"].decode("ascii", "replace") != boot:
        raise HubStaleError(f"hub {name!r} was created before the machine last booted; {remedy}")
    return dims
