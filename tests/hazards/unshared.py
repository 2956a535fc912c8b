"""Whether this machine lets us make namespaces of our own: containers and ordinary users mostly may not."""

import subprocess
from functools import cache


@cache
def why_not(*options):
    """Why `unshare` with these options is not possible here; "" when it is."""
    try:
        tried = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "there is no unshare(1) here"
    return "" if tried.returncode == 0 else f"no namespace of our own here: {tried.stderr.strip()}"
