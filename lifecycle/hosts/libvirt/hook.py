"""libvirt's hook for QEMU: libvirtd runs this at each step of every VM's life, and waits for it.

How this works. libvirtd gives the VM's name, what happens and why as arguments, and the VM's XML on standard input.
The disks in it that lie in a pool are the volumes, so nothing is set up for each VM. Most VMs of a host may have none,
so this module loads nearly nothing, and looks for a pool.toml above each disk; only where there is one does
libvirt_life.py follow, which knows what each step means for volumes.

Where libvirt listens (a start, a restore), what goes wrong is said in one line, and the exit status lets the VM not
start. Everywhere else it is only logged: a VM's end cannot be refused, and a failure at `reconnect` would kill a VM.
Nothing is ever printed on standard output, which would take the place of the VM's XML.
"""

from __future__ import annotations

import os
import sys
from xml.parsers import expat

from lifecycle.linux import fast_exit

STEPS = {
    ("prepare", "begin"),
    ("start", "begin"),
    ("started", "begin"),
    ("restore", "begin"),
    ("stopped", "end"),
    ("release", "end"),
}
"""What libvirt_life.py has a function for."""
GATES = {"prepare", "start", "restore"}
"""Where the exit status is heeded, and a failure means that the VM does not start."""

ROOT = {"", "+0", "0", "root"}
"""Users that can pass through any directory, so that there is nothing to do at `start`; or none is said."""

LONGEST_XML = 64 << 20
"""Bytes. libvirt itself takes no longer XML from anyone."""
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


def main() -> None:
    """Do what libvirtd asks for, and exit."""
    fast_exit.run(lambda: run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit status: 0, or 1 if the VM must not start, for the reason said on standard error.

    Args:
        arguments: the VM's name, the step, its phase, the reason or `-`. The VM's XML is on standard input.
    """
    _name, step, phase, reason = (*arguments, *("-" * 4))[:4]
    if (step, phase) not in STEPS:
        return 0
    try:
        content = _read_stdin()
        if content.strip():
            domain = read_domain(content)
            disks = [disk for disk in domain.disks if lies_in_a_pool(disk)]
            if disks and not (step == "start" and domain.user in ROOT):
                from lifecycle.hosts.libvirt import domain_events  # noqa: PLC0415 - only for VMs with volumes

                domain_events.take(domain, disks, step, reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, libvirtd must not be shown a traceback
        _complain(str(error) if _is_meant_for_people(error) else repr(error))
        return 1 if step in GATES else 0
    return 0


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


def _read_stdin() -> bytes:
    if sys.stdin is None:  # closed
        return b""
    content = sys.stdin.buffer.read(LONGEST_XML + 1)
    if len(content) > LONGEST_XML:
        raise Unreadable(f"the VM's XML is longer than {LONGEST_XML} bytes")
    return content


def _is_meant_for_people(error: Exception) -> bool:
    """Tell whether an error's text is enough: one of ours, or the system's."""
    if isinstance(error, (Unreadable, OSError)):
        return True
    errors = sys.modules.get("lifecycle.errors")
    return errors is not None and isinstance(error, errors.LifecycleError)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        from lifecycle.errors import printable  # noqa: PLC0415 - only here

        line = printable(" ".join(text.split()))
        sys.stderr.buffer.write(f"lifecycle: {line}\n".encode(errors="backslashreplace"))
