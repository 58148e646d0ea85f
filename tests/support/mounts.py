"""Real file systems for the tests: XFS and btrfs, which have reflinks, and ext4, which has none.

How this works. The process enters a mount namespace of its own. The file systems are made in files on a tmpfs that
is mounted there too, by loop devices that detach themselves. So however the process ends, SIGKILL included, the
kernel takes all of it away: nothing is left on the machine but an empty directory among pytest's temporary ones.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS = 0x20000
"""From linux/sched.h. Python has os.unshare only since 3.12."""
_SIZE = 1 << 30
"""Bytes of each file system: a sparse file, of which only what is written takes memory."""
_MAKE = {
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "plain": ("mkfs.ext4", "-q"),
}
KINDS = tuple(_MAKE)
REFLINKS = {"xfs": True, "btrfs": True, "plain": False}


class CannotMount(Exception):
    """Real file systems cannot be made on this machine, or not by this user."""


@dataclass(frozen=True)
class FileSystem:
    """A mounted file system.

    Attributes:
        kind: one of `KINDS`.
        path: where it is mounted.
    """

    kind: str
    path: Path

    @property
    def has_reflinks(self) -> bool:
        """Whether its files can share blocks."""
        return REFLINKS[self.kind]

    def new_directory(self) -> Path:
        """Make an empty directory that no one else uses; it is gone after the test."""
        directories.append(Path(tempfile.mkdtemp(dir=self.path)))
        return directories[-1]


directories: list[Path] = []
"""Those that were made for tests, and are there."""


@contextmanager
def giving_back() -> Iterator[None]:
    """Remove at the end the directories that are made inside the block, with what is mounted in them."""
    before = len(directories)
    yield
    made = directories[before:]
    del directories[before:]
    for path in reversed(mount_points() if made else []):
        if any(path.is_relative_to(one) for one in made):
            run("umount", "--lazy", str(path))
    for one in made:
        shutil.rmtree(one, ignore_errors=True)


def mount_points() -> list[Path]:
    """Return where something is mounted; what was mounted later, later."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        names = [line.split()[4] for line in mounts]
    return [
        Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), one)) for one in names
    ]


class Mounts:
    """The file systems of this process, each made when it is first asked for."""

    def __init__(self, below: Path, *, size: int = _SIZE, images: Path | None = None) -> None:
        """Enter a mount namespace of this process's own.

        Args:
            below: an empty directory to mount in.
            size: bytes of each file system.
            images: where the files lie that the file systems are made in, by default on the tmpfs. From elsewhere
                they are removed as soon as they are mounted, so that they go with the process too.

        Raises:
            CannotMount: this user or machine cannot.
        """
        if os.geteuid() != 0:
            raise CannotMount("mounting takes root")
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
            raise CannotMount(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "-o", "mode=0700", "lifecycle-tests", str(below))
        self._below = below
        self._size = size
        self._images = images
        self._made: dict[str, FileSystem | str] = {}
        """Those made; of one that could not be, the reason: a second try would meet what the first one left."""

    def get(self, kind: str) -> FileSystem:
        """Return the file system of that kind.

        Raises:
            CannotMount: it cannot be made here.
        """
        if kind not in self._made:
            try:
                self._made[kind] = self._make(kind)
            except CannotMount as error:
                self._made[kind] = str(error)
        made = self._made[kind]
        if isinstance(made, str):
            raise CannotMount(made)
        return made

    def _make(self, kind: str) -> FileSystem:
        image, path = (self._images or self._below) / f"{kind}.image", self._below / kind
        path.mkdir()
        image.touch(mode=0o600)
        os.truncate(image, self._size)
        run(*_MAKE[kind], str(image))
        run("mount", "-o", "loop", str(image), str(path))
        if self._images is not None:
            image.unlink()
        return FileSystem(kind, path)


def run(*command: str) -> str:
    """Run a program of the administrator's and return what it prints.

    Raises:
        CannotMount: it is not installed, or failed.
    """
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if shutil.which(command[0], path=search) is None:
        raise CannotMount(f"{command[0]} is not installed")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": search}
    )
    if done.returncode != 0:
        raise CannotMount(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let the directory be a mount that no one can write to. This process must be in its own namespace by now."""
    path = str(directory)
    run("mount", "--bind", path, path)
    try:
        run("mount", "-o", "remount,bind,ro", path)
        yield
    finally:
        run("umount", "--lazy", path)
