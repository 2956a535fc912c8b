"""The demonstration behind `shmetrics demo`: a real server, a real model, a real load, and a real SIGKILL.

`app` is the served application, `model` what it computes, `load` the client, `run` puts them together.
"""

from typing import Final

WORKERS: Final = 4
WINDOW: Final = 1000
MAX_WORKERS: Final = 16
