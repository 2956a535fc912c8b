"""Sampling this very process for as long as a block lasts, by a thread of its own."""

import threading
from collections.abc import Collection
from types import TracebackType

from shmetrics.profiling.profile import Profile
from shmetrics.profiling.sampler import RATE, SHARE, Sampler


class Sampling:
    """A sampler and its thread: ``with Sampling() as sampling: work()``, and then ``sampling.profile()``.

    The arguments are those of `Sampler`. For one block; any thread may enter it. In a child that is forked in the
    middle of it nothing samples, and its profile is of what was before.
    """

    def __init__(
        self,
        rate: float = RATE,
        *,
        share: float = SHARE,
        idle: bool = False,
        only: Collection[int] | None = None,
    ) -> None:
        self._sampler = Sampler(rate, share=share, idle=idle, only=only)
        self._counts = self._sampler.taken()
        self._going_on = threading.Lock()  # held until it is enough: waiting for it is cheaper than for an event
        self._going_on.acquire()
        self._thread = threading.Thread(target=self._run, name="shmetrics-sampler", daemon=True)

    def __enter__(self) -> "Sampling":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._going_on.release()
        self._thread.join()
        self._counts = self._sampler.taken()

    def _run(self) -> None:
        self._sampler.run(lambda seconds: self._going_on.acquire(timeout=seconds))

    def profile(self, expanded: Collection[str] = ()) -> Profile:
        """What was found, once the block is left. ``expanded``: libraries whose functions are told apart."""
        return self._counts.profile(self._sampler.interval, expanded)
