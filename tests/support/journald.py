"""A real journal for a test: systemd's own daemon, in a mount namespace where /run is a directory of the test.

Every test may ask for its fixture: ../conftest.py loads it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import required_programs

_SETTINGS = """\
[Journal]
Storage=volatile
RateLimitIntervalSec=0
ForwardToSyslog=no
ReadKMsg=no
Audit=
"""
_PRIVATE_RUN = 'mount --bind "$1" /run && exec setpriv --pdeathsig KILL "$2"'


class Journald:
    """The daemon. It can be stopped and started again; what it had is still there then.

    Attributes:
        run: what it takes for /run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._process: subprocess.Popen[bytes] | None = None
        settings = run / "systemd" / "journald.conf.d"
        settings.mkdir(parents=True)
        (settings / "tests.conf").write_text(_SETTINGS)

    @property
    def socket(self) -> str:
        """Where it takes lines of the log with their fields."""
        return str(self.run / "systemd" / "journal" / "socket")

    def start(self) -> None:
        """Start it, and return once it listens."""
        daemon = required_programs.program("systemd-journald", "systemd")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind("")  # the kernel finds a name
            told.settimeout(60)
            name = told.getsockname().decode().replace("\0", "@")
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    _PRIVATE_RUN,
                    "sh",
                    str(self.run),
                    daemon,
                ],
                env={**os.environ, "NOTIFY_SOCKET": name},
            )
            try:
                while b"READY=1" not in told.recv(4096).split(b"\n"):
                    pass
            except TimeoutError:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop it; it writes what it was sent first."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def stream(self) -> socket.socket:
        """Return a stream as systemd gives one to a unit's process as its standard error."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(str(self.run / "systemd" / "journal" / "stdout"))
        # its identifier and unit, the priority, whether lines begin with one, and where else to send them
        stream.sendall(b"a-unit\n\n6\n1\n0\n0\n0\n")
        return stream

    def entries(self) -> list[dict[str, Any]]:
        """Stop it and return what was logged, by others than itself."""
        self.stop()
        done = subprocess.run(
            [
                required_programs.program("journalctl", "systemd"),
                "--directory",
                str(self.run / "log/journal"),
                "--output",
                "json",
                "--all",
                "--no-pager",
                "--quiet",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [one for one in found if one["_TRANSPORT"] in {"journal", "stdout"}]


@pytest.fixture
def journald() -> Iterator[Journald]:
    """A real journal."""
    required_programs.program("systemd-journald", "systemd")
    if os.geteuid() != 0:
        required_programs.missing("needs root, to run a journal of its own")
    if not os.path.exists("/etc/machine-id") or not os.path.getsize("/etc/machine-id"):
        required_programs.missing("needs /etc/machine-id, as `systemd-machine-id-setup` makes it")
    run = Path(tempfile.mkdtemp(prefix="lc-"))  # a socket's path must be short
    daemon = Journald(run)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(run)
