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
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = os.pread(
                file.fileno(), 4096, 0
            )  # a child forked since has moved the file's position, which is shared
    except OSError:
        return None
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return int(fields[19])


def boot_id() -> str:
    """A value that changes at every boot of the kernel (random(4)), or "" where it cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
