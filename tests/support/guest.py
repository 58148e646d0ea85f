"""A guest that really boots, in two to four seconds without KVM: Debian's cloud kernel, and busybox.

How this works. What a guest is to do is a shell script, made of the functions below. It rides on the kernel's command
line, and the first process of the guest runs it; what it prints comes out of the first serial port (ttyS0). Disks are
/dev/vda, /dev/vdb and so on. After its script the guest powers off.

The kernel is fetched once with `apt-get download` and kept in the user's cache. Every test may ask for the fixture:
../conftest.py loads it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import required_programs

KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_blk", "pvpanic-pci")
"""Modules of the kernel's that the guest loads, and before each those that it depends on."""

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
for module in $(cat /modules); do insmod /$module; done
# the kernel hands what it does not know of its command line to us as variables
echo "$guest_script" | base64 -d >/script
. /script
sync
poweroff -f
"""

# ---------------------------------------------------------------- what a guest can be told to do

READY = "guest is ready"
PANIC = "echo c >/proc/sysrq-trigger"
"""The kernel panics, and says so to QEMU, which needs `-device pvpanic-pci`."""
WAIT = "sleep 1000000"
"""Stay up until something ends it."""


def say(text: str) -> str:
    """Print a line."""
    return f"echo '{text}'"


def write(mark: str, *, at: int = 0, device: str = "vda") -> str:
    """Write this (plain text) at an offset in bytes, durably."""
    dd = f"dd of=/dev/{device} bs=1 seek={at} conv=notrunc,fsync 2>/dev/null"
    return f"printf %s '{mark}' | {dd}"


def fill(mebibytes: int, *, device: str = "vda") -> str:
    """Write so many MiB of noise from the start of the disk on, durably."""
    return f"dd if=/dev/urandom of=/dev/{device} bs=1M count={mebibytes} conv=fsync 2>/dev/null"


def write_for_ever(*, device: str = "vda") -> str:
    """Write noise durably over and over, in the background; returns once some of it is on the disk."""
    return f"{fill(1, device=device)}; while :; do {fill(1, device=device)}; done &"


def discard(mebibytes: int, *, device: str = "vda") -> str:
    """Discard so many MiB from the start of the disk on, as fstrim does with what is free."""
    return f"blkdiscard -l {mebibytes << 20} /dev/{device}; sync"


def checksum(length: int, *, at: int = 0, device: str = "vda") -> str:
    """Print the line that `checksum_line` returns of what is there."""
    dd = f"dd if=/dev/{device} iflag=skip_bytes,count_bytes skip={at} count={length} 2>/dev/null"
    return f'echo "{device} {at} $({dd} | sha256sum | cut -d " " -f 1)"'


def checksum_line(content: bytes, *, at: int = 0, device: str = "vda") -> str:
    """Return what `checksum` prints if this is there."""
    return f"{device} {at} {hashlib.sha256(content).hexdigest()}"


# ---------------------------------------------------------------- the guest


@dataclass(frozen=True)
class Guest:
    """What a guest boots from.

    Attributes:
        kernel: the kernel's path.
        initrd: the path of its initramfs.
    """

    kernel: Path
    initrd: Path

    def arguments(self, *script: str) -> str:
        """Return the kernel's command line that makes the guest run these pieces of script, one by one."""
        encoded = base64.b64encode("\n".join(script).encode()).decode()
        return f"console=ttyS0 quiet loglevel=0 panic=-1 guest_script={encoded}"

    def qemu(
        self,
        *script: str,
        disks: Sequence[str] = (),
        more: Sequence[str] = (),
        serial: str = "stdio",
    ) -> list[str]:
        """Return the command of a QEMU that boots it, to run these pieces of script.

        Args:
            script: what to do; it powers off afterwards.
            disks: the paths of its disks, /dev/vda first; `{root}` for `lifecycle run` to fill in.
            more: further arguments for QEMU.
            serial: where what it prints goes: `stdio`, or `file:PATH`.
        """
        drives = [f"file={path},format=raw,if=virtio,discard=unmap" for path in disks]
        return [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "128"),
            *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
            *("-serial", serial),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", self.arguments(*script)),
            *(word for drive in drives for word in ("-drive", drive)),
            *more,
        ]


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A guest that boots. Where it cannot be had the test is skipped; but it fails where `CI` is set."""
    for program, package in {
        "qemu-system-x86_64": "qemu-system-x86",
        "busybox": "busybox-static",
    }.items():
        if shutil.which(program) is None:
            required_programs.missing(f"{program} is not installed (package {package})")
    kernel = _kernel()
    below = tmp_path_factory.mktemp("guest")
    return Guest(kernel / "vmlinuz", _make_initramfs(kernel, below))


# ---------------------------------------------------------------- making it


def _kernel() -> Path:
    """Return the directory with the kernel and its modules; fetched by the first of all test processes to ask."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(home) / "lifecycle-tests"
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        required_programs.missing(f"needs a place of this user's to keep a kernel in: {error}")
    kept = cache / KERNEL_PACKAGE
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=cache) as below:
                _fetch_kernel(Path(below))
                (Path(below) / "unpacked").rename(kept)
    return kept


