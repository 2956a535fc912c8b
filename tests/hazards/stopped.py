"""A child that stops itself (SIGSTOP) on reaching a chosen line of shmetrics, until it is told to go on."""

import os
import select
import signal
import sys
import traceback

from tests.processes import PATIENCE
from tests.torture import failpoints


class Stopped:
    """A forked child that calls `function` and stands still before it runs the line `at`, of `failpoints.line_with`.

    Told to go on it finishes `function`, keeps what that returned, and waits to be killed. It is killed when the
    ``with`` block ends.
    """

    def __init__(self, function, at, visits=1):
        self._ready, report = os.pipe()
        leash, self._hand = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._hand)
                failpoints.call_at(*at, lambda: os.kill(os.getpid(), signal.SIGSTOP), (visits,))
                _kept = function()
                sys.settrace(None)
                os.write(report, b".")
                os.read(leash, 1)
            except BaseException:  # noqa: BLE001  whatever it is, the child must not return into the test
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(report)
        os.close(leash)
        what = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert what.si_code == os.CLD_STOPPED, "the child ended before it reached the line: see its traceback"

    def go_on(self):
        """Continue it; returns when `function` has returned."""
        os.kill(self.pid, signal.SIGCONT)
        assert select.select([self._ready], [], [], PATIENCE)[0], "the child hangs"
        assert os.read(self._ready, 1) == b".", "the child failed: see its traceback"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._ready)
        os.close(self._hand)
