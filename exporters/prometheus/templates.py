"""Templates: text that stays, and places for numbers in it.

The text is cut into pieces once, and put together with numbers by joining them. ``%`` would read all of it again for each
page, which takes twice as long.
"""

from collections.abc import Iterable, Sequence


class Template:
    """Lines of text that each end with a number. ``ends``: what is before each number; `tail`: what is behind the last."""

    def __init__(self, before: Sequence[str], tail: str = "\n") -> None:
        self.before, self.tail = tuple(before), tail
        self._blank = [""] * (2 * len(before) + 1)
        self._blank[::2] = [*before, tail]

    def filled(self, numbers: Sequence[str]) -> list[str]:
        """The text in pieces, with these numbers in their places; ValueError unless there are as many as places."""
        pieces = self._blank.copy()
        pieces[1::2] = numbers
        return pieces


def joined(templates: Iterable[Template]) -> Template:
    """A template of which the text is that of all these, one behind the other."""
    before, tail = [], ""
    for template in templates:
        first, *others = (*template.before, template.tail)
        before += [tail + first, *others]
        tail = before.pop()
    return Template(before, tail)
