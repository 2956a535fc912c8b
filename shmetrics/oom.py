"""OOM kills: how many processes the kernel has ended for want of memory, which nothing tells the parent of one.

Read from ``memory.events`` of this process's own cgroup (cgroup v2, Documentation/admin-guide/cgroup-v2.rst, where
``oom_kill`` counts the group and those below it), else from ``/proc/vmstat`` of the whole machine. Each reading is one
word, so that it can be kept in shared memory by one store: 16 bits say which counter it is, 48 what it had.
"""

import os
from typing import Final

_VALUE_BITS: Final = 48
_MACHINE: Final = 1
_MOUNTS: Final = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_VMSTAT: Final = "/proc/vmstat"
_BYTES: Final = 65536


def reading() -> int:
    """The counter as it is now; 0 where none can be read. A few system calls; never raises."""
    group = _own_group()
    for path in () if group is None else (*(f"{mount}{group}" for mount in _MOUNTS), _MOUNTS[0]):
        found = _read(f"{path.rstrip('/')}/memory.events")
        if found is not None:
            inode, text = found
            return _word(_MACHINE + 1 + inode % 0xFF00, text)
    found = _read(_VMSTAT)
    return 0 if found is None else _word(_MACHINE, found[1])


def kills_between(earlier: int, later: int) -> int:
    """How many kills two readings are apart; 0 where they are of two counters, or of none."""
    if not earlier or earlier >> _VALUE_BITS != later >> _VALUE_BITS:
        return 0
    return max(0, later - earlier)


def latest(one: int, other: int) -> int:
    """The later of two readings, where they are of one counter; else the second."""
    return max(one, other) if one >> _VALUE_BITS == other >> _VALUE_BITS else other


def _own_group() -> str | None:
    """The path of this process's group in the unified hierarchy (cgroups(7)); None where it is in none."""
    found = _read("/proc/self/cgroup")
    lines = [] if found is None else found[1].decode("utf-8", "replace").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::/")), None)


def _word(counter: int, text: bytes) -> int:
    """A reading from a file of lines of a name and a number."""
    for line in text.splitlines():
        name, _, number = line.partition(b" ")
        if name == b"oom_kill" and number.isdigit():
            return counter << _VALUE_BITS | int(number) % (1 << _VALUE_BITS)
    return 0


def _read(path: str) -> tuple[int, bytes] | None:
    """A file's inode and its beginning, or None where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_ino, os.read(descriptor, _BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