def _fetch_kernel(below: Path) -> None:
    depends = _run("apt-cache", "depends", "--important", KERNEL_PACKAGE)
    concrete = re.search(r"Depends: (linux-image-\S+)", depends)
    if concrete is None:
        required_programs.missing(
            f"the package {KERNEL_PACKAGE} is not known to apt (apt-get update)"
        )
    _run("apt-get", "download", concrete[1], below=below)
    (package,) = below.glob("*.deb")
    _run("dpkg-deb", "--fsys-tarfile", str(package), below=below, into="package.tar")
    unpacked = below / "unpacked"
    unpacked.mkdir()
    with tarfile.open(below / "package.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member)
            if content is not None and name.startswith("vmlinuz-"):
                (unpacked / "vmlinuz").write_bytes(content.read())
            elif content is not None and name.endswith(".ko"):
                (unpacked / name).write_bytes(content.read())
            elif content is not None and name.endswith(".ko.xz"):  # since Debian 13
                module = lzma.decompress(content.read())
                (unpacked / name.removesuffix(".xz")).write_bytes(module)


def _make_initramfs(kernel: Path, below: Path) -> Path:
    """Write the initramfs: busybox, the modules, and INIT; return its path."""
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    if b"/ld-linux" in busybox:
        required_programs.missing("busybox is not a static one (package busybox-static)")
    root = below / "root"
    for name in ("bin", "dev", "proc", "sys", "mnt"):
        (root / name).mkdir(parents=True)
    modules = _with_dependencies(kernel, MODULES)
    (root / "modules").write_text("\n".join(modules))
    for module in modules:
        shutil.copy(kernel / module, root / module)
    for name, content in {"bin/busybox": busybox, "init": INIT.encode()}.items():
        (root / name).write_bytes(content)
        (root / name).chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    _run("busybox", "cpio", "-o", "-H", "newc", below=root, into="../initramfs", given=names)
    return below / "initramfs"


def _with_dependencies(kernel: Path, modules: Sequence[str]) -> list[str]:
    """Return the modules' files, each after those that it depends on. What has no file is built in."""
    found: list[str] = []
    for module in modules:
        file = kernel / f"{module}.ko"
        if not file.exists():
            continue
        named = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())
        before = named[1].decode().split(",") if named is not None and named[1] else []
        found += [*_with_dependencies(kernel, before), file.name]
    return list(dict.fromkeys(found))


def _run(*words: str, below: Path | None = None, into: str | None = None, given: str = "") -> str:
    """Run a program below a directory, its output into a file there; return the output if into none."""
    try:
        done = subprocess.run(
            words, cwd=below, input=given.encode(), capture_output=True, check=False
        )
    except FileNotFoundError:
        required_programs.missing(f"{words[0]} is not installed")
    if done.returncode != 0:
        required_programs.missing(
            f"{' '.join(words)} failed: {done.stderr.decode(errors='replace').strip()}"
        )
    if below is not None and into is not None:
        (below / into).write_bytes(done.stdout)
    return done.stdout.decode(errors="replace") if into is None else ""
