"""Reads from a domain's XML which disks the domain has, and whether any of them lies in a pool."""

from __future__ import annotations

import os
from xml.parsers import expat

SIGNS = ("pool.toml", "pool.xfs")
"""What every pool has at its root; one embedded in a file, and not mounted, has only the second."""

Element = tuple[str, dict[str, str], str]
"""The path of an element's names, its attributes, and the text in it."""

_DISK = "domain/devices/disk/source"
_NAME, _UUID = "domain/name", "domain/uuid"
_SECLABEL, _LABEL = "domain/seclabel", "domain/seclabel/label"
_LONGEST_NAME = 60


class Unreadable(Exception):
    """XML that cannot be read, with the reason."""


class Domain:
    """What the XML says of a VM.

    Attributes:
        name, uuid: what libvirt knows it by.
        disks: the paths of its disks' files and devices, as written.
        user: whom QEMU runs as, `+NUMBER` or a name; empty if it does not say.
    """

    __slots__ = ("disks", "name", "user", "uuid")

    def __init__(self, name: str, uuid: str, disks: list[str], user: str) -> None:
        self.name = name
        self.uuid = uuid
        self.disks = disks
        self.user = user

    def __str__(self) -> str:
        name = ascii(self.name)[1:-1]
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}…"
        return f"libvirt's VM {name} ({self.uuid})"


def read_domain(content: bytes) -> Domain:
    """Return what a VM's XML says.

    Raises:
        Unreadable: it is not XML, or not of a kind that libvirt writes.
    """
    disks, texts, user = [], {}, ""
    is_users = False
    for path, attributes, text in elements(content, {_DISK, _NAME, _UUID, _SECLABEL, _LABEL}):
        if path == _DISK:
            disks += [attributes[one] for one in ("file", "dev") if one in attributes]
        elif path == _SECLABEL:
            is_users = attributes.get("model") == "dac"
        elif path == _LABEL:
            user = text.partition(":")[0] if is_users else user
        else:
            texts[path] = text
    return Domain(texts.get(_NAME, ""), texts.get(_UUID, ""), disks, user)


def elements(content: bytes, wanted: set[str]) -> list[Element]:
    """Return the elements with these paths, in the order in which they begin.

    Raises:
        Unreadable: it is not XML, or declares a document type, with which small XML can be made huge or read files.
    """
    above: list[str] = []
    found: list[tuple[str, dict[str, str], list[str]]] = []
    inside: list[list[str] | None] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        above.append(name)
        path = "/".join(above) if len(above) <= _DEEPEST else ""
        texts: list[str] | None = [] if path in wanted else None
        inside.append(texts)
        if texts is not None:
            found.append((path, attributes, texts))

    def end(_name: str) -> None:
        above.pop()
        inside.pop()

    def say(text: str) -> None:
        if inside and inside[-1] is not None:
            inside[-1].append(text)

    def refuse(*_declared: object) -> None:
        raise Unreadable("the VM's XML declares a document type, as libvirt's never does")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = say
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise Unreadable(f"the VM's XML cannot be read: {error}") from error
    return [(path, attributes, "".join(texts)) for path, attributes, texts in found]


_DEEPEST = 4
"""How deep what is wanted may lie."""


def lies_in_a_pool(disk: str) -> bool:
    """Tell whether there is a pool in one of the directories above a disk, or above what it is a link to."""
    return any(_is_below_a_sign(os.path.dirname(one)) for one in spellings(disk))


def spellings(disk: str) -> list[str]:
    """Return a disk's path with the links above it resolved, and if it is a link itself, what that leads to."""
    try:
        above, name = os.path.split(os.path.abspath(disk))
        own = os.path.join(os.path.realpath(above), name)
        return list(dict.fromkeys([own, os.path.realpath(disk)]))
    except (OSError, ValueError):  # no path at all: a zero byte, or too long
        return []


def _is_below_a_sign(directory: str) -> bool:
    while True:
        if any(_may_be_there(os.path.join(directory, sign)) for sign in SIGNS):
            return True
        if directory == os.path.dirname(directory):
            return False
        directory = os.path.dirname(directory)


def _may_be_there(path: str) -> bool:
    """Tell whether a file is there, or cannot be told not to be."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
