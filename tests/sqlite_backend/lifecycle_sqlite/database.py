"""The file that all images of a pool are in: rows of blocks, shared between images, and who has which image open.

How this works. An image is a row, and for each block that is not empty a row in `place` that says which block lies
there. So a clone copies places and no content. A block is never changed: a write makes another, and takes the old one
away if no image has it any more. SQLite makes each transaction durable, whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from lifecycle.errors import Holder

BLOCK = 64 << 10
"""Bytes of a block."""
_ZEROS = bytes(BLOCK)
_WAIT = 60.0
"""Seconds to wait for another's transaction."""

_SCHEMA = """
CREATE TABLE volume (
    id TEXT PRIMARY KEY, config TEXT NOT NULL, rest TEXT NOT NULL, next INTEGER NOT NULL DEFAULT 1,
    current INTEGER, working INTEGER, begun INTEGER, run INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE image (
    id INTEGER PRIMARY KEY AUTOINCREMENT, volume TEXT NOT NULL, size INTEGER NOT NULL,
    number INTEGER, at TEXT, cause TEXT, pinned INTEGER NOT NULL DEFAULT 0, label TEXT,
    kept INTEGER NOT NULL DEFAULT 0, written INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX image_of ON image (volume, number);
CREATE TABLE block (id INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL);
CREATE TABLE place (
    image INTEGER NOT NULL, place INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (image, place)
) WITHOUT ROWID;
CREATE INDEX place_of ON place (block);
CREATE TABLE tag (
    volume TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (volume, key)
);
CREATE TABLE client (
    id INTEGER PRIMARY KEY, image INTEGER NOT NULL, name TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT
);
"""
# volume.current, volume.working: images; image.kept: whether it is a revision; client.born: as /proc says, since pids
# are given again


def create(path: str) -> None:
    """Make the file.

    Raises:
        OSError: it is there, or cannot be made.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with _failing(path), closing(_connect(path)) as database:
        database.execute(
            "PRAGMA journal_mode = WAL"
        )  # who reads and who writes do not wait for each other
        database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")


def connect(path: str) -> sqlite3.Connection:
    """Open the file; each statement is durable by itself, outside of a transaction."""
    with _failing(path):
        return _connect(path)


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        f"file:{quote(path)}?mode=rw",
        uri=True,
        timeout=_WAIT,
        isolation_level=None,
        check_same_thread=False,
    )
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA synchronous = FULL")
    return database


@contextmanager
def transaction(path: str, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """Have the file open in the block, as it was at its beginning; what is written is durable at its end, or undone.

    Raises:
        OSError: SQLite failed.
    """
    with _failing(path), closing(_connect(path)) as database:
        database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield database
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


@contextmanager
def _failing(path: str) -> Iterator[None]:
    """Let SQLite's failures be those of a file system."""
    try:
        yield
    except sqlite3.Error as error:
        is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        code = errno.ENOSPC if is_full else errno.EIO
        raise OSError(code, f"SQLite: {error}", path) from error


# ---------------------------------------------------------------- images


def new_image(
    database: sqlite3.Connection, volume: str, size: int, number: int | None = None
) -> int:
    """Make an empty image and return its id."""
    added = database.execute(
        "INSERT INTO image (volume, size, number) VALUES (?, ?, ?)", (volume, size, number)
    )
    return int(added.lastrowid or 0)


def clone(database: sqlite3.Connection, image: int, volume: str, size: int | None = None) -> int:
    """Make an image with the content of another, and return its id; it may be given another size."""
    (had,) = database.execute("SELECT size FROM image WHERE id = ?", (image,)).fetchone()
    made = new_image(database, volume, had)
    database.execute(
        "INSERT INTO place SELECT ?, place, block FROM place WHERE image = ?", (made, image)
    )
    if size is not None and size != had:
        resize(database, made, size)
    return made


