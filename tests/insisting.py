"""Readers whose first attempt at all slots comes to nothing, so that they copy each slot by itself, with its guard."""

from shmetrics.copies import CHANGED
from shmetrics.hub import View


def insist(reader, when=lambda: True):
    """Make every read of `reader` for which `when()` is true find at its first attempt that each slot changed."""
    copier, read_slots, attempt = reader._copier, reader._read_slots, reader._copier.attempt
    fails = False

    def read_slots_again(extent):
        nonlocal fails
        fails = when()
        return read_slots(extent)

    def attempt_or_fail(slots, extent, total=None):
        nonlocal fails
        if fails:
            fails = False
            return [CHANGED] * len(slots)
        return attempt(slots, extent, total)

    reader._read_slots, copier.attempt = read_slots_again, attempt_or_fail
    return reader


def in_python(view):
    """A `View`, or one that insists, which makes its attempts in Python: by steps that a test can come between."""
    view._reader._copier._is_native = False
    return view


def insisting_view(target, **options):
    """A `View` whose reader insists."""
    view = View(target, **options)
    insist(view._reader)
    return view
