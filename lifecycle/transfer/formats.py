"""Disk images in foreign formats (qcow2, vmdk, vdi…): recognised by their content, read by qemu-img.

How this works. An image of such a format can name other files of the host as part of its content: a backing file, a
data file, extents. Whoever wrote the image chose those names, so reading it trustingly could make any file of the host
part of a disk. Therefore:

- The image is first copied to a file without a name, which no one else can reach; only that is looked at and read.
  So what was found harmless is what is read, whoever changes the image meanwhile.
- An image that refers to another file is refused, unless that was asked for (`follow`); and the image is not handed
  to qemu-img at all, not even to be asked about.
- qemu-img is told the format and guesses none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle.errors import NotContent, NotTheSame, Unsupported, shown
from lifecycle.linux import copying, files
from lifecycle.linux.child_processes import ends_told
from lifecycle.linux.copying import OpenFile
from lifecycle.linux.directories import Directory
from lifecycle.linux.failed_flush import Image
from lifecycle.readable import Progress, Readable
from lifecycle.transfer.content import RAW, path_of

_MAX_NAME = 1023
_MAX_DESCRIPTOR = 1 << 20
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Format:
    """A format of images.

    Attributes:
        driver: what QEMU calls it.
        magic: how its images begin, or what is at an offset in them; an offset below 0 counts from the end, where
            it is only looked for if the format was named.
        refers: finds what an image refers to, in words; None if to nothing.
        follows: whether qemu-img can read what it refers to.
    """

    driver: str
    magic: tuple[tuple[int, bytes], ...]
    refers: Callable[[Readable], str | None]
    follows: bool = True


def probe(image: Readable) -> str:
    """Return the name of the format that the image's content is of; `raw` if it is none of those known."""
    for name, one in FORMATS.items():
        if _has(image, [mark for mark in one.magic if mark[0] >= 0]):
            return name
    return RAW


def convert(
    image: Readable,
    name: str,
    form: str,
    directory: Directory,
    *,
    follow: bool = False,
    verify: bool = False,
    progress: Callable[[str], Progress | None] = lambda _text: None,
) -> int:
    """Return a descriptor of a new file without a name that holds the disk which the image describes.

    Args:
        image: the image.
        name: what it is, for messages.
        form: its format, one of `FORMATS`.
        directory: where there is room.
        follow: whether to read other files that it refers to, too.
        verify: whether to read both again and compare.
        progress: makes what a copy of this name is to call.

    Raises:
        NotContent: it is not of that format, refers to other files, or cannot be read.
        NotTheSame: what was written is not what was read.
        Unsupported: there is no qemu-img.
        OSError: there is no room.
    """
    if shutil.which(_PROGRAM) is None:
        raise Unsupported(
            f"{name} is a {form} image, and {_PROGRAM}, which reads those, is not installed; install the package"
            " qemu-utils. (--format raw takes the file's bytes as they are.)"
        )
    private = directory.scratch(form)
    try:
        fd = image.fd
        if fd is None or Image(fd, name, own=False).share_with(private) is not None:
            copying.copy(image, private, progress(f"read {name}"))
        _require_harmless(OpenFile(private), name, form, follow=follow)
        # what it refers to is found beside it, if it is a file
        where = path_of(fd) if follow and fd is not None else f"/proc/self/fd/{private}"
        source = _Source(name, form, where, private, follow)
        disk = directory.scratch(RAW)
        try:
            _check(source, disk)
            _convert(source, disk, progress(f"convert {name}"))
            if verify:
                _compare(source, disk, progress(f"verify {name}"))
        except BaseException:
            os.close(disk)
            raise
    finally:
        os.close(private)
    return disk


# ---------------------------------------------------------------- qemu-img

_PROGRAM = "qemu-img"
_DONE = re.compile(r"\(([0-9.]+)/100%\)")
_WHOLE = frozenset({0, 3, 63})
"""The exit statuses of `qemu-img check` for what can be read: sound, some space lost in it, or not checkable."""
_DIFFERENT = 1
"""The exit status of `qemu-img compare` for images that differ."""


@dataclass(frozen=True, slots=True)
class _Source:
    """An image as it is handed to qemu-img."""

    name: str
    form: str
    path: str
    fd: int
    follow: bool

    def __str__(self) -> str:
        options: dict[str, object] = {"driver": FORMATS[self.form].driver, "file": _file(self.path)}
        if not self.follow:
            options["backing"] = None  # not even if it had one
        return f"json:{json.dumps(options)}"


def _file(path: str) -> dict[str, str]:
    return {"driver": "file", "filename": path}


def _check(source: _Source, disk: int) -> None:
    """Check that the image is whole: of one that is cut short qemu-img would read the rest as zeros."""
    status, said = _run(("check", str(source)), source, disk, None)
    if status not in _WHOLE:
        raise NotContent(source.name, f"is cut short or damaged: {said}")


def _convert(source: _Source, disk: int, progress: Progress | None) -> None:
    target = f"/proc/self/fd/{disk}"
    status, said = _run(("convert", "-p", "-O", RAW, str(source), target), source, disk, progress)
    if status != 0:
        raise NotContent(source.name, f"cannot be read as {source.form}: {said}")


