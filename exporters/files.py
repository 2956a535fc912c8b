"""Files that other programs read while they are written: whole, or as they were before."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import Final

from shmetrics.errors import OutputError

_MODE: Final = 0o666
"""Of a new file, less the umask."""


def write_atomically(path: str, content: bytes) -> None:
    """Put `content` under the name `path`: a reader sees the whole of it or what was there before, also after a crash.

    It is written beside, forced to the disk and renamed. A file that was there gives its mode, a symbolic link stays
    one and its target is replaced, and what is no regular file (a pipe, a device) is simply written to. OutputError,
    with nothing changed, when it cannot be. Any process and any thread may call; of two at once the later one wins.
    """
    try:
        mode = _mode_of(path)
        if mode is not None and not stat.S_ISREG(mode):
            with open(path, "wb", buffering=0) as device:  # renaming over it would turn a device into a file
                _write_all(device.fileno(), content)
            return
        _replace(os.path.realpath(path), content, mode)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have, with a NUL say
        raise _refusal(path, error, f", with {len(content):,} bytes free") from None


def check_writable(path: str) -> None:
    """OutputError at once where `write_atomically` would raise it: for whoever works for long before there is something
    to write. Nothing is changed.
    """
    try:
        mode = _mode_of(path)
        is_replaced = mode is None or stat.S_ISREG(mode)
        target = os.path.dirname(os.path.realpath(path)) if is_replaced else path
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.stat(target)
        if not os.access(target, os.W_OK | (os.X_OK if is_replaced else 0)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def _refusal(path: str, error: OSError | ValueError, room: str = "") -> OutputError:
    why = getattr(error, "strerror", None) or error
    return OutputError(
        f"cannot write {path!r}: {why}; name a file in a directory that is there and that this user may write to{room}"
    )


def _mode_of(path: str) -> int | None:
    """Type and mode of what a path leads to; None of nothing."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _replace(path: str, content: bytes, mode: int | None) -> None:
    directory = os.path.dirname(path)
    beside = os.path.join(directory, f".shmetrics-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode & 0o777)
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except BaseException:  # Ctrl-C too leaves nothing
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _sync_directory(directory)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_directory(directory: str) -> None:
    """Force the new name to the disk."""
    with suppress(OSError):  # one may write to a directory and not read it; the file stands there in any case
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
