"""What is on the stacks of all threads, at one moment.

`sys._current_frames` hands out the frames of threads that go on, and since CPython 3.11 who follows these meanwhile may
follow what is freed, which ends the process (https://github.com/python/cpython/issues/111363 is of that kind). So no
thread may go on from the first frame to the last. The interpreter gives its lock up between bytecodes, and in what a
collection of garbage runs, which before CPython 3.12 any allocation may begin (there it would also keep
`sys._current_frames` waiting for ever: https://github.com/python/cpython/issues/106883). Hence frames are followed
within one call: in C, with the collector off, or by iterators that are C's own and call nothing else. These leave the
collector as it is: it is everybody's, and who turned it off between bytecodes could be overtaken by another thread, a
fork or a handler that raises, and it would stay off. So there, before CPython 3.12, a destructor may come in between.

An interpreter without that lock has no such moment.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate, chain, compress, islice, repeat, starmap, takewhile, tee
from operator import attrgetter, itemgetter
from types import CodeType, FrameType
from typing import Any, Final

from shmetrics import native

Stack = tuple[int, list[tuple[CodeType, dict[str, Any]]]]
"""A thread's ``ident``; and the code and the globals of each of its calls, innermost first."""

_call: Final = attrgetter("f_code", "f_globals")
_ident: Final = itemgetter(0)
_innermost: Final = itemgetter(1)
_FURTHER: Final = repeat("f_back")


def walker() -> Callable[[int, Collection[int] | None, Collection[int]], list[Stack]]:
    """A function that any thread may call: `walk`, in C where that is used."""
    return native.instead("walk", walk)


def walk(most: int, only: Collection[int] | None, but: Collection[int]) -> list[Stack]:
    """The calls that each thread is in.

    ``most``: of one thread; the innermost are told. ``only``: these threads, by their ``ident``; None for all. ``but``:
    not these.
    """
    return list(_stacks(most, only, but))  # in no variable, or it would hold this frame, which holds the variable


def _stacks(most: int, only: Collection[int] | None, but: Collection[int]) -> Iterator[Stack]:
    """The same, when it is asked for; nothing is looked at before."""
    asked, again = tee(chain.from_iterable(map(dict.items, starmap(sys._current_frames, ((),)))))
    idents = map(_ident, again)
    wanted = (
        map(frozenset(but).isdisjoint, zip(idents))
        if only is None
        else map(frozenset(only).difference(but).__contains__, idents)
    )
    threads, frames = tee(compress(asked, wanted))
    calls = map(map, repeat(_call), map(islice, _outwards(map(_innermost, frames)), repeat(most)))
    return zip(map(_ident, threads), map(list, calls), strict=True)


def _outwards(frames: Iterator[FrameType]) -> Iterator[Iterator[FrameType]]:
    """For each frame an iterator of itself and its callers: `getattr` over and over, as long as there is something."""
    begun = map(chain, zip(frames), repeat(_FURTHER))
    endless: Iterator[Any] = map(accumulate, begun, repeat(getattr))
    return map(takewhile, repeat(bool), endless)
