"""The claimant: when a process tries for a slot, how patiently, and what it says while there is none."""

import time
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType
from typing import Final

from shmetrics import slots
from shmetrics.locks import RegistryBusyError, polls
from shmetrics.notices import Notices
from shmetrics.process import Identity
from shmetrics.segment import Segment
from shmetrics.slots import Claim, NoFreeSlotError
from shmetrics.strict import Words

CLAIM_PATIENCE: Final = 2.0
"""Seconds the first write of a process may wait for its slot, at most; later tries never wait."""
RETRY_INTERVAL: Final = 0.25
"""Seconds between tries to get a slot."""
_NO_MORE: Final = object()


class Claimant:
    """Tries to get a slot of a hub for one process. Its caller has the write token."""

    def __init__(
        self,
        segment: Segment,
        identity: Callable[[], Identity],
        clock: Callable[[], float],
        notices: Notices,
    ) -> None:
        self._segment = segment
        self._identity = identity
        self._clock = clock
        self._notices = notices
        self.claimed: Callable[[], object] = lambda: None
        """Called when there is a slot, in the middle of a write: it returns at once, and raises nothing."""
        self.begin()

    def begin(self) -> None:
        """Be patient at the next try, which is due."""
        self.patience = CLAIM_PATIENCE
        self.busy_since: float | None = None
        """When the registry was found busy, if it was at every try since."""
        self.hurry()

    def hurry(self, patience: float | None = None) -> None:
        """Try at the next opportunity, however short a time the last is ago; so patiently, where that is given."""
        self._retry_at = -1.0
        if patience is not None:
            self.patience = patience

    def tries(self, patience: float | None) -> Iterator[None]:
        """Once for each write that should be made for the sake of a slot; see `hurry`.

        One, which waits in `try_to_claim`. Where that may not wait, several, with a pause between two: there is no
        write under way then, and other greenlets can make theirs.
        """
        self.hurry(patience)
        patience = self.patience
        pauses = polls(patience, self._clock, time.sleep)
        while True:
            yield
            if self.busy_since is None or may_wait_in_a_write() or next(pauses, _NO_MORE) is _NO_MORE:
                return
            self.hurry()

    def try_to_claim(self, unplaced: Words, warn: Callable[[str, str], None]) -> Claim | None:
        """A slot, if there is one to be had now and it is time to try.

        ``unplaced``: the words of the private slot; its records are counted as dropped when there is no slot.
        ``warn``: logs a warning once per kind, after the write under way.
        """
        now = self._clock()
        if now < self._retry_at:
            return None
        patience = self.patience if may_wait_in_a_write() else 0.0
        self.patience = 0.0
        claim = None
        busy_since, self.busy_since = self.busy_since, None
        try:
            claim = slots.claim(
                self._segment, self._identity(), patience=patience, unplaced=unplaced, clock=self._clock
            )
        except RegistryBusyError:
            self.busy_since = now if busy_since is None else busy_since
            # Before, it is as it should be: other workers start, and each has the registry for a millisecond.
            if now + patience - self.busy_since >= CLAIM_PATIENCE and not self._notices.have_given("full"):
                warn("busy", "another process holds the registry; records wait in this process meanwhile")
        except NoFreeSlotError:
            warn(
                "full",
                f"all {self._segment.layout.max_workers} slots belong to live workers, so the records of this one are "
                f"dropped; create the hub with a larger max_workers",
            )
        except OSError as error:  # no descriptors left, /proc not mounted: this must not reach a request
            warn("os", f"cannot claim a slot: {error}")
        else:
            self.claimed()
        self._retry_at = self._clock() + RETRY_INTERVAL
        return claim


def may_wait_in_a_write() -> bool:
    """Whether that keeps nobody else. Where a framework made sleep a switch to other greenlets, it keeps them all."""
    return isinstance(time.sleep, BuiltinFunctionType)
