"""Writes the log to systemd's journal, with fields that `journalctl` can search for.

How this works. The journal takes one datagram a line, sent to a socket at a known path: fields as NAME=value, or
where the value has several lines the name, the value's length and the value (systemd.io/JOURNAL_NATIVE_PROTOCOL).
What is too large for a datagram is written to a sealed file in memory, of which the descriptor is sent. The
socket is looked up by its path for every line and never waited for: a journal that is restarted is found again, and
one that is absent or does not keep up costs nothing, for then the line goes where it would go without a journal.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Mapping

from lifecycle.errors import printable

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "lifecycle"

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""Without them the journal would not read a file that its sender could still change."""
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
"""From which level on a line has which of syslog's priorities."""
_DEBUG = 7
_TOO_LARGE = {errno.EMSGSIZE, errno.ENOBUFS}


def socket_path() -> str:
    """Return where the journal listens: $LIFECYCLE_JOURNAL, or its usual place."""
    return os.environ.get("LIFECYCLE_JOURNAL") or SOCKET


def is_there() -> bool:
    """Tell whether there is a journal on this machine."""
    return os.path.exists(socket_path())


def is_behind(fd: int) -> bool:
    """Tell whether what is written to the descriptor goes to the journal, as of a unit's standard error."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def log_there(otherwise: logging.Handler, level: int) -> None:
    """Log to the journal from now on: what has at least this level, and every transition.

    Args:
        otherwise: takes the lines that the journal does not.
        level: of the module `logging`.
    """
    logging.basicConfig(level=level, handlers=[JournalHandler(otherwise)])


class JournalHandler(logging.Handler):
    """Sends each line to the journal, with the facts in the record's `fields`."""

    def __init__(self, otherwise: logging.Handler) -> None:
        super().__init__()
        self._otherwise = otherwise
        self._exceptions = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send the line, or have it taken by the other handler; nothing is raised."""
        try:
            send(self._fields(record))
        except OSError:
            self._otherwise.handle(record)
        except (TypeError, ValueError):  # its text and its arguments do not fit
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        fields = {
            "MESSAGE": printable(record.getMessage()),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["MESSAGE"] += printable(f": {record.exc_info[1]}")
            fields["LIFECYCLE_TRACEBACK"] = self._exceptions.formatException(record.exc_info)
        return fields


def priority(level: int) -> int:
    """Return syslog's priority for a level of the module `logging`."""
    return next((found for least, found in _PRIORITIES if level >= least), _DEBUG)


def send(fields: Mapping[str, str]) -> None:
    """Send one line of the log. It never waits.

    Raises:
        OSError: the journal did not take it.
    """
    content = b"".join(encoded(name, value) for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to:
        try:
            to.sendto(content, socket_path())
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            _send_as_file(to, content)


def encoded(name: str, value: str) -> bytes:
    """Return a field as the protocol has it."""
    content = value.encode(errors="backslashreplace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(content)), content)


def _send_as_file(to: socket.socket, content: bytes) -> None:
    fd = os.memfd_create("lifecycle-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        to.sendmsg([], [passed], 0, socket_path())
    finally:
        os.close(fd)
