"""Choosing which calls are looked at closely: a share of them, and the first of each process."""

import random

from shmetrics import forks


class Share:
    """Takes so many of the calls, from above 0 to 1, at random: what comes every tenth time is not always missed.

    Any thread may call.
    """

    def __init__(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, of the calls, not {share!r}")
        self._share = share
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: children would all choose the same calls."""
        self._random = random.Random()
        self._begun = False

    def take(self) -> float:
        """For how many calls the one that begins now stands, if it is to be looked at; 0.0 if it is not."""
        if self._share == 1:
            return 1.0
        if not self._begun:  # stands for itself: it may have loaded a model
            self._begun = True
            return 1.0
        return 1.0 / self._share if self._random.random() < self._share else 0.0
