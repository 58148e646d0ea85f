"""A guest: Debian's small kernel with a busybox that does what it is told over its console."""

from __future__ import annotations

import lzma
import os
import shutil
import socket
from pathlib import Path

from mounts import CannotMount

from hosts.daemon import PATIENCE

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lifecycle-tests"
_ROOTS = (_CACHE / "kernel", Path("/"))
"""Where a kernel is looked for: unpacked by .ci/kernel, or installed."""
_KERNELS = "boot/vmlinuz-*-cloud-amd64"
MODULES = (
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
)
"""What the kernel needs for its disks and does not have built in, in the order of their needs."""
READY = "guest: ready"

_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do insmod $module; done
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
echo {READY}
while read -r line; do eval "$line"; echo "guest: done $?"; done
"""


class Boot:
    """The files that a guest boots from.

    Attributes:
        kernel, initrd: their paths.
    """

    def __init__(self, place: Path) -> None:
        """Make them in a directory.

        Raises:
            CannotMount: there is no kernel on this machine.
        """
        found = [(root, one) for root in _ROOTS for one in sorted(root.glob(_KERNELS))]
        busybox = shutil.which("busybox")
        if not found or busybox is None:
            raise CannotMount("no kernel for guests: .ci/kernel gets one; or no busybox-static")
        root, kernel = found[0]
        self.kernel = place / "vmlinuz"
        shutil.copy(kernel, self.kernel)
        self.initrd = place / "initrd"
        drivers = root / "lib/modules" / kernel.name.removeprefix("vmlinuz-") / "kernel/drivers"
        self.initrd.write_bytes(_archive(Path(busybox), drivers))


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


def _archive(busybox: Path, drivers: Path) -> bytes:
    """Return an initramfs (a cpio archive, in the format that cpio(5) calls new ASCII)."""
    entries = [
        *(_entry(name, 0o040755) for name in ("bin", "dev", "proc", "sys", "mnt", "modules")),
        _entry("bin/busybox", 0o100755, busybox.read_bytes()),
        _entry("init", 0o100755, _INIT.encode()),
    ]
    for number, module in enumerate(MODULES):
        for file in drivers.glob(f"{module}.ko*"):  # none if it is built in
            content = file.read_bytes()
            if file.suffix == ".xz":
                content = lzma.decompress(content)
            entries.append(_entry(f"modules/{number}.ko", 0o100644, content))
    return b"".join([*entries, _entry("TRAILER!!!", 0)])


def _entry(name: str, mode: int, content: bytes = b"") -> bytes:
    called = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(called), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + called
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
