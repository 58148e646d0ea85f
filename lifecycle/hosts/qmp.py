"""QEMU's monitor (QMP, a socket): how a guest ended, which QEMU's exit status does not say.

How this works. QEMU makes the socket a while after it was started, greets who connects, and then says each event in a
line of JSON. A thread reads them, as the process itself waits for signals. Once QEMU has ended, the last it said is
still in the socket's queue: the socket is closed for more (SHUT_RD), and what is there is read to its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from dataclasses import dataclass
from types import TracebackType

_LOOK_AGAIN_SECONDS = 0.05
_LONGEST_LINE = 1 << 20
"""Bytes. What QEMU says of an event is far shorter."""

_CRASHES = {
    "guest-panic": "the guest panicked",
    "host-error": "QEMU gave up for an error of the host's",
}
"""Reasons of a SHUTDOWN that are no orderly end; all others are (guest-shutdown, host-signal, host-qmp-quit…)."""
_PANICS = {"GUEST_PANICKED", "GUEST_CRASHLOADED"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a monitor told of its guest's end.

    Attributes:
        crashed: whether the guest crashed or was cut off; None if the monitor told nothing.
        text: how it ended, or why that is not known, in words.
    """

    crashed: bool | None
    text: str


class Account:
    """What a monitor has said so far."""

    def __init__(self) -> None:
        self._greeted = False
        self._panicked = False
        self._shutdown: str | None = None

    def hear(self, line: bytes) -> bool:
        """Take in a line; return whether it is the greeting, which wants an answer.

        Raises:
            ValueError: no monitor says this.
        """
        try:
            said = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(said, dict) or not (self._greeted or "QMP" in said):
            raise ValueError("not said by a monitor")
        is_greeting, self._greeted = not self._greeted, True
        event = said.get("event")
        if event in _PANICS:
            self._panicked = True
        elif event == "RESET":  # the guest begins anew
            self._panicked, self._shutdown = False, None
        elif event == "SHUTDOWN":
            told = said.get("data")
            self._shutdown = str(told.get("reason")) if isinstance(told, dict) else "unknown"
        return is_greeting

    def verdict(self) -> Verdict:
        """Return what it amounts to, now that QEMU has ended."""
        if not self._greeted:
            return Verdict(None, "it said nothing; is another client on it?")
        if self._panicked:
            return Verdict(True, _CRASHES["guest-panic"])
        if self._shutdown is None:
            return Verdict(True, "QEMU ended without a shutdown: it was killed, or it failed")
        if self._shutdown in _CRASHES:
            return Verdict(True, _CRASHES[self._shutdown])
        return Verdict(False, f"shut down ({self._shutdown})")


class Monitor:
    """One who listens to QEMU's monitor at a socket, from the block's beginning on."""

    def __init__(self, path: str) -> None:
        """Listen at this socket, which need not be there yet, as soon as the block begins."""
        self._path = path
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._verdict = Verdict(None, "it was not there")
        self._thread = threading.Thread(target=self._listen, name="qmp", daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.verdict()

    def verdict(self) -> Verdict:
        """Return how the guest ended; to be called when QEMU has."""
        self._ended.set()
        self._close_for_more()
        self._thread.join()
        return self._verdict

    def _listen(self) -> None:
        while self._socket is None and not self._ended.is_set():
            try:
                self._socket = connect(self._path)
            except OSError as error:
                self._verdict = Verdict(None, error.strerror or str(error))
                self._ended.wait(_LOOK_AGAIN_SECONDS)
        if self._socket is None:
            return
        if self._ended.is_set():
            self._close_for_more()
        with self._socket:
            self._verdict = _hear_out(self._socket)

    def _close_for_more(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RD)


def connect(path: str) -> socket.socket:
    """Connect to the socket of this path, of any length; never waits.

    Raises:
        OSError: there is none, or no one is behind it, or it cannot take one more now.
    """
    # a socket's address holds 107 bytes of path, so the file is named by a descriptor
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(f"/proc/self/fd/{fd}")
            connection.setblocking(True)
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(fd)
    return connection


def is_served(path: str) -> bool:
    """Tell whether someone is behind the socket of this path; a file left over from before is no one."""
    try:
        connect(path).close()
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _hear_out(connection: socket.socket) -> Verdict:
    """Take in all that is said until the connection ends."""
    account = Account()
    # QEMU may have ended without reading our answer; what it had said can be read all the same
    with connection.makefile("rb") as lines, contextlib.suppress(ConnectionResetError):
        try:
            while (line := lines.readline(_LONGEST_LINE)).endswith(b"\n"):
                if account.hear(line):
                    with contextlib.suppress(ConnectionError):
                        connection.sendall(b'{"execute": "qmp_capabilities"}\n')
            if len(line) == _LONGEST_LINE:
                raise ValueError("a line without an end")
        except ValueError:
            return Verdict(None, "what is there does not speak QMP")
    return account.verdict()
