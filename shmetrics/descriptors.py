"""Descriptors above the standard three.

A process started without stdin, stdout or stderr (``2>&-``, some daemons) gets their numbers for the next files it
opens. What a C library or the interpreter prints then, at the latest when it crashes, would be written over the start
of a hub, and no process could attach it any more. So no hub is open for writing under such a number.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FIRST: Final = 3
"""The lowest number that is not a standard one."""


def above_standard(descriptor: int) -> int:
    """The descriptor, or when it has a standard number another one of the same open file in its place."""
    if descriptor >= FIRST:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST)
    finally:
        os.close(descriptor)


@contextmanager
def standard_taken() -> Iterator[None]:
    """Nothing opened inside gets a standard number, also where it is opened out of our hands (`mmap` duplicates)."""
    taken: list[int] = []
    try:
        while any(_is_closed(descriptor) for descriptor in range(FIRST)):
            taken.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False
