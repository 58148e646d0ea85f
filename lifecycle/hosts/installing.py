"""Writes the files of a host's configuration that call lifecycle, finds them and removes them.

A host (hosts/host.py) says what the files are; here they are written, found and removed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from lifecycle.linux import files
from lifecycle.linux.directories import Directory

_DIRECTORY_MODE = 0o755
"""Who may read an installed file must reach it."""
_MARK = "Installed by `lifecycle host install"
_LONGEST = 1 << 20


def mark(name: str) -> str:
    """Return the words by which a file of this host is known as ours, with the version of lifecycle that wrote it.

    A file of ours has them in its first lines; without them it is someone else's, and is left alone.
    """
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
    said = re.search(rf"{_MARK} [^`]+` of lifecycle ([^\s;]+)", text)
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
