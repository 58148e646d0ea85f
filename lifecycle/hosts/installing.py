"""Writes the files of a host's configuration that call lifecycle, finds them and removes them.

Each host is a module of this package, named in `HOSTS`, that offers what `Host` describes. It says what the files
are; here they are written, found and removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from lifecycle.errors import LifecycleError
from lifecycle.linux import files
from lifecycle.linux.directories import Directory

HOSTS = {"libvirt": "lifecycle.hosts.libvirt.install", "systemd": "lifecycle.hosts.systemd"}
"""The hosts that something can be installed for, by name; the modules that do it."""

_DIRECTORY_MODE = 0o755
"""Who may read an installed file must reach it."""
_MARK = "Installed by `lifecycle host install"
"""Stands in the second line or so of every file that is ours."""
_LONGEST = 1 << 20


class NotInstalled(LifecycleError):
    """Nothing was installed, for the reason given."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A file of an installation, as it is found.

    Attributes:
        path: where it is.
        text: by which version, and what is wrong, in words.
        works: whether it would do what it is there for.
    """

    path: str
    text: str
    works: bool


class Host(Protocol):
    """What a host's module offers. A root is `/`, or the directory that a machine's `/` is being made in."""

    OPTIONS: frozenset[str]
    """The names of what else `install` takes, each a flag that is off by default."""

    def install(self, root: str, **options: bool) -> list[str]:
        """Put the files in place; return the paths of what had to be made or changed, directories too.

        Raises:
            NotInstalled, OSError: it cannot be.
        """

    def advice(self, root: str, written: Sequence[str]) -> list[str]:
        """Return what the person has still to do after that, a line each."""

    def uninstall(self, root: str) -> list[str]:
        """Remove the files that are ours; return their paths."""

    def status(self, root: str) -> list[Installed]:
        """Return what is installed; nothing if nothing is."""


def host(name: str) -> Host:
    """Return the module of a host that is in `HOSTS`."""
    return cast(Host, import_module(HOSTS[name]))


def mark(name: str) -> str:
    """Return the words by which a file of that host's is known as ours, and the version that wrote it."""
    from lifecycle import __version__  # noqa: PLC0415 - it imports everything

    return f"{_MARK} {name}` of lifecycle {__version__}"


def below(root: str, path: str) -> str:
    """Return where an absolute path is below a root."""
    return os.path.join(os.path.abspath(root), path.lstrip("/"))


def read(path: str) -> str | None:
    """Return a file's text; None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)
    except FileNotFoundError:
        return None


def is_ours(text: str | None) -> bool:
    """Tell whether a file's text is one that was installed by any version of lifecycle."""
    return text is not None and _MARK in text


def version_in(text: str) -> str:
    """Return the version that installed a file of ours, as `mark` put it there."""
    said = re.search(rf"{_MARK} \w+` of lifecycle ([^\s;]+)", text)
    return "unknown" if said is None else said[1]


def put(path: str, text: str, *, executable: bool = False) -> list[str]:
    """Write a file and the directories above it, durably; return the paths of what was made or changed."""
    mode = 0o755 if executable else 0o644
    if read(path) == text and os.stat(path).st_mode & 0o777 == mode:
        return []
    above, name = os.path.split(path)
    made = [*_missing(above), path]
    for missing in made[:-1]:
        with suppress(FileExistsError):  # someone else has made it meanwhile
            os.mkdir(missing)
            os.chmod(missing, _DIRECTORY_MODE)  # whatever the umask is
    with Directory.open(above) as directory:
        with directory.staged(name, text.encode()) as draft:
            files.set_mode(draft.fd, mode)
            draft.replace(name)
        directory.sync()
    return made


def take_away(path: str) -> list[str]:
    """Remove a file if it is ours; return its path if so."""
    if not is_ours(read(path)):
        return []
    above, name = os.path.split(path)
    with Directory.open(above) as directory:
        directory.remove(name)
        directory.sync()
    return [path]


def _missing(directory: str) -> list[str]:
    """Return the directory and those above it that are not there, the outermost first."""
    missing: list[str] = []
    while not os.path.isdir(directory):
        missing.insert(0, directory)
        directory = os.path.dirname(directory)
    return missing
