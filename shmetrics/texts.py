"""Texts for people: figures with units, and texts from shared memory that are harmless to show whatever they hold."""


def printable(raw: bytes) -> str:
    """Bytes up to the first zero, as text; what is no UTF-8, or could drive a terminal, does not get there."""
    return visible(raw.partition(b"\0")[0].decode("utf-8", "replace"))


def visible(text: str, instead: str = "?") -> str:
    """`text` on one line; what is invisible, turns the direction of writing or drives a terminal is replaced."""
    return text if text.isprintable() else "".join(char if char.isprintable() else instead for char in text)


def cut(text: str, limit: int) -> bytes:
    """`text` as UTF-8 of at most `limit` bytes, cut between two characters."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best: 870 us, 12.3 ms, 4.56 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds == 0.0:
        return "0 s"
    for limit, factor, unit in ((0.9995e-3, 1e6, "us"), (0.9995, 1e3, "ms"), (60.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    for limit, big, small, big_unit, small_unit in (
        (3600.0, 60, 1, "min", "s"),
        (86400.0, 3600, 60, "h", "min"),
        (float("inf"), 86400, 3600, "d", "h"),
    ):
        if seconds < limit:
            whole, rest = divmod(int(seconds), big)
            return f"{whole} {big_unit} {rest // small} {small_unit}"
    return "for ever"


def size(count: float | None) -> str:
    """Bytes in the unit that reads best."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(count, 1) < 1024.0 or unit == "GiB":
            break
        count /= 1024.0
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def percent(fraction: float) -> str:
    """A fraction as a percentage."""
    return f"{100.0 * fraction:.2f} %"


def counted(count: int, thing: str) -> str:
    """So many of a thing: "1 request", "1,234 requests"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
