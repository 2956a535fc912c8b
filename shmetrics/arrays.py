"""numpy, which is imported when it is first needed.

A worker that records, in C, never needs it: that is 14 MB less for each, a tenth of a second less until it serves, and
no OpenBLAS. What comes with that makes each ``printf`` and ``malloc`` of a process slower, also where nothing calls it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        """Has what numpy has; after the first time at once. Any thread may ask."""

        def __getattr__(self, name: str) -> Any:
            found = getattr(import_module("numpy"), name)
            setattr(self, name, found)
            return found

    np = _Numpy()

__all__ = ["can_be_had", "np"]


def can_be_had() -> bool:
    """Whether there is numpy, from now on: not where no file can be opened any more, say."""
    try:
        import_module("numpy")
    except ImportError:
        return False
    return True
