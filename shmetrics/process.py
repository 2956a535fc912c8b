"""Who a process is: the identity a worker writes into its slot. Injected everywhere, so that tests can forge it."""

import multiprocessing
import os
from dataclasses import dataclass

ROLE_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """A process as its slot shows it. For display only: liveness is a kernel lock, never a pid."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to the process's start; tells a reused pid from the original. 0 when unknown."""
    role: str
    """What the process is, for people: at most 32 bytes of UTF-8."""


def current_identity(role: str | None = None) -> Identity:
    """The calling process, named by `role` or else as multiprocessing names it."""
    return Identity(os.getpid(), start_ticks("self") or 0, role or multiprocessing.current_process().name)


def start_ticks(pid: int | str) -> int | None:
    """Field 22 of ``/proc/<pid>/stat`` (proc(5)), or None when there is no such process to see."""
    fields = stat_fields(f"/proc/{pid}/stat")
    return None if fields is None else int(fields[19])


def state_of(pid: int, known_start_ticks: int) -> str | None:
    """A process's state as proc(5) has it (R, S, D, T, ...), or None when there is none of that pid and start."""
    fields = stat_fields(f"/proc/{pid}/stat")
    return None if fields is None or int(fields[19]) != known_start_ticks else fields[0].decode()


def stat_fields(path: str, *, dir_fd: int | None = None) -> list[bytes] | None:
    """A process's ``stat`` (proc(5)) from its third field on, or None when there is none to see.

    ``path``: absolute, or within ``dir_fd``, an open ``/proc/<pid>``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        stat = os.pread(descriptor, 4096, 0)  # a child forked in between shares the file's position
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    return stat[stat.rindex(b")") + 2 :].split()


def boot_id() -> str:
    """A value that changes at every boot of the kernel (random(4)), or "" where /proc does not show it.

    OSError when it is there and cannot be read now: no descriptors are left.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