def _compare(source: _Source, disk: int, progress: Progress | None) -> None:
    files.sync_content(disk)
    for fd in (source.fd, disk):
        copying.drop_cache(fd)
    written = "json:" + json.dumps({"driver": RAW, "file": _file(f"/proc/self/fd/{disk}")})
    status, said = _run(("compare", "-p", str(source), written), source, disk, progress)
    if status == _DIFFERENT:
        raise NotTheSame(source.name, said)
    if status != 0:
        raise NotContent(source.name, f"cannot be read again: {said}")


def _run(
    words: tuple[str, ...], source: _Source, disk: int, progress: Progress | None
) -> tuple[int, str]:
    """Run qemu-img and return its exit status and what it said last, besides how far it has come."""
    said = ""
    with (
        ends_told(),
        subprocess.Popen(
            (_PROGRAM, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(source.fd, disk),
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="backslashreplace",
        ) as process,
    ):
        try:
            for line in process.stdout or ():  # which end in \r
                done = _DONE.search(line)
                if done is None:
                    said = line.strip() or said
                elif progress is not None:
                    size = os.fstat(disk).st_size
                    progress(int(size * float(done[1]) / 100), size)
        except BaseException:
            process.kill()
            raise
    text = said.removeprefix(f"{_PROGRAM}: ").replace(str(source), source.name).rstrip(".")
    return process.returncode, text or f"exit status {process.returncode}"


# ---------------------------------------------------------------- what an image refers to


def _require_harmless(image: Readable, name: str, form: str, *, follow: bool) -> None:
    """Check that the image is of the format, and refers to no other file or may.

    Raises:
        NotContent: it is not, or does.
    """
    one = FORMATS[form]
    if not _has(image, one.magic):
        raise NotContent(name, f"is no {form} image")
    found = one.refers(image)
    if found is None or (follow and one.follows):
        return
    if not one.follows:
        raise NotContent(
            name, f"refers to {found}, which cannot be read with it; merge the two first"
        )
    raise NotContent(
        name,
        f"refers to {found}, which would be read with it and could be any file of this host; --follow"
        " does that, if you trust who made the image",
    )


def _has(image: Readable, magic: Sequence[tuple[int, bytes]]) -> bool:
    """Tell whether one of these marks is in the image."""
    size = image.size
    places = ((size + offset if offset < 0 else offset, mark) for offset, mark in magic)
    return any(_read(image, at, len(mark)) == mark for at, mark in places)


def _read(image: Readable, offset: int, count: int) -> bytes:
    """Return what is there; less, or nothing, where the image ends before."""
    return image.read(offset, count) if 0 <= offset < image.size else b""


def _fields(image: Readable, layout: str, offset: int) -> tuple[int, ...]:
    """Return numbers of the image's header; 0 for what is past its end."""
    length = struct.calcsize(layout)
    return struct.unpack(layout, _read(image, offset, length).ljust(length, b"\0"))


def _text(image: Readable, offset: int, size: int) -> str:
    found = _read(image, offset, min(size, _MAX_NAME))
    return shown(found.decode(errors="backslashreplace"))


def _qcow_refers(image: Readable) -> str | None:
    version, offset, size = _fields(image, ">IQI", 4)
    if offset:
        return f"the backing file {_text(image, offset, size)}"
    (features,) = _fields(image, ">Q", 72)
    return "an external data file" if version >= 3 and features & 4 else None  # noqa: PLR2004


def _qed_refers(image: Readable) -> str | None:
    (features,) = _fields(image, "<Q", 16)
    if not features & 1:
        return None
    offset, size = _fields(image, "<II", 56)
    return f"the backing file {_text(image, offset, size)}"


def _vmdk_refers(image: Readable) -> str | None:
    capacity, _grain, offset, size = _fields(image, "<QQQQ", 12)
    if _read(image, 0, 4) != b"KDMV" or capacity == 0:
        return "the files that hold its content (extents)"
    descriptor = _read(image, offset * _SECTOR, min(size * _SECTOR, _MAX_DESCRIPTOR))
    return "a parent image" if b"parentFileNameHint" in descriptor else None


def _vhd_refers(image: Readable) -> str | None:
    footer = image.size - _SECTOR
    (kind,) = _fields(image, ">I", 60 + (0 if _read(image, 0, 8) == b"conectix" else footer))
    return "a parent image" if kind == 4 else None  # noqa: PLR2004 - differencing


def _refers_to_nothing(_image: Readable) -> None:
    """Tell that images of this format cannot refer to other files, or that qemu-img reads no such ones."""


FORMATS = {
    "qcow": Format("qcow", ((0, b"QFI\xfb\0\0\0\1"),), _qcow_refers),
    "qcow2": Format("qcow2", ((0, b"QFI\xfb"),), _qcow_refers),
    "qed": Format("qed", ((0, b"QED\0"),), _qed_refers),
    "vmdk": Format(
        "vmdk", ((0, b"KDMV"), (0, b"COWD"), (0, b"# Disk DescriptorFile")), _vmdk_refers
    ),
    "vdi": Format("vdi", ((64, b"\x7f\x10\xda\xbe"),), _refers_to_nothing),
    "vhd": Format("vpc", ((0, b"conectix"), (-512, b"conectix")), _vhd_refers, follows=False),
    "vhdx": Format("vhdx", ((0, b"vhdxfile"),), _refers_to_nothing),
    "parallels": Format(
        "parallels", ((0, b"WithoutFreeSpace"), (0, b"WithouFreSpacExt")), _refers_to_nothing
    ),
}
"""The known formats, by the names that people use; the first whose mark is found is meant."""
