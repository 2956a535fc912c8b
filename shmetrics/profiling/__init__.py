"""Where the time of a worker goes: profiles, the sampler that makes them, and how a live worker is asked for one.

Nothing here is imported by ``import shmetrics``: only processes that profile pay for it.
"""

from shmetrics.profiling.profile import Profile, Stack, merged

__all__ = ["Profile", "Stack", "merged"]
