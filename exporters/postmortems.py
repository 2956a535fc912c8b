"""Post-mortems: a file for each worker that died, for whoever collects files when a container is gone."""

import json
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from shmetrics.errors import OutputError
from shmetrics.exporters.files import write_atomically
from shmetrics.obituary import Obituary

KEPT: Final = 100
"""Files of one hub that a directory keeps; the oldest go."""


class Postmortems:
    """Writes obituaries into a directory, made if it is not there; one thread uses it.

    A file is named after the hub, the time at which the death was noticed (UTC), slot and generation, so that it is
    written once, however often the writer is restarted. OutputError when the directory cannot be made.
    """

    def __init__(self, directory: str, hub: str, *, kept: int = KEPT) -> None:
        self._directory, self._hub, self._kept = directory, hub, kept
        self._written: dict[str, str] = {}
        self.complaint: str | None = None
        """Why the last file could not be written; None when it could."""
        self._pattern = re.compile(rf"{re.escape(hub)}-\d{{8}}T\d{{6}}Z-slot\d+-generation\d+\.json")
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the directory {directory!r}: {error.strerror}; name one that this user may make"
            ) from None

    def write(self, obituaries: Iterable[Obituary]) -> list[str]:
        """Write those that have no file yet; returns the paths of the new files. An amended one is written again.

        What cannot be written, for a full disk say, is tried again the next time, and `complaint` says why.
        """
        paths = []
        try:
            for obituary in obituaries:
                content = json.dumps({"hub": self._hub, **obituary.as_json()}, indent=2, allow_nan=False)
                path = os.path.join(self._directory, self._file_of(obituary))
                if self._written.get(path) != content and not _holds(path, content):
                    write_atomically(path, f"{content}\n".encode())
                    paths.append(path)
                self._written[path] = content
            self.complaint = None
        except OutputError as error:
            self.complaint = str(error)
        if paths:
            self._remove_oldest()
        return paths

    def _file_of(self, obituary: Obituary) -> str:
        noticed = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(obituary.noticed_at))
        return f"{self._hub}-{noticed}-slot{obituary.slot}-generation{obituary.generation}.json"

    def _remove_oldest(self) -> None:
        """Remove what is beyond the number kept; names sort by time. No file of another name is touched."""
        ours = sorted(name for name in os.listdir(self._directory) if self._pattern.fullmatch(name))
        for name in ours[: -self._kept]:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._directory, name))


def _holds(path: str, content: str) -> bool:
    """Whether a file has this content already: an earlier aggregator wrote it."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == f"{content}\n"
    except (OSError, ValueError):
        return False
