"""Who a process is: the identity a worker writes into its slot. Injected everywhere, so that tests can forge it."""

import multiprocessing
import os
from dataclasses import dataclass
from typing import NamedTuple

ROLE_BYTES = 32
_PF_EXITING = 0x4
"""Among the flags of a task (linux/sched.h): it is ending."""


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


class Fate(NamedTuple):
    """What became of a process, as far as one can see."""

    is_running: bool
    exit_code: int | None = None
    """As `subprocess` has it, of one that has ended and was not waited for yet; None when that cannot be seen."""


def fate_of(pid: int, known_start_ticks: int) -> Fate:
    """Whether a process runs (stopped or not), or else how it ended: field 52 of its ``stat`` (proc(5)) says so.

    One that is ending counts as ended once it has let go of its files, and so of its locks: the kernel sets the exit
    code before.
    """
    fields = stat_fields(f"/proc/{pid}/stat")
    if fields is None or int(fields[19]) != known_start_ticks:
        return Fate(is_running=False)
    if fields[0] not in (b"Z", b"X") and not int(fields[6]) & _PF_EXITING:
        return Fate(is_running=True)
    return Fate(is_running=False, exit_code=os.waitstatus_to_exitcode(int(fields[49])))


def stat_fields(path: str) -> list[bytes] | None:
    """A process's ``stat`` (proc(5)) from its third field on, or None when there is none to see."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
        # As bytes: opening a text file may import its codec, which must not happen in a signal handler, and hubs are
        # attached in some (gunicorn before 24 calls hooks there).
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
