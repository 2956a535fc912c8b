"""A child of fork that does something one machine instruction at a time, while its parent looks on (Linux' ptrace)."""

import ctypes
import os
import signal

_TRACE_ME, _CONTINUE, _SINGLE_STEP = 0, 7, 9
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request, pid):
    if _libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


def each_instruction(prepare, act):
    """Yield before and after each instruction that a child does in ``act()``, and whether it had returned, in the end.

    ``prepare()`` is called in the child before, at full speed.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            prepare()
            _ptrace(_TRACE_ME, 0)
            stop = os.kill, os.getpid(), signal.SIGSTOP
            stop[0](*stop[1:])
            act()
            stop[0](*stop[1:])
            status = 0
        finally:
            os._exit(status)
    try:
        _stopped_by(pid, signal.SIGSTOP)
        while True:
            yield
            _ptrace(_SINGLE_STEP, pid)
            if _stopped_by(pid, signal.SIGTRAP, signal.SIGSTOP) == signal.SIGSTOP:
                return
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _stopped_by(pid, *expected):
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), f"the child ended with status {status:#x}"
    number = os.WSTOPSIG(status)
    assert number in expected, f"the child was stopped by {signal.Signals(number).name}"
    return number
