"""Profiles for speedscope (https://www.speedscope.app), by its published schema: drop the file on its page.

The page does not send it anywhere; it may also be had from npm, and runs without a network.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from shmetrics.profiling.profile import Profile

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def speedscope(profiles: Mapping[str, Profile], title: str) -> str:
    """One file of several profiles, by name; the first is shown first. Seconds, of as many threads as there were."""
    places: dict[str, int] = {}
    return json.dumps(
        {
            "$schema": SCHEMA,
            "name": title,
            "exporter": "shmetrics",
            "activeProfileIndex": 0,
            "profiles": [_sampled(name, profile, places) for name, profile in profiles.items()],
            "shared": {"frames": [{"name": name} for name in places]},  # all that the line before has found
        }
    )


def _sampled(name: str, profile: Profile, places: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "sampled",
        "name": name,
        "unit": "seconds",
        "startValue": 0,
        "endValue": profile.samples * profile.interval,
        "samples": [[places.setdefault(frame, len(places)) for frame in stack] for stack in profile.stacks],
        "weights": [samples * profile.interval for samples in profile.stacks.values()],
    }
