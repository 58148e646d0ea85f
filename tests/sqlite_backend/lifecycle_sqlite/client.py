"""What has an image open: a hypervisor, which writes to a working image, or someone who reads."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.model import Attached, Attachment
from lifecycle_sqlite import database as db

PROTOCOL = "sqlite"


def attachment(path: str, volume: str) -> Attachment:
    """Return what a hypervisor is given for the volume."""
    return Attachment(Attached.NETWORK, volume, PROTOCOL, options=(("database", path),))


class OpenImage(db.Image):
    """An image, open for reading, as it was then; whoever asks who has it open is told."""

    def __init__(self, path: str, image: int) -> None:
        """Open it.

        Raises:
            FileNotFoundError: there is none.
        """
        with db.transaction(path, write=True) as database:
            if not database.execute("SELECT 1 FROM image WHERE id = ?", (image,)).fetchone():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._client = db.enter(database, image)
        connection = db.connect(path)
        connection.execute("BEGIN")
        super().__init__(connection, path, image)

    def close(self) -> None:
        """Close it."""
        self._database.close()
        db.leave(self.path, self._client)


class Disk:
    """A volume's disk, as its VM has it."""

    def __init__(self, path: str, image: int, *, writable: bool) -> None:
        self.path = path
        self.image = image
        self._writable = writable

    @property
    def size(self) -> int:
        """Bytes."""
        with db.transaction(self.path) as database:
            return db.Image(database, self.path, self.image).size

    def read(self, offset: int, count: int) -> bytes:
        """Return these bytes."""
        with db.transaction(self.path) as database:
            return db.Image(database, self.path, self.image).read(offset, count)

    def write(self, offset: int, content: bytes) -> None:
        """Write, durably.

        Raises:
            OSError: the disk ends before, or it is read-only.
        """
        if not self._writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.path)
        with db.transaction(self.path, write=True) as database:
            if offset + len(content) > db.Image(database, self.path, self.image).size:
                raise OSError(errno.ENOSPC, "the disk ends there", self.path)
            db.write(database, self.image, offset, content)
            database.execute("UPDATE image SET written = 1 WHERE id = ?", (self.image,))

    def resize(self, size: int) -> None:
        """Give the disk another size, durably."""
        with db.transaction(self.path, write=True) as database:
            db.resize(database, self.image, size)
            database.execute("UPDATE image SET written = 1 WHERE id = ?", (self.image,))


@contextmanager
def attached(given: Attachment, *, writable: bool = True, forced: bool = False) -> Iterator[Disk]:
    """Have the disk open that a hypervisor was given.

    Args:
        given: what it was given.
        writable: whether to write to it.
        forced: whether to write to one that is read-only.

    Raises:
        FileNotFoundError: it is not started.
        PermissionError: it is read-only.
    """
    path = dict(given.options)["database"]
    with db.transaction(path, write=True) as database:
        found = database.execute(
            "SELECT working, json_extract(config, '$.rw') AS rw FROM volume WHERE id = ?",
            (given.name,),
        ).fetchone()
        if found is None or found["working"] is None:
            raise FileNotFoundError(errno.ENOENT, "it is not started", str(given))
        if writable and not (found["rw"] or forced):
            raise PermissionError(errno.EACCES, "it is read-only", str(given))
        client = db.enter(database, found["working"])
    try:
        yield Disk(path, found["working"], writable=writable)
    finally:
        db.leave(path, client)
