"""A real systemd for a test: as the first process of namespaces of its own, over the machine's files.

How this works. It gets a /run, a directory for units, a /var/lib and a part of the control groups of its own, and sees
the rest of the machine as the test does. The test's pool is at the usual place, and its log goes to the test's own
journal. Of the machine's own units it knows none. However the test ends, the kernel ends it and all that it started.

Every test may ask for its fixture: ../conftest.py loads it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lifecycle import Pool
from support import required_programs
from support.command_line import SCRIPT, Called
from support.journald import Journald

UNITS = "/etc/systemd/system"
_TARGETS = ("sysinit", "basic", "shutdown", "local-fs", "remote-fs", "multi-user", "timers")
"""What units depend on without saying so; here they do nothing."""
_BOOT = """\
set -e
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind "$1" /run
mount -t tmpfs -o mode=755 units /etc/systemd/system
mount -t tmpfs -o mode=755 state /var/lib
mkdir /var/lib/lifecycle
mount --bind "$3" /var/lib/lifecycle
if [ -d /sys/fs/cgroup/systemd ]; then
    umount -R /sys/fs/cgroup
    mount -t tmpfs -o mode=755 groups /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd groups /sys/fs/cgroup/systemd
    mount -t cgroup2 groups /sys/fs/cgroup/unified
else
    umount -R /sys/fs/cgroup
    mount -t cgroup2 groups /sys/fs/cgroup
fi
exec "$2" --system --unit=basic.target --show-status=no --log-target=journal
"""


class Booted:
    """The system.

    Attributes:
        units: the directory of its units, as this process sees it.
        run: the directory that it has for /run.
    """

    def __init__(self, run: Path, pool: str) -> None:
        self.run = run
        self._pool = pool
        self._groups = _groups()
        ours = {name: one for name, one in os.environ.items() if not name.startswith("LIFECYCLE_")}
        self._environment = {
            **ours,
            "SYSTEMD_UNIT_PATH": f"{UNITS}:/run/targets",
            "container": "lifecycle-tests",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def units(self) -> Path:
        return Path(f"/proc/{self._pid}/root{UNITS}")

    def start(self) -> None:
        """Boot it, and return once it has booted."""
        for group in self._groups:
            group.mkdir(exist_ok=True)
        targets = self.run / "targets"
        targets.mkdir()
        for name in _TARGETS:
            (targets / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind("")  # the kernel finds a name
            told.settimeout(1)
            name = told.getsockname().decode().replace("\0", "@")
            words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation"]
            words += ["private", "--pid", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child"]
            daemon = required_programs.program("systemd", "systemd")
            self._process = subprocess.Popen(
                [*words, "sh", "-c", _BOOT, "sh", str(self.run), daemon, self._pool],
                env={**self._environment, "NOTIFY_SOCKET": name},
                stdin=subprocess.DEVNULL,
                preexec_fn=self._enter_groups,  # noqa: PLW1509 - no thread here has a lock it needs
            )
            while not _has_booted(told):
                if self._process.poll() is not None:
                    required_programs.missing(
                        "needs namespaces in which a systemd of its own can run"
                    )
        self._pid = self._first()

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._first() or self._process.pid, signal.SIGKILL)
            # it ends once all that it started has
            self._process.wait()
            self._process = None
        for group in self._groups:
            for directory, _directories, _files in os.walk(group, topdown=False):
                os.rmdir(directory)

    def _first(self) -> int:
        """Return the process id of its first process, 0 if there is none."""
        if self._process is None:
            return 0
        pid = self._process.pid
        try:
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text() or "0")
        except OSError:
            return 0

    def _enter_groups(self) -> None:
        for group in self._groups:
            (group / "cgroup.procs").write_text("0")

    def call(self, *words: str) -> Called:
        """Call a program inside."""
        done = subprocess.run(
            [
                "nsenter",
                "--target",
                str(self._pid),
                "--mount",
                "--pid",
                "--cgroup",
                "--ipc",
                "--uts",
                *list(words),
            ],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Called(done.returncode, done.stdout, done.stderr)

    def lifecycle(self, *words: str) -> Called:
        """Call the command line inside."""
        return self.call(SCRIPT, *words)

    def systemctl(self, *words: str, status: int = 0) -> str:
        """Call systemctl inside and return what it prints."""
        called = self.call(required_programs.program("systemctl", "systemd"), *words)
        assert called.status == status, called
        return called.out

    def shown(self, unit: str, key: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", "--value", f"--property={key}", unit).strip()

    def wait_for(self, unit: str, *states: str) -> str:
        """Return the unit's state once it is one of these."""
        while (state := self.shown(unit, "ActiveState")) not in states:
            os.sched_yield()
        return state


def _has_booted(told: socket.socket) -> bool:
    try:
        return b"READY=1" in told.recv(4096).split(b"\n")
    except TimeoutError:
        return False


def _groups() -> list[Path]:
    """Return where this process may have control groups of its own, in the hierarchies that systemd uses."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            kind, _device, options = after.split(maxsplit=2)
            if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
                found.append(Path(before.split()[4], _own_group(kind), f"lifecycle-{os.getpid()}"))
    return found


def _own_group(kind: str) -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as groups:
        wanted = "0::/" if kind == "cgroup2" else r"\d+:name=systemd:/"
        found = re.search(rf"^{wanted}(.*)$", groups.read(), re.MULTILINE)
    return found[1] if found else ""


@pytest.fixture
def booted(xfs_pool: Pool, journald: Journald) -> Iterator[Booted]:
    """A real systemd, with the test's pool at the usual place."""
    required_programs.program("systemd", "systemd")
    if not (groups := _groups()) or not all(os.access(one.parent, os.W_OK) for one in groups):
        required_programs.missing(
            "needs control groups that it may change, to run a systemd of its own"
        )
    system = Booted(journald.run, xfs_pool.path)
    try:
        system.start()
        yield system
    finally:
        system.stop()
