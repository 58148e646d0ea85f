"""A disk that refuses content and takes it again later: a file system on a thin device whose room is gone.

How this works. The file system lies in a file on a small tmpfs. What it has allocated to itself (journal, inodes,
trees) has its room there; what is free in it has none. Once the tmpfs is filled, new content is refused as it is
written out, and the file system itself goes on. That is what a thin device does that is full, or an embedded pool
whose outer disk is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

from support.mounts import run

MIB = 1 << 20
_SIZE = {"xfs": 320 * MIB, "btrfs": 320 * MIB, "plain": 320 * MIB, "ext4": 64 * MIB}
_MAKE = {
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q", "-m", "single", "-d", "single"),
    "plain": ("mkfs.xfs", "-q", "-m", "reflink=0"),
    "ext4": ("mkfs.ext4", "-q", "-b", "4096"),
}
_BTRFS_CONTENT = r"length (\d+) owner 2 stripe_len \d+ type DATA\|.*?offset (\d+)"
_STEP = 64 << 10
_Offset = ctypes.c_int64
_PUNCH = 3
"""FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE of linux/falloc.h."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class ThinDisk:
    """A file system that can be made to refuse new content.

    Attributes:
        kind: as `mounts.KINDS` has it, the plain one an XFS without reflinks; or `ext4`, which may end its mount.
        path: where it is mounted.
    """

    def __init__(self, place: Path, kind: str) -> None:
        self.kind = kind
        outer = place / "outer"
        self.path = place / "inner"
        for directory in (outer, self.path):
            directory.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={_SIZE[kind] + 8 * MIB}", "thin", str(outer))
        self._image = outer / "image"
        self._image.touch()
        os.truncate(self._image, _SIZE[kind])
        run(*_MAKE[kind], str(self._image))
        self._reserve()
        self._mount()
        if kind == "btrfs":  # which sets parts for content aside as it needs them
            fd = os.open(self.path / "first", os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(fd, 0, 128 * MIB)
            os.fsync(fd)
            os.close(fd)
            os.unlink(self.path / "first")
        self._filler = os.open(outer / "filler", os.O_RDWR | os.O_CREAT)

    def _reserve(self) -> None:
        """Let there be room for all of the file system."""
        with open(self._image, "r+b") as image:
            os.posix_fallocate(image.fileno(), 0, _SIZE[self.kind])

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def refuse(self) -> None:
        """Let all be refused from now on that is written where nothing is yet."""
        self.take()
        run("sync", "-f", str(self.path))
        run("fstrim", str(self.path))
        if self.kind in {"btrfs", "ext4"}:
            self._reserve()  # what is free of its trees too
            run("fsfreeze", "-f", str(self.path))  # which brings the image up to date
            try:
                self._punch(self._unused())
            finally:
                run("fsfreeze", "-u", str(self.path))
        length, step = os.fstat(self._filler).st_size, 64 * MIB
        while step >= 4096:
            try:
                os.posix_fallocate(self._filler, length, step)
                length += step
            except OSError:
                step //= 2

    def take(self) -> None:
        """Take all again."""
        os.ftruncate(self._filler, 0)

    def reboot(self) -> None:
        """Let memory hold nothing of the file system."""
        run("umount", str(self.path))
        self._mount()

    def close(self) -> None:
        os.close(self._filler)
        for path in (self.path, self._image.parent):
            with contextlib.suppress(Exception):
                run("umount", "--lazy", str(path))

    def _unused(self) -> Iterator[tuple[int, int]]:
        """Yield the parts of the image for content that may be unused, as start and end."""
        if self.kind == "btrfs":  # its trees lie in other parts
            chunks = run("btrfs", "inspect-internal", "dump-tree", "-t", "chunk", str(self._image))
            for length, start in re.findall(_BTRFS_CONTENT, chunks, re.DOTALL):
                yield int(start), int(start) + int(length)
            return
        groups = run("dumpe2fs", str(self._image))
        (block,) = re.findall(r"Block size: +(\d+)", groups)
        for line in re.findall(r"^  Free blocks: (.+)$", groups, re.MULTILINE):
            for part in line.split(", "):
                first, _, last = part.partition("-")
                yield int(first) * int(block), (int(last or first) + 1) * int(block)

    def _punch(self, parts: Iterator[tuple[int, int]]) -> None:
        """Give back the room of these parts; of btrfs's where nothing is."""
        with open(self._image, "r+b") as image:
            for start, end in parts:
                for at in range(start, end, _STEP):
                    length = min(_STEP, end - at)
                    if self.kind == "ext4" or not any(os.pread(image.fileno(), length, at)):
                        _LIBC.fallocate(image.fileno(), _PUNCH, _Offset(at), _Offset(length))
