"""What a pool holds, taken down as plain values, to compare one moment with another.

A picture is what the product says when asked, read anew from the files: states, numbers, contents, notes. Numbers
given since a moment are compared by their order and not by their value, since a crash may use up a number.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from lifecycle import Pool, Volume
from support.disks import seen

BLOCK = 4096
"""Bytes that a disk writes in one piece."""


@dataclass(frozen=True)
class Image:
    """One image. `at` is empty for one made since: when that was depends on the crash."""

    content: bytes = field(repr=False)
    at: str = ""
    cause: str | None = None
    pinned: bool = False
    label: str | None = None


@dataclass(frozen=True)
class Disk:
    """One volume."""

    state: str
    rest: str
    current: int | None
    next: int
    listed: tuple[int, ...]
    images: dict[int, Image]
    working: bytes | None = field(repr=False)
    begun: int | None
    mode: int | None
    config: dict[str, object]


Picture = dict[str, Disk]


def take(pool: Pool, *, without: str) -> Picture:
    """Return what the pool holds now, but for one volume."""
    return {volume.id: _disk(volume) for volume in pool if volume.id != without}


def _disk(volume: Volume) -> Disk:
    view = volume.look()
    images = {
        one.number: Image(
            seen(volume, one.number), one.at.isoformat(), one.cause, one.pinned, one.label
        )
        for one in volume.history
        if not (view.moved and one.current)  # that is the working image
    }
    if view.config.source is None and view.current == 0 and not view.moved:
        images[0] = Image(seen(volume))
    working = Path(volume.path)
    if not working.exists():  # an event that took its name away was cut off
        working = Path(f"{volume.path}@withdrawn")
    return Disk(
        state=view.state,
        # where a running volume rests once it is released is settled only by how it stops
        rest=view.state if view.running else view.rest,
        current=view.current,
        next=view.next,
        listed=view.numbers,
        images=images,
        working=working.read_bytes() if working.is_file() else None,
        begun=view.begun,
        mode=os.stat(working).st_mode & 0o7777 if working.is_file() else None,
        config=view.config._asdict(),
    )


# ---------------------------------------------------------------- in words


def in_words(disk: Disk | None) -> str:
    """Return the volume in short: `committed 2=b | 1=a | dirty w`. An image is shown by its first letter."""
    if disk is None:
        return "absent"
    images = {number: _mark(image.content) for number, image in disk.images.items()}
    parts = [str(disk.state)]
    if disk.current is not None:
        parts[0] += f" {disk.current}={images.get(disk.current)}"
    parts += [f"{number}={images[number]}" for number in disk.listed if number in images]
    if disk.working is not None:
        parts.append(f"w={_mark(disk.working)}")
    return " | ".join(parts)


def _mark(content: bytes) -> str:
    letter = "-" if content[:1] == b"\0" else content[:1].decode("latin1")
    size = len(content) >> 10
    return letter if size == STANDARD >> 10 else f"{letter}:{size}K"


STANDARD = 64 << 10
"""Bytes of a disk; another size is shown."""


# ---------------------------------------------------------------- comparing


def since(picture: Picture, before: Picture) -> Picture:
    """Return the picture with what was given or made since `before` named by its order."""
    return {name: _disk_since(disk, before.get(name)) for name, disk in picture.items()}


def _disk_since(disk: Disk, before: Disk | None) -> Disk:
    first = before.next if before else 1
    new = {n: first + i for i, n in enumerate(sorted(n for n in disk.images if n >= first))}
    known = before.images if before else {}
    return replace(
        disk,
        current=new.get(disk.current or 0, disk.current),
        next=0,
        listed=tuple(new.get(number, number) for number in disk.listed),
        images={
            new.get(number, number): image if number in known else replace(image, at="")
            for number, image in disk.images.items()
        },
    )


@dataclass(frozen=True)
class Unflushed:
    """What a guest wrote last without flushing it: after a power cut each block is old or new."""

    volume: str
    at: int
    content: bytes

    def may_be(self, found: bytes, wanted: bytes) -> bool:
        """Tell whether what was found is what was wanted, but for blocks that are not written yet."""
        start, end = self.at, self.at + len(self.content)
        if (
            len(found) != len(wanted)
            or found[:start] + found[end:] != wanted[:start] + wanted[end:]
        ):
            return False
        return all(
            found[at : at + BLOCK] in {bytes(BLOCK), wanted[at : at + BLOCK]}
            for at in range(start, end, BLOCK)
        )

    def complete(self, picture: Picture, wanted: Picture, *, made: bool) -> Picture:
        """Return the picture as if all had been written, where what was found is allowed.

        Args:
            picture: what was found.
            wanted: what it is to be compared with.
            made: whether images made from the working image may lack blocks too, not only that one itself.
        """
        disk, model = picture.get(self.volume), wanted.get(self.volume)
        if disk is None or model is None:
            return picture
        working = disk.working
        if working and model.working and self.may_be(working, model.working):
            working = model.working
        images = dict(disk.images)
        for number, image in disk.images.items() if made else ():
            other = model.images.get(number)
            if other and self.may_be(image.content, other.content):
                images[number] = replace(image, content=other.content)
        return {**picture, self.volume: replace(disk, working=working, images=images)}