def resize(database: sqlite3.Connection, image: int, size: int) -> None:
    """Give an image another size; what a shrink cuts off is gone."""
    (had,) = database.execute("SELECT size FROM image WHERE id = ?", (image,)).fetchone()
    if size < had:
        write(database, image, size, bytes(min(-size % BLOCK, had - size)))
        _forget_places(database, image, -(-size // BLOCK), -(-had // BLOCK))
    database.execute("UPDATE image SET size = ? WHERE id = ?", (size, image))


def drop(database: sqlite3.Connection, image: int) -> None:
    """Remove an image, with what no other one has."""
    _forget_places(database, image, 0, 1 << 62)
    database.execute("DELETE FROM image WHERE id = ?", (image,))
    database.execute("DELETE FROM client WHERE image = ?", (image,))


def write(database: sqlite3.Connection, image: int, offset: int, content: bytes) -> None:
    """Write into an image; a block that is zeros from end to end then takes no room."""
    done = 0
    while done < len(content):
        place, start = divmod(offset + done, BLOCK)
        piece = content[done : done + BLOCK - start]
        if len(piece) < BLOCK:
            before = _block(database, image, place)
            piece = before[:start] + piece + before[start + len(piece) :]
        _forget_places(database, image, place, place + 1)
        if piece != _ZEROS:
            block = database.execute("INSERT INTO block (content) VALUES (?)", (piece,)).lastrowid
            database.execute("INSERT INTO place VALUES (?, ?, ?)", (image, place, block))
        done += BLOCK - start


def _block(database: sqlite3.Connection, image: int, place: int) -> bytes:
    found = database.execute(
        "SELECT content FROM place JOIN block ON block.id = place.block WHERE image = ? AND place = ?",
        (image, place),
    ).fetchone()
    return _ZEROS if found is None else bytes(found[0])


def _forget_places(database: sqlite3.Connection, image: int, first: int, end: int) -> None:
    """Let these places of an image be empty."""
    which = (image, first, end)
    blocks = database.execute(
        "SELECT block FROM place WHERE image = ? AND place >= ? AND place < ?", which
    ).fetchall()
    database.execute("DELETE FROM place WHERE image = ? AND place >= ? AND place < ?", which)
    database.executemany(
        "DELETE FROM block WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM place WHERE block = ?1)",
        [tuple(one) for one in blocks],
    )


class Image:
    """An image as what can be read (`lifecycle.readable.Readable`), in a transaction of whoever makes it."""

    fd = None

    def __init__(self, database: sqlite3.Connection, path: str, image: int) -> None:
        self.path = path
        self.image = image
        self._database = database
        with _failing(path):
            found = database.execute("SELECT size FROM image WHERE id = ?", (image,)).fetchone()
        self.size: int = found[0]

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield where there are blocks."""
        with _failing(self.path):
            places = self._database.execute(
                "SELECT place FROM place WHERE image = ? ORDER BY place", (self.image,)
            )
            for (place,) in places:
                yield place * BLOCK, min((place + 1) * BLOCK, self.size)

    def read(self, offset: int, count: int) -> bytes:
        """Return these bytes."""
        end = min(offset + count, self.size)
        with _failing(self.path):
            blocks = [
                _block(self._database, self.image, place)
                for place in range(offset // BLOCK, -(-end // BLOCK))
            ]
        start = offset % BLOCK
        return b"".join(blocks)[start : start + max(end - offset, 0)]

    def close(self) -> None:
        """Nothing: the transaction goes on."""


# ---------------------------------------------------------------- who has an image open


def enter(database: sqlite3.Connection, image: int) -> int:
    """Note that this process has an image open; return what `leave` takes."""
    with open("/proc/self/comm", encoding="utf-8", errors="replace") as name:
        me = (image, name.read().strip(), os.getpid(), _born(os.getpid()))
    added = database.execute("INSERT INTO client (image, name, pid, born) VALUES (?, ?, ?, ?)", me)
    return int(added.lastrowid or 0)


def leave(path: str, client: int) -> None:
    """Note that it has not any more."""
    with transaction(path, write=True) as database:
        database.execute("DELETE FROM client WHERE id = ?", (client,))


def clients(database: sqlite3.Connection, image: int | None) -> tuple[Holder, ...]:
    """Return who has an image open; a process that ended without a word has not."""
    found = database.execute("SELECT name, pid, born FROM client WHERE image = ?", (image,))
    return tuple(
        dict.fromkeys(Holder(name, pid) for name, pid, born in found if _born(pid) == born)
    )


def _born(pid: int) -> str | None:
    """Return what tells a process from all others of its id; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as status:
            return status.read().rpartition(")")[2].split()[19]
    except OSError:
        return None
