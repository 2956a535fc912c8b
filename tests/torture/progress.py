"""A progress bar for a terminal; nothing anywhere else."""

import time

from tests.torture.report import BROKEN

_WIDTH = 30
_INTERVAL = 0.1


class Progress:
    """Call it with the share that is done and the report so far, as often as you like."""

    def __init__(self, stream):
        self._stream = stream
        self._next = 0.0

    def __call__(self, share, report):
        """Draw, ten times a second at most."""
        if time.monotonic() < self._next or not self._stream.isatty():
            return
        self._next = time.monotonic() + _INTERVAL
        done = min(1.0, share)
        bar = ("#" * round(_WIDTH * done)).ljust(_WIDTH, ".")
        broken = sum(getattr(report, kind) for kind in BROKEN)
        self._draw(
            f"[{bar}] {100 * done:3.0f} %  {report.deaths:,} deaths  {report.records:,} records  "
            f"{report.reads:,} reads  {broken:,} promises broken"
        )

    def clear(self):
        """Leave an empty line for what is printed next."""
        if self._stream.isatty():
            self._draw("")

    def _draw(self, text):
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()
