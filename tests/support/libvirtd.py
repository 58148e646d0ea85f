"""A real libvirtd, out of sight of the machine's own, with QEMU that is not root.

How this works. Processes are started in namespaces of their own (mounts, processes, network), where /etc is a copy and
/run and what matters of /var are empty. Their first process ends when its input does, which the test process holds:
so however that ends, the kernel ends libvirtd and all VMs, and what they mounted is gone.

Nothing is waited for by looking again and again: libvirtd says to NOTIFY_SOCKET when it is ready; a hook that runs
after lifecycle's writes each step of a VM's life into a pipe; and a guest's console is a socket (guest.py).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lifecycle.hosts.libvirt import install
from support.command_line import SCRIPT
from support.mounts import CannotMount, FileSystem, run

PROGRAMS = ("libvirtd", "virsh", "qemu-system-x86_64", "unshare", "nsenter", "busybox")
USER = "libvirt-qemu"
PATIENCE = 300.0
"""Seconds after which a test fails, rather than hang."""

_SETTING_UP = f"""
set -eu
for place in /run /var/lib /var/log /var/cache; do mount -t tmpfs -o mode=0755 tests $place; done
cp -a /etc /run/etc
mount --bind /run/etc /etc
rm -rf /etc/libvirt /etc/lifecycle
mkdir -p /etc/libvirt
grep -q ^{USER}: /etc/passwd || echo '{USER}:x:64055:64055::/:/usr/sbin/nologin' >>/etc/passwd
grep -q ^{USER}: /etc/group || echo '{USER}:x:64055:' >>/etc/group
: >/run/no-kvm
chmod 0000 /run/no-kvm
[ ! -e /dev/kvm ] || mount --bind /run/no-kvm /dev/kvm  # for if it is there and useless, each step looks again
cat >/etc/libvirt/libvirtd.conf <<end
auth_unix_rw = "none"
end
cat >/etc/libvirt/qemu.conf <<end
user = "{USER}"
group = "{USER}"
security_driver = "none"
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
end
"""

_TELLING = """#!/bin/sh
# after lifecycle's, so that what is told has been done
echo "$1 $2 $3" >{pipe}
"""


class Libvirt:
    """The daemon.

    Attributes:
        place: a directory on a file system with reflinks, which QEMU may pass through; the same path for all.
        config: where lifecycle's settings are for the hook, seen from here.
    """

    def __init__(self, place: Path, init: int) -> None:
        self.place = place
        self.config = Path(f"/proc/{init}/root/etc/lifecycle")
        self.etc = Path(f"/proc/{init}/root/etc")
        self._init = init
        self._daemon: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program where the daemon is."""
        return subprocess.run(
            self._inside(words), capture_output=True, text=True, check=check, timeout=PATIENCE
        )

    def virsh(self, *words: str) -> str:
        """Run virsh and return what it prints; it must succeed."""
        done = self.call("virsh", "-q", *words, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, *words: str) -> str:
        """Run virsh and return what it complains of; it must fail."""
        done = self.call("virsh", "-q", *words, check=False)
        assert done.returncode == 1, done
        return done.stderr

    def set_up(self) -> None:
        """Make the directories of a machine on which libvirt is installed, and install the hook."""
        self.call("sh", "-c", _SETTING_UP)
        self.call(SCRIPT, "host", "install", "libvirt")
        pipe = self.place / "told"
        os.mkfifo(pipe, 0o600)
        self._pipe = os.open(pipe, os.O_RDWR)
        telling = self.etc / install.HOOK[len("/etc/") :]
        telling = telling.with_name("telling")
        telling.write_text(_TELLING.format(pipe=pipe))
        telling.chmod(0o755)

    def start(self) -> None:
        """Start the daemon, and return when it is ready."""
        address = str(self.place / "ready")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(address)
            ready.settimeout(PATIENCE)
            log = open(self.place / "libvirtd.log", "ab")  # noqa: SIM115 - the daemon's, not ours
            with log:
                self._daemon = subprocess.Popen(
                    self._inside(["libvirtd"]),
                    env={**os.environ, "NOTIFY_SOCKET": address},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            while b"READY=1" not in ready.recv(1024):
                pass
        os.unlink(address)

    def kill(self) -> None:
        """End the daemon by SIGKILL; its VMs live on."""
        assert self._daemon is not None
        self.call("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
        self._daemon.wait(PATIENCE)

    def close(self) -> None:
        """Let go of what has ended."""
        if self._daemon is not None:
            self._daemon.wait(PATIENCE)
        os.close(self._pipe)

    def wait_for(self, name: str, step: str) -> None:
        """Return when this VM has come to this step, the hook for which has run; steps before it are passed over."""
        told = b""
        while not told.endswith(f"{name} {step}\n".encode()):
            told += os.read(self._pipe, 1)

    def forget_steps(self) -> None:
        """Pass over the steps that VMs have come to by now."""
        os.set_blocking(self._pipe, False)
        try:
            while os.read(self._pipe, 1 << 16):
                pass
        except BlockingIOError:
            os.set_blocking(self._pipe, True)

    def vms(self) -> list[str]:
        """Return the names of all VMs, running or not."""
        return self.virsh("list", "--all", "--name").split()

    def end(self, name: str) -> None:
        """Destroy a VM if it runs, and forget it."""
        for words in (("destroy",), ("undefine", "--managed-save")):
            self.call("virsh", "-q", words[0], name, *words[1:], check=False)

    def _inside(self, words: tuple[str, ...] | list[str]) -> list[str]:
        return ["nsenter", "-t", str(self._init), "-m", "-p", "-n", "--", *words]


@contextmanager
def libvirtd(on: FileSystem) -> Iterator[Libvirt]:
    """Run a libvirtd.

    Raises:
        CannotMount: this machine cannot.
    """
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    for program in PROGRAMS:
        if shutil.which(program, path=search) is None:
            raise CannotMount(f"{program} is not installed")
    place = Path("/mnt")
    # QEMU is another user, who cannot pass through pytest's own directories
    run("mount", "--bind", str(on.path), str(place))
    unshare = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc"]
    first = subprocess.Popen(
        [*unshare, "sh", "-c", "echo here; cat; :"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with ExitStack() as ended, first:
        assert first.stdout is not None
        if first.stdout.readline() != b"here\n":
            raise CannotMount("no namespaces for processes and network")
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        daemon = Libvirt(place, int(children[0]))
        daemon.set_up()
        ended.callback(daemon.close)
        daemon.start()
        yield daemon
