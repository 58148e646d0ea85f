"""A guest that does what it is told over its console: guest.py with a loop for its script."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

from support.guest import Guest
from support.libvirtd import PATIENCE

READY = "guest: ready"
LISTEN = f'''echo "{READY}"; while read -r line; do eval "$line"; echo "guest: done $?"; done'''
"""The script of a guest that does each line it reads, and says how that ended."""


def copied(guest: Guest, place: Path) -> Guest:
    """Return the guest from files in a directory that QEMU, as another user, can reach."""
    return replace(
        guest,
        kernel=Path(shutil.copy(guest.kernel, place / "vmlinuz")),
        initrd=Path(shutil.copy(guest.initrd, place / "initrd")),
    )


class Console:
    """A guest's console. Made before the guest starts, so that nothing it says is lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.settimeout(PATIENCE)
        self._listening.bind(str(path))
        path.chmod(0o777)  # QEMU is another user
        self._listening.listen()
        self._talking: socket.socket | None = None
        self._said = b""

    def connect(self) -> None:
        """Take QEMU's call, which it makes whenever it starts."""
        if self._talking is not None:
            self._talking.close()
        self._talking, _ = self._listening.accept()
        self._talking.settimeout(PATIENCE)
        self._said = b""

    def boot(self) -> None:
        """Return when the guest is ready to be told something."""
        self.connect()
        self.read_until(READY)

    def tell(self, line: str) -> None:
        """Tell the guest something to do, and do not wait for it."""
        assert self._talking is not None
        self._talking.sendall(line.encode() + b"\n")

    def do(self, line: str) -> str:
        """Let the guest do something, which must succeed, and return what it prints."""
        self.tell(line)
        said = self.read_until("guest: done ")
        status = self.read_until("\n")
        assert status.strip() == "0", (line, said, status)
        return said.strip()

    def read_until(self, text: str) -> str:
        """Read until the guest has said this; return what it said before."""
        assert self._talking is not None
        while text.encode() not in self._said:
            read = self._talking.recv(4096)
            if not read:
                raise EOFError(f"QEMU ended before {text!r}, after {self._said!r}")
            self._said += read
        before, _, self._said = self._said.partition(text.encode())
        return before.decode(errors="replace")

    def close(self) -> None:
        """Close it."""
        if self._talking is not None:
            self._talking.close()
        self._listening.close()
        self.path.unlink()
