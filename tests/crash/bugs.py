"""Deliberate bugs, to see that the proof notices: each breaks one law of docs/files.md, in one process only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any
from unittest import mock

from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.linux import directories, durability, failed_flush, files
from lifecycle.linux.directories import Directory
from lifecycle.reflink import (
    current,
    interpret,
    look,
    names,
    recording,
    removal,
    scan,
    store,
    working,
)
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.interpret import leftover_files
from lifecycle.reflink.names import Kind
from lifecycle.states import State

Patched = AbstractContextManager[object]


@dataclass(frozen=True)
class Bug:
    """A bug, and where it must show.

    Attributes:
        law: what it breaks.
        scene: the scene that must notice.
        rules: the invariants that may be what does not hold then.
        way: how: `stop`, or a way to cut the power.
        make: the context in which the product has it.
    """

    law: str
    scene: str
    rules: frozenset[int]
    way: str
    make: Callable[[], Patched]


def _nothing(*_: object, **__: object) -> None:
    """Instead of what should be done."""


def names_before_content() -> Patched:
    """A new image gets its name without its content being durable."""
    return mock.patch.object(files, "sync_content", _nothing)


def names_are_not_synced() -> Patched:
    return mock.patch.object(Directory, "sync", _nothing)


def guest_is_not_synced() -> Patched:
    real = working.finishing

    @contextmanager
    def finishing(opened: VolumeImages, change: Any) -> Iterator[Any]:
        with real(opened, change) as (file, _unflushed, second):
            yield file, (), second

    return mock.patch.object(working, "finishing", finishing)


@contextmanager
def prunes_first() -> Iterator[None]:
    """What retention will not keep is removed before the commit point."""
    real = current.promote

    def promote(opened: VolumeImages, image: str, change: Any, *how: Any) -> Any:
        for number in opened.view.numbers[:1]:
            opened.directory.remove(opened.revision_file(number))
        return real(opened, image, change, *how)

    with mock.patch.object(current, "promote", promote):
        yield


def moves_current_away() -> Patched:
    """What is current is renamed to its revision's name instead of linked: for a moment nothing is current."""

    def keep(opened: VolumeImages, change: Any) -> None:
        at = opened.record.at or change.at
        number = opened.record.current or 0
        opened.directory.rename(opened.current, names.revision_file(opened.name, number, at))

    return mock.patch.object(current, "_keep_current", keep)


@contextmanager
def records_first() -> Iterator[None]:
    """The record says what the images do not say yet."""
    real = current.promote

    def promote(opened: VolumeImages, image: str, change: Any, *how: Any) -> Any:
        record = opened.record
        number = change.revision
        early = record._replace(current=number, at=change.at, next=number + 1, rest=State.COMMITTED)
        recording.write(opened, early)
        opened.record = record
        return real(opened, image, change, *how)

    with mock.patch.object(current, "promote", promote):
        yield


def never_keeps_current() -> Patched:
    """What was current is renamed over, and not kept as a revision."""
    return mock.patch.object(current, "_keep_current", _nothing)


@contextmanager
def gives_numbers_again() -> Iterator[None]:
    """The next number is the one above the highest that is on file."""

    def forgetful(
        gather: Callable[[Directory, str], scan.Evidence], directory: Directory, what: str
    ) -> scan.Evidence:
        found = gather(directory, what)
        if found.record is None or found.record.current is None:
            return found
        highest = max([*found.revisions, found.record.current])
        return found._replace(record=found.record._replace(next=highest + 1))

    with (
        mock.patch.object(look, "gather", partial(forgetful, scan.gather)),
        mock.patch.object(store, "gather", partial(forgetful, scan.gather)),
        mock.patch.object(store, "gather_locked", partial(forgetful, scan.gather_locked)),
    ):
        yield


@contextmanager
def writes_in_place() -> Iterator[None]:
    """The record is written over, not replaced."""

    class InPlace:
        def __init__(self, directory: Directory, content: bytes) -> None:
            self.directory, self.content, self.fd = directory, content, directory.fd

        def replace(self, name: str) -> None:
            flags = directories.os.O_RDWR | directories.os.O_CREAT
            fd = directories.os.open(name, flags, 0o600, dir_fd=self.directory.fd)
            files.truncate(fd, 0)
            files.write_all(fd, self.content)
            files.sync_content(fd)
            directories.os.close(fd)

    @contextmanager
    def staged(self: Directory, _name: str, content: bytes) -> Iterator[InPlace]:
        yield InPlace(self, content)

    with mock.patch.object(Directory, "staged", staged):
        yield


@contextmanager
def leaves_things_behind() -> Iterator[None]:
    """What a crash left of an import is never removed."""

    def leftovers(found: scan.Evidence) -> list[str]:
        return [one for one in leftover_files(found) if not one.endswith(Kind.IMPORT)]

    with mock.patch.object(removal, "leftover_files", leftovers):
        yield


