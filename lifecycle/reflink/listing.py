"""The many files of a volume, such as its revisions, as the directory lists them; read only when needed.

There can be thousands, so what they are is worked out when it is first asked for. A file that cannot be looked at is
not passed over for that: it counts for what its name says.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from lifecycle.linux.status import is_file, status_of_entry
from lifecycle.reflink import names
from lifecycle.reflink.names import Kind


class Listed:
    """The files of one volume as a directory lists them.

    Attributes:
        entries: those that are told by their endings, by kind.
        revisions: the revisions'.
        leftovers: the names of temporary files of no worth.
    """

    __slots__ = ("entries", "leftovers", "revisions")

    def __init__(self) -> None:
        self.entries: dict[str, os.DirEntry[str]] = {}
        self.revisions: list[os.DirEntry[str]] = []
        self.leftovers: list[str] = []

    def add(self, entry: os.DirEntry[str], kind: str) -> None:
        """Add a file of that kind."""
        if kind == Kind.REVISION:
            self.revisions.append(entry)
        elif kind == Kind.LEFTOVER:
            self.leftovers.append(entry.name)
        else:
            self.entries[kind] = entry


class Others:
    """The files of one volume beside its record, its current and its working image."""

    def __init__(self, list_them: Callable[[], Listed]) -> None:
        self._list_them = list_them

    @functools.cached_property
    def listed(self) -> Listed:
        """What the directory lists, or listed when this was first asked for."""
        return self._list_them()


NOTHING = Others(Listed)


class RevisionFile(NamedTuple):
    """A revision as the directory lists it."""

    file: str
    number: int
    at: datetime
    inode: int


class Revisions(Mapping[int, RevisionFile]):
    """The revisions on file by number, 0 too: read from the directory's entries when they are first asked for.

    Attributes:
        doubles: further files that claim to be a revision of the same number; of two the later counts.
    """

    def __init__(self, name: str, others: Others) -> None:
        self._name = name
        self._others = others

    @functools.cached_property
    def _found(self) -> tuple[dict[int, os.DirEntry[str]], tuple[str, ...]]:
        found: dict[int, os.DirEntry[str]] = {}
        doubles = []
        start = len(self._name)
        for entry in self._others.listed.revisions:
            number = names.revision_number(entry.name, start)
            if number is None or not is_file(entry):
                continue
            other = found.setdefault(number, entry)
            if other is not entry:
                # their names differ in the time only, and times are ordered as texts
                older, newer = sorted((other, entry), key=lambda two: two.name)
                found[number] = newer
                doubles.append(older.name)
        return found, tuple(doubles)

    @property
    def doubles(self) -> tuple[str, ...]:
        """Further files that claim a number which another one has."""
        return self._found[1]

    def statuses(self) -> Iterator[os.stat_result]:
        """Yield the status of each file, as far as it can be had."""
        for entry in self._others.listed.revisions:
            if names.revision_number(entry.name, len(self._name)) is not None:
                status = status_of_entry(entry)
                if isinstance(status, os.stat_result):
                    yield status

    def __getitem__(self, number: int) -> RevisionFile:
        entry = self._found[0][number]
        at = names.revision_time(entry.name)
        if at is None:
            raise ValueError(f"{entry.name} is no revision's")  # never, since its number was read
        return RevisionFile(entry.name, number, at, entry.inode())

    def __iter__(self) -> Iterator[int]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])
