"""numpy, which is imported when it is first needed.

A worker that records, in C, never needs it: that is 14 MB less for each, a tenth of a second less until it serves, and
no OpenBLAS. What comes with that makes each ``printf`` and ``malloc`` of a process slower, also where nothing calls it.
"""

import os
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

_importing: Final = threading.RLock()
# A child of a fork in the middle of an import would wait for ever for the thread that it does not have.
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        """Has what numpy has; after the first time at once. Any thread may ask."""

        def __getattr__(self, name: str) -> Any:
            with _importing:
                found = getattr(import_module("numpy"), name)
            setattr(self, name, found)
            return found

    np = _Numpy()

__all__ = ["can_be_had", "np"]


def can_be_had() -> bool:
    """Whether there is numpy, from now on: for whoever must neither raise nor wait for another thread.

    There is none where no file can be opened any more, say; and while another thread imports it, or did so when this
    process was forked.
    """
    known = sys.modules.get("numpy")
    if known is not None and getattr(known.__spec__, "_initializing", False):
        return False
    try:
        with _importing:
            import_module("numpy")
    except (ImportError, OSError):
        return False
    return True
