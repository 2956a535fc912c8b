"""Who is at the other end of a Unix socket: the kernel says it (SO_PEERCRED, unix(7)), and nobody can lie about it."""

import socket
import struct
from typing import Final, NamedTuple

_CREDENTIALS: Final = struct.Struct("iII")


class Peer(NamedTuple):
    """A process; of one that listens, who began to listen."""

    pid: int
    """0 where it is none of this PID namespace."""
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """The process at the other end when it connected, or listened."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)
