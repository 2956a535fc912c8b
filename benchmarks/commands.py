"""Commands that a scenario runs to their end, and that end with it when it is interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def finished(command: Sequence[str]) -> tuple[str, str]:
    """What a command wrote, to standard output and to standard error.

    Whoever interrupts us interrupts all of its processes, and we wait for them: they have the time to remove what they
    made, and nothing of theirs appears where we have cleaned up. When it fails, our standard error has what it said,
    and subprocess.CalledProcessError is raised.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed, said = process.communicate()
        except KeyboardInterrupt:
            if process.poll() is None:  # communicate() waits a little by itself
                os.killpg(process.pid, signal.SIGINT)
                process.communicate()
            raise
    if process.returncode:
        sys.stderr.write(said)
        raise subprocess.CalledProcessError(process.returncode, command, printed, said)
    return printed, said
