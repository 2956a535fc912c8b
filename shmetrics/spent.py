"""Times that are spent on something, kept in a list to which any thread may add, until somebody adds them up.

Appending to a list is atomic, and so is taking from it: a sum that threads change would lose some.
"""

from typing import Final, TypeVar

_Key = TypeVar("_Key")

_MOST: Final = 64
"""Times that are kept one by one, before they are added up: so many, or what there is of different kinds, doubled."""


def spend(spent: list[tuple[_Key, float]], key: _Key, amount: float) -> None:
    """So much more of `key`."""
    spent.append((key, amount))
    if len(spent) >= _MOST:
        length = len(spent)
        if length & (length - 1) == 0:  # a power of two: many kinds are not all looked at each time
            spent.extend(sums(spent).items())


def sums(spent: list[tuple[_Key, float]]) -> dict[_Key, float]:
    """Take out all of it, added up."""
    found: dict[_Key, float] = {}
    while spent:
        try:
            key, amount = spent.pop()
        except IndexError:  # another thread took it
            break
        found[key] = found.get(key, 0.0) + amount
    return found
