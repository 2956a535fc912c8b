"""Which line of a TOML text a table or key is on, for messages: the standard library's parser does not tell. Pure.

It reads texts that the parser has accepted, and looks at headers and at the first key of a line only, so a key inside
an inline table is located where that table is. A wrong guess costs a wrong line number in a message and no more.
"""

import re
from collections import Counter
from typing import Final

Address = tuple[str | int, ...]
"""``("rule", 2, "above")``: the key `above` of the third ``[[rule]]``."""

_HEADER: Final = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.[^=]*)?=""")
_LONG_STRING: Final = re.compile(r'"""|' + "'''")


def lines_of(text: str) -> dict[Address, int]:
    """The line, from 1, of every table and every key that starts a line."""
    found: dict[Address, int] = {}
    counts: Counter[Address] = Counter()
    table: Address = ()
    quotes: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if quotes is None:
            header, key = _HEADER.match(line), _KEY.match(line)
            if header is not None:
                table = _table(header[2], counts, is_list=bool(header[1]))
                found.setdefault(table, number)
            elif key is not None:
                found.setdefault((*table, key[1] or key[2] or key[3] or ""), number)
        for mark in _LONG_STRING.findall(line):
            quotes = mark if quotes is None else None if mark == quotes else quotes
    return found


def line_of(lines: dict[Address, int], address: Address) -> int:
    """The line of an address, or of the nearest table around it; 1 where there is none."""
    while address and address not in lines:
        address = address[:-1]
    return lines.get(address, 1)


def _table(header: str, counts: Counter[Address], *, is_list: bool) -> Address:
    """The address of a table; those of lists are numbered, and a table inside one is in its latest element."""
    names = [name.strip().strip("\"'") for name in header.split(".")]
    address: Address = ()
    for at, name in enumerate(names):
        address = (*address, name)
        if at == len(names) - 1 and is_list:
            counts[address] += 1
        if counts[address]:
            address = (*address, counts[address] - 1)
    return address
