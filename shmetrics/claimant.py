"""The claimant: when a process tries for a slot, how patiently, and what it says while there is none."""

import time
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Final

from shmetrics import slots
from shmetrics.locks import RegistryBusyError
from shmetrics.notices import Notices
from shmetrics.process import Identity
from shmetrics.segment import Segment
from shmetrics.slots import Claim, NoFreeSlotError
from shmetrics.strict import Words

CLAIM_PATIENCE: Final = 2.0
"""Seconds the first write of a process may wait for its slot, at most; later tries never wait."""
RETRY_INTERVAL: Final = 0.25
"""Seconds between tries to get a slot."""


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
        self.begin()

    def begin(self) -> None:
        """Be patient at the next try, which is due."""
        self.patience = CLAIM_PATIENCE
        self.hurry()

    def hurry(self, patience: float | None = None) -> None:
        """Try at the next opportunity, however short a time the last is ago; so patiently, where that is given."""
        self._retry_at = -1.0
        if patience is not None:
            self.patience = patience

    def try_to_claim(self, unplaced: Words, warn: Callable[[str, str], None]) -> Claim | None:
        """A slot, if there is one to be had now and it is time to try.

        ``unplaced``: the words of the private slot; its records are counted as dropped when there is no slot.
        ``warn``: logs a warning once per kind, after the write under way.
        """
        if self._clock() < self._retry_at:
            return None
        # Where a framework made sleep a switch to other greenlets, waiting here would keep them all from writing.
        patience = self.patience if isinstance(time.sleep, BuiltinFunctionType) else 0.0
        self.patience = 0.0
        claim = None
        try:
            claim = slots.claim(
                self._segment, self._identity(), patience=patience, unplaced=unplaced, clock=self._clock
            )
        except RegistryBusyError:
            if not self._notices.have_given("full"):
                warn("busy", "another process holds the registry; records wait in this process meanwhile")
        except NoFreeSlotError:
            warn(
                "full",
                f"all {self._segment.layout.max_workers} slots belong to live workers, so the records of this one are "
                f"dropped; create the hub with a larger max_workers",
            )
        except OSError as error:  # no descriptors left, /proc not mounted: this must not reach a request
            warn("os", f"cannot claim a slot: {error}")
        self._retry_at = self._clock() + RETRY_INTERVAL
        return claim