@contextmanager
def images_do_not_decide() -> Iterator[None]:
    """The record is believed, whatever the images say."""
    with mock.patch.object(interpret, "_settled", lambda _found, record: (record, ())):
        yield


@contextmanager
def forgets_notes() -> Iterator[None]:
    """A commit loses what was noted of other revisions."""
    real = recording.ready

    def ready(opened: VolumeImages, record: Any) -> Any:
        return real(opened, record._replace(notes=MappingProxyType({})))

    with mock.patch.object(recording, "ready", ready):
        yield


@contextmanager
def looking_mends() -> Iterator[None]:
    """A look writes down what it found."""
    real = ReflinkBackend.look

    def look(self: ReflinkBackend, volume_id: str) -> Any:
        view = real(self, volume_id)
        return self.settle(volume_id) if view.state is not State.ABSENT else view

    with mock.patch.object(ReflinkBackend, "look", look):
        yield


def takes_anothers_files() -> Patched:
    """Files are told apart by the beginning of their names."""
    real = removal.clear

    def clear(opened: VolumeImages) -> None:
        real(opened)
        for entry in opened.directory.entries():
            if entry.name.startswith(opened.name) and "@" in entry.name:
                number = names.parse_file(entry.name)
                if number is None or number.volume != opened.name:
                    opened.directory.remove(entry.name)

    return mock.patch.object(removal, "clear", clear)


def lets_errors_through() -> Patched:
    """An error of the file system is not told as what it is."""
    return mock.patch("lifecycle.engine.transaction.StorageFailed", lambda _v, _e, error: error)


def believes_the_next_flush() -> Patched:
    """That a flush failed is forgotten."""
    return mock.patch.object(failed_flush.Image, "_note", _nothing)


def asks_the_file_system_alone() -> Patched:
    """Where many share a flush, no file is asked for its own error."""
    return mock.patch.object(durability, "_ask", _nothing)


def keeps_what_memory_holds() -> Patched:
    """What is kept of an image in doubt is what can be read of it."""
    return mock.patch.object(failed_flush, "settle", _nothing)


def lets_crash_policies_decide() -> Patched:
    """What a crash left is committed, though it is in doubt."""
    return mock.patch.object(interpret, "is_marked", return_value=False)


def _rules(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


BUGS: dict[str, Bug] = {
    f"{one.make.__name__}, {one.scene}, {one.way}": one
    for one in (
        Bug(
            "1: content before name",
            "commit the first",
            _rules(1, 2, 3, 4, 11),
            "xfs, shut down",
            names_before_content,
        ),
        Bug(
            "1: content before name",
            "import a stream",
            _rules(1, 2, 3, 4, 11),
            "btrfs, copied",
            names_before_content,
        ),
        Bug("names are synced", "release", _rules(4, 11), "xfs, shut down", names_are_not_synced),
        Bug("names are synced", "start", _rules(4, 11), "btrfs, copied", names_are_not_synced),
        Bug(
            "what the guest wrote is synced",
            "commit",
            _rules(2, 3, 4, 11),
            "btrfs, copied",
            guest_is_not_synced,
        ),
        Bug("3: prune after the commit point", "commit", _rules(2, 3), "stop", prunes_first),
        Bug("3: link, then rename", "commit", _rules(1), "stop", moves_current_away),
        Bug("3: the record comes last", "commit", _rules(3, 4, 5, 7, 8), "stop", records_first),
        Bug("2: what was current is kept", "commit", _rules(2), "stop", never_keeps_current),
        Bug(
            "5: no number twice",
            "commit after the highest was forgotten",
            _rules(2, 3, 4, 5, 11),
            "stop",
            gives_numbers_again,
        ),
        Bug("1: replaced, never written over", "commit", _rules(1), "stop", writes_in_place),
        Bug("1: leftovers are removed", "import a file", _rules(8), "stop", leaves_things_behind),
        Bug("4: images decide", "commit", _rules(2, 4), "stop", images_do_not_decide),
        Bug("the record keeps its notes", "pin", _rules(3, 4, 11), "stop", forgets_notes),
        Bug("8: looking changes nothing", "commit", _rules(10), "stop", looking_mends),
        Bug("names are read whole", "start", _rules(9), "stop", takes_anothers_files),
        Bug("11: flushes", "commit", _rules(13), "refused", believes_the_next_flush),
        Bug("11: flushes", "checkpoint", _rules(13), "refused", believes_the_next_flush),
        Bug(
            "11: flushes", "commit many volumes", _rules(13), "refused", asks_the_file_system_alone
        ),
        Bug("11: flushes", "commit", _rules(13), "refused", keeps_what_memory_holds),
        Bug(
            "11: flushes", "recover, committing", _rules(13), "refused", lets_crash_policies_decide
        ),
        Bug("errors are told", "start", _rules(12), "fault", lets_errors_through),
    )
}
