"""The worker's side of profiling on demand: a thread that waits for somebody to ask, and then samples.

It waits in ``poll``, so as long as nobody asks it costs a worker a thread that sleeps, one descriptor, and nothing of
a request. It starts when the process takes its slot in the hub: a server that only forks never has it, and each forked
worker has its own. What asks must be of the same user, or root. While it samples, others are told that it is busy; when
whoever asked goes away, it stops.
"""

import _thread
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from shmetrics import forks
from shmetrics.claimant import may_wait_in_a_write
from shmetrics.process import start_ticks
from shmetrics.profiling import wire
from shmetrics.profiling.peers import peer_of
from shmetrics.profiling.sampler import Sampler
from shmetrics.profiling.wire import BUSY, STRANGER, UNCLEAR, Request, WireError

_PATIENCE: Final = 5.0
"""Seconds for which the other side may say, or take, nothing."""
_FOR_NOW: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Why nobody can be answered for a while: a server that is out of descriptors has them again when its load is less."""
_BACKLOG: Final = 8
_SHORTLY: Final = 0.05
_EVERY: Final = 1.0
"""Seconds from one part of the result to the next."""


class Listener:
    """Listens for one hub. `start` may be called from any code, at any time; it returns at once."""

    def __init__(self, instance: int) -> None:
        self._instance = instance
        self._begin()
        forks.register(self)

    def _begin(self) -> None:
        self._turn: object | None = None
        """What is to serve now: a thread's, of which an earlier one may not have ended yet."""
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Listen from now on, if this does not.

        Not where a framework made threads greenlets: one that waits in `poll` would stop all others.
        """
        if self._turn is not None or not may_wait_in_a_write():
            return
        self._turn = turn = object()
        try:
            # Not `threading`, whose `start` waits for the thread: this may be called in the middle of anything.
            _thread.start_new_thread(self._serve, (turn,))
        except RuntimeError:  # no more threads, or the interpreter ends
            self._turn = None

    def stop(self) -> None:
        """Listen no more, and end a profile that is being taken."""
        self._turn = None  # for a thread that has no socket yet
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def after_fork_in_child(self) -> None:
        """Let go of the parent's sockets, which are still its. Called by `forks`."""
        sockets = self._sockets
        self._begin()
        for each in sockets:
            each.close()

    # In the thread ----------------------------------------------------------------------------------------------------

    def _serve(self, turn: object) -> None:
        try:
            while (server := self._kept(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))) is None:
                pass
            try:
                if self._turn is turn:
                    self._bind(server, turn)
                    server.listen(_BACKLOG)
                while self._turn is turn:
                    self._answer_next(server)
            finally:
                self._let_go(server)
        except OSError:  # stopped; or no descriptor was left at the start, or somebody closed this one
            if self._turn is turn:
                self._turn = None

    def _bind(self, server: socket.socket, turn: object) -> None:
        """Take the name; an earlier listener of this process that was stopped may be about to let go of it."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return server.bind(wire.address(self._instance, os.getpid(), start_ticks("self") or 0))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or self._turn is not turn or time.monotonic() > until:
                    raise
            time.sleep(_SHORTLY)

    def _answer_next(self, server: socket.socket) -> None:
        """Wait for one that asks, and answer. OSError when this is to listen no more."""
        events = select.poll()
        events.register(server, select.POLLIN)
        events.poll()  # not in `accept`, or every fork in all that time would come across what is accepted
        try:
            connection = self._kept(lambda: server.accept()[0])
        except OSError as error:
            if error.errno not in _FOR_NOW:
                raise
            time.sleep(_EVERY)
            return
        if connection is None:
            return
        try:
            with suppress(OSError):  # whoever asked has gone away
                _converse(server, connection)
        finally:
            self._let_go(connection)

    def _kept(self, make: Callable[[], socket.socket]) -> socket.socket | None:
        """A new socket, which a child that is forked closes; None where a fork came across, which ended it."""
        epoch = forks.epoch()
        made = make()
        self._sockets.append(made)
        if forks.epoch() == epoch:
            return made
        with suppress(OSError):  # where it is connected, the child has it open
            made.shutdown(socket.SHUT_RDWR)
        self._let_go(made)
        return None

    def _let_go(self, done: socket.socket) -> None:
        done.close()
        self._sockets.remove(done)


_profile = _thread.allocate_lock()
"""Held while somebody takes one in this process, for whichever of its hubs."""


def _renewed() -> None:
    global _profile  # noqa: PLW0603  the thread that held it is the parent's
    _profile = _thread.allocate_lock()


os.register_at_fork(after_in_child=_renewed)


def _converse(server: socket.socket, connection: socket.socket) -> None:
    """Answer one that asks. OSError when it goes away, or stands still."""
    connection.settimeout(_PATIENCE)
    if not _is_welcome(connection):
        return connection.sendall(wire.encode_refused(STRANGER))
    try:
        request = wire.decode_request(_line(connection))
    except WireError:
        return connection.sendall(wire.encode_refused(UNCLEAR))
    profile = _profile
    if not profile.acquire(blocking=False):
        return connection.sendall(wire.encode_refused(BUSY))
    try:
        connection.sendall(wire.encode_accepted())
        return _sample(server, connection, request)
    finally:
        profile.release()


def _sample(server: socket.socket, connection: socket.socket, request: Request) -> None:
    """Sample, and send what was found every second; until it is enough, or the other side says or closes anything."""
    sampler = Sampler(request.rate, idle=request.idle)
    clock = time.perf_counter
    end = clock() + request.seconds
    due = clock() + _EVERY
    events = select.poll()
    events.register(connection, select.POLLIN)
    events.register(server, select.POLLIN)

    def wait(seconds: float) -> bool:
        nonlocal due
        now = clock()
        if now >= end:
            return True
        if now >= due:
            connection.sendall(wire.encode_part(sampler.taken(), last=False))
            due = now + _EVERY
        for descriptor, event in events.poll(1000 * min(seconds, end - now)):
            if descriptor == connection.fileno() or event != select.POLLIN:
                raise BrokenPipeError
            if not _refuse(server):
                events.unregister(server)  # or it would be told of at once, again and again
        return False

    sampler.run(wait)
    connection.sendall(wire.encode_part(sampler.taken(), last=True))


def _refuse(server: socket.socket) -> bool:
    """Tell one more that asks that another was first. False where there is no descriptor for that now."""
    try:
        connection = server.accept()[0]
    except OSError as error:
        if error.errno not in _FOR_NOW:
            raise
        return False
    with connection:
        connection.setblocking(False)
        with suppress(OSError):
            connection.sendall(wire.encode_refused(BUSY if _is_welcome(connection) else STRANGER))
    return True


def _is_welcome(connection: socket.socket) -> bool:
    return peer_of(connection).uid in (os.geteuid(), 0)


def _line(connection: socket.socket) -> bytes:
    """The line that asks. WireError when it does not end."""
    received = b""
    deadline = time.monotonic() + _PATIENCE
    while not received.endswith(b"\n"):
        new = connection.recv(wire.LONGEST_REQUEST)
        received += new
        if not new or len(received) > wire.LONGEST_REQUEST or time.monotonic() > deadline:
            raise WireError("no line")
    return received
