"""Every error shmetrics raises: one small tree, so that one ``except ShmetricsError`` catches them all.

Each message says what was found, what was wanted, and what to do. Bad *arguments* raise the built-in ``ValueError`` or
``TypeError`` at once; running out of something while serving (slots, space) never raises into a request: it is counted,
visible in the statistics, and warned about once.
"""


class ShmetricsError(Exception):
    """Root of the tree."""


class PlatformError(ShmetricsError):
    """This machine, container or kernel lacks something the hub rests on."""


class HubNotFoundError(ShmetricsError):
    """No hub of that name exists for this user."""


class HubSpaceError(ShmetricsError):
    """Shared memory has no room for the hub; raised at creation, and only then."""


class HubInUseError(ShmetricsError):
    """The hub cannot be removed: live processes hold it."""


class HubClosedError(ShmetricsError):
    """The object was closed and can no longer read."""


class OutputError(ShmetricsError):
    """A file could not be written; what stood under its name still does."""


class ProfilingError(ShmetricsError):
    """No worker that was asked for could be profiled; the message says of each why, and what to do."""


class RulesError(ShmetricsError):
    """A file of alert rules cannot be used; the message has a line for each problem, with file, line and remedy."""


class HistoryFileError(ShmetricsError):
    """A file cannot hold this hub's history, or holds none that can be read."""


class HubRefusedError(ShmetricsError):
    """A file stands under the hub's name but is not safe, or not possible, to attach. Its subclasses say why."""


class HubFileTypeError(HubRefusedError):
    """The name is a symbolic link, a directory, a device: anything but a regular file."""


class HubOwnerError(HubRefusedError):
    """The file belongs to another user."""


class HubPermissionError(HubRefusedError):
    """The file can be read or written by group or others, or cannot be by its own user."""


class HubLayoutError(HubRefusedError):
    """The file is not a hub, or a hub of another version, size or set of dimensions."""


class HubStaleError(HubRefusedError):
    """The hub was created before the machine last booted, so its clocks mean nothing now."""
