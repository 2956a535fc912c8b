"""The supervisor: runs one command as its child, another program beside it, and is to both what a process 1 should be.

The command is in our process group and session, so a terminal, a shell's job control and ``kill -PGID`` reach it as if
nobody stood between. Signals that were sent to us alone are passed on; those that come from a terminal are not, since
the command has them already. It waits for signals instead of handling them, which tells the one from the other
(``siginfo``), and needs them blocked in *every* thread: `start_over_with_signals_blocked`.

Orphans among the descendants are adopted (``PR_SET_CHILD_SUBREAPER``; a process 1 has no choice) and reaped.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psutil

from shmetrics import prctl

PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH,
)  # fmt: skip
_AWAITED: Final = frozenset((*PASSED_ON, signal.SIGCHLD))
_SI_KERNEL: Final = 0x80
"""``si_code`` of what the kernel sends (siginfo(2)): a terminal does so, to its whole foreground process group."""

_RESTART_DELAY: Final = 5.0
"""Seconds from the violent end of the companion to the next."""
_STOP_PATIENCE: Final = 5.0
"""Seconds that the companion gets for an orderly end."""


def start_over_with_signals_blocked() -> None:
    """Execute this very program anew, unless the signals that the supervisor waits for are blocked already.

    Blocking them in this thread is not enough. Importing numpy has started threads, and the kernel would let one of
    those take a signal, and the process die of it. A mask outlasts execution and is inherited by every new thread; a
    signal that comes meanwhile waits.
    """
    were_blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    if not were_blocked >= _AWAITED and len(os.listdir("/proc/self/task")) > 1:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Supervisor:
    """Supervises one command. One thread of a process makes one, with the signals blocked in all threads.

    ``say``: told, in a line, what an operator should know. ``live_on``: whether what the command began still goes on,
    asked when the command itself ends without an error. ``ended``: told of each child that has ended, the companion
    apart, and how: its exit status, or minus a signal's number.
    """

    def __init__(
        self, say: Callable[[str], None], live_on: Callable[[], bool], ended: Callable[[int, int], object]
    ) -> None:
        self._say = say
        self._live_on = live_on
        self._ended = ended
        self._heeded = {number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}
        """Not those that whoever started us has ignored, as nohup does with SIGHUP: the command ignores them too."""
        self._disposition = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would lose us every status
        self._served: dict[int, subprocess.Popen[bytes] | None] = {}
        """Processes that get our signals and whose end we wait for: the command, and then what has taken its place."""
        self._companion_command: Sequence[str] = ()
        self._companion: subprocess.Popen[bytes] | None = None
        self._companion_due: float | None = None
        with suppress(OSError):  # some sandboxes have no such thing, and orphans go to the process 1 that there is
            prctl.adopt_orphans()

    def start(self, command: Sequence[str]) -> None:
        """Start the command. FileNotFoundError when there is none, another OSError when it cannot be executed."""
        parent = str(os.getpid())

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            signal.signal(signal.SIGCHLD, self._disposition)
            if os.environ.get("LISTEN_PID") == parent:  # sockets of systemd are for a process named by number
                os.environ["LISTEN_PID"] = str(os.getpid())

        # In the child there is no other thread, and nothing is done that another could have left locked.
        child = subprocess.Popen(command, preexec_fn=prepare, close_fds=False)  # noqa: PLW1509
        self._served[child.pid] = child

    def accompany(self, command: Sequence[str]) -> None:
        """Start the companion: a program that is to run as long as the command does, and no longer than we do.

        It is out of the terminal's reach, and what it prints goes to our standard error.
        """
        self._companion_command = command
        self._companion_due = None
        parent = os.getpid()

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            prctl.end_with_parent(parent)

        try:
            self._companion = subprocess.Popen(
                command,
                preexec_fn=prepare,  # noqa: PLW1509  as above
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"the aggregator could not be started: {error}")

    def wait(self) -> int:
        """Pass signals on until the command has ended; its exit status, or 128 and the number of the signal.

        A command that ends without an error while what it began lives on has handed over, as gunicorn's arbiter does
        to its successor (USR2). Then the processes that it left to us take its place.
        """
        status = 0
        while True:
            received = self._next_signal()
            if received is not None and received.si_signo in self._heeded:
                self._pass_on(received)
            for pid, code in self._reaped():
                if self._companion is not None and pid == self._companion.pid:
                    self._companion_ended(code)
                    continue
                self._ended(pid, code)
                if pid in self._served:
                    del self._served[pid]
                    status = code if code >= 0 else 128 - code
            if not self._served:
                successors = self._adopted() if status == 0 and self._live_on() else {}
                if not successors:
                    return status
                self._served = successors
                self._say(
                    f"the command has ended, and what it started goes on: process {', '.join(map(str, successors))}"
                )

    def stop_companion(self) -> None:
        """End the companion in order, or after a while in disorder."""
        self._companion_due = None
        deadline = time.monotonic() + _STOP_PATIENCE
        if self._companion is not None:
            self._companion.terminate()
            try:
                self._companion.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._companion.kill()
                self._companion.wait()
            self._companion = None

    def _next_signal(self) -> signal.struct_siginfo | None:
        """The next signal, or None when it is time to start the companion again."""
        if self._companion_due is None:
            return signal.sigwaitinfo(_AWAITED)
        received = signal.sigtimedwait(_AWAITED, max(0.0, self._companion_due - time.monotonic()))
        if received is None:
            self.accompany(self._companion_command)
        return received

    def _pass_on(self, received: signal.struct_siginfo) -> None:
        for pid in self._served:  # not reaped yet, so the number is still theirs
            if received.si_code == _SI_KERNEL and os.getpgid(pid) == os.getpgrp():
                continue
            try:
                os.kill(pid, received.si_signo)
            except PermissionError:
                self._say(f"{_name(received.si_signo)} cannot be passed on: process {pid} is another user's")

    def _reaped(self) -> list[tuple[int, int]]:
        """The children that have ended, and how: the exit status, or the number of the signal, negative."""
        ended: list[tuple[int, int]] = []
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return ended
            if found is None:
                return ended
            ended.append((found.si_pid, self._reap(found.si_pid)))

    def _reap(self, pid: int) -> int:
        for child in (self._served.get(pid), self._companion):
            if child is not None and child.pid == pid:
                return child.wait()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _companion_ended(self, code: int) -> None:
        """What was killed is started again; what ended by itself had a reason, and would end again."""
        self._companion = None
        if code > 0:
            self._say(f"the aggregator ended with status {code}; the command goes on without it")
        elif code < 0:
            self._say(f"the aggregator was killed by {_name(-code)}; another starts in {_RESTART_DELAY:.0f} s")
            self._companion_due = time.monotonic() + _RESTART_DELAY

    def _adopted(self) -> dict[int, subprocess.Popen[bytes] | None]:
        companion = None if self._companion is None else self._companion.pid
        return {child.pid: None for child in psutil.Process().children() if child.pid != companion}


def _name(number: int) -> str:
    """What people call a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
