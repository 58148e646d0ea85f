"""A careful reader of qubes.xml: the pools and volumes that the file names, as it names them.

How this works. The file is read element by element, and trusted with nothing: it is bounded in length and depth, and
one with a DOCTYPE is refused, so there are no entities to expand. Each attribute has a reader (`_POOL`, `_VOLUME`);
one without a reader, or that its reader cannot make sense of, becomes a remark, so that nothing is lost unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from lifecycle import ids
from lifecycle.errors import InvalidConfig, shown
from lifecycle.sizes import MAX_SIZE

MAX_BYTES = 16 << 20
"""Bytes. The file of a thousand VMs has one or two million."""
_MAX_DEPTH = 32
"""Elements within each other. A qubes.xml has five."""


@dataclass(frozen=True, slots=True)
class XmlPool:
    """A pool.

    Attributes:
        name, driver: as they stand there.
        dir_path: its directory; None of a driver that has none.
        revisions_to_keep: how many; None if it is not said.
        remarks: what was said of it and not understood.
    """

    name: str = ""
    driver: str = ""
    dir_path: str | None = None
    revisions_to_keep: int | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class XmlVolume:
    """A volume.

    Attributes:
        name: what its VM calls it.
        pool: its pool's name.
        vid: its path in the pool: the id it has here.
        size: bytes; None if it is not said.
        rw, save_on_stop, snap_on_start: the flags; what is not said of the last two is no.
        source: the vid of the volume that each start begins from.
        revisions_to_keep: how many; None if it is not said.
        ephemeral: whether what is written is encrypted with a key that no one keeps.
        remarks: what was said of it and not understood.
    """

    name: str = ""
    pool: str = ""
    vid: str = ""
    size: int | None = None
    rw: bool = True
    save_on_stop: bool = False
    snap_on_start: bool = False
    source: str | None = None
    revisions_to_keep: int | None = None
    ephemeral: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QubesXml:
    """What the file says.

    Attributes:
        where: the file, for messages.
        pools, volumes: in the file's order.
    """

    where: str
    pools: tuple[XmlPool, ...] = ()
    volumes: tuple[XmlVolume, ...] = ()


def _flag(text: str) -> bool:
    return {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}[text]


def _count(highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20):  # noqa: PLR2004 - bounded
            raise ValueError(text)
        if int(text) > highest:
            raise ValueError(text)
        return int(text)

    return read


_Readers = Mapping[str, Callable[[str], Any]]
_POOL: _Readers = {
    "name": str,
    "driver": str,
    "dir_path": str,
    "revisions_to_keep": _count(ids.MAX_NUMBER),
}
_VOLUME: _Readers = {
    "name": str,
    "pool": str,
    "vid": str,
    "size": _count(MAX_SIZE),
    "rw": _flag,
    "save_on_stop": _flag,
    "snap_on_start": _flag,
    "source": str,
    "revisions_to_keep": _count(ids.MAX_NUMBER),
    "ephemeral": _flag,
}


def read(path: str) -> QubesXml:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        InvalidConfig: it is too long, no XML, has a DOCTYPE, or is no qubes.xml.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidConfig(path, f"is longer than any qubes.xml ({MAX_BYTES >> 20} MiB)")
    return parse(path, content)


def parse(where: str, content: bytes) -> QubesXml:
    """Read the file's content; `where` names it in errors.

    Raises:
        InvalidConfig: it is no XML, has a DOCTYPE, or is no qubes.xml.
    """
    reader = _Reader(where)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, InvalidConfig):
            raise
        raise InvalidConfig(where, f"is not XML: {error}") from error
    return QubesXml(where, tuple(reader.pools), tuple(reader.volumes))


@dataclass(slots=True)
class _Reader:
    """What the parser calls."""

    where: str
    within: list[str] = field(default_factory=list)
    pools: list[XmlPool] = field(default_factory=list)
    volumes: list[XmlVolume] = field(default_factory=list)

    def doctype(self, *_: object) -> None:
        raise InvalidConfig(self.where, "has a DOCTYPE, which no qubes.xml has")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.within and tag != "qubes":
            raise InvalidConfig(self.where, f"is not a qubes.xml: it begins with <{shown(tag)}>")
        if len(self.within) >= _MAX_DEPTH:
            raise InvalidConfig(self.where, "is not a qubes.xml: its elements lie too deep")
        if (*self.within, tag) == ("qubes", "pools", "pool"):
            self.pools.append(XmlPool(**_understood(_POOL, attributes)))
        elif self.within[:2] == ["qubes", "domains"] and (self.within[-1], tag) == _A_VOLUME:
            self.volumes.append(XmlVolume(**_understood(_VOLUME, attributes)))
        self.within.append(tag)

    def end(self, _tag: str) -> None:
        self.within.pop()


_A_VOLUME = ("volume-config", "volume")


def _understood(readers: _Readers, attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return what the attributes say, and as `remarks` what of it is not understood."""
    found: dict[str, Any] = {}
    remarks = []
    for name, text in attributes.items():
        try:
            found[name] = readers[name](text)
        except (KeyError, ValueError):
            remarks.append(f"`{shown(name)[1:-1]}` = {shown(text)} is not understood, and left out")
    return found | {"remarks": tuple(remarks)}
