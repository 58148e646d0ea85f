"""The backend: each event is one transaction, so a crash leaves nothing half done and there is nothing to settle."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from lifecycle.backend import Plain, Pool, Volume
from lifecycle.config import CrashPolicy, PoolConfig, Precache, VolumeConfig
from lifecycle.errors import (
    Holder,
    InUse,
    InvalidSize,
    Locked,
    NoSuchRevision,
    NoSuchVolume,
    NotTheSame,
    Refused,
)
from lifecycle.ids import split_id
from lifecycle.model import Attached, Attachment, Capacity, Change, Note, Revision, View
from lifecycle.readable import Readable, chunks, difference
from lifecycle.sizes import round_up
from lifecycle.states import State
from lifecycle_sqlite import client
from lifecycle_sqlite import database as db


class SqliteBackend(Plain):
    """Volumes as blocks in one SQLite file of the pool's directory."""

    driver: ClassVar[str] = "sqlite"

    def __init__(self, path: str, config: PoolConfig) -> None:
        self.root = path
        self.config = config
        self.path = f"{path}/images.sqlite"
        self._locks = f"{path}/locks"

    def set_up(self) -> None:
        """Make the file."""
        os.mkdir(self._locks, 0o700)
        db.create(self.path)

    # ------------------------------------------------------------ telling

    def look(self, volume_id: str) -> View:
        """Return the volume as it is."""
        split_id(volume_id)
        with db.transaction(self.path) as database:
            row = _row(database, volume_id)
            return View() if row is None else self._view(database, row)

    def _view(self, database: sqlite3.Connection, row: sqlite3.Row) -> View:
        config = _config(row)
        current, working = _image(database, row["current"]), _image(database, row["working"])
        state = State(row["rest"])
        if working is not None:
            state = State.DIRTY if working["written"] else State.STARTED
        held = working or current
        kept = database.execute(
            "SELECT number FROM image WHERE volume = ? AND kept AND number > 0 ORDER BY number",
            (row["id"],),
        )
        return View(
            state=state,
            config=config,
            on_crash=config.crash_policy(self.config.on_crash),
            rest=State(row["rest"]),
            current=None if current is None else current["number"],
            next=row["next"],
            numbers=tuple(number for (number,) in kept),
            size=None if held is None else held["size"],
            begun=row["begun"] if working is not None and config.source is not None else None,
            run=row["run"] if working is not None else None,
            moved=working is not None and row["working"] == row["current"],
            differs=state is State.DIRTY,
        )

    def revisions(self, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:
        """Return its revisions, oldest first."""
        with db.transaction(self.path) as database:
            found = database.execute(
                "SELECT image.*, image.id IS volume.current AS is_current FROM image JOIN volume"
                " ON volume.id = image.volume WHERE volume = ? AND number > 0 ORDER BY number",
                (volume_id,),
            )
            return tuple(
                Revision(
                    one["number"],
                    datetime.fromisoformat(one["at"]),
                    one["cause"],
                    one["size"],
                    bool(one["pinned"]),
                    one["label"],
                    current=bool(one["is_current"]),
                )
                for one in found
                if one["kept"] or (current and one["is_current"])
            )

    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids in the order of VMs, then of names."""
        with db.transaction(self.path) as database:
            found = [one for (one,) in database.execute("SELECT id FROM volume")]
        return iter(one for one in sorted(found, key=split_id) if vm in {None, split_id(one)[0]})

    def attachment(self, volume_id: str) -> Attachment:
        """Return the volume as a disk that is reached through its database."""
        return client.attachment(os.path.realpath(self.path), volume_id)

    def id_of(self, attachment: Attachment, *, any_image: bool = False) -> str | None:
        """Tell by its name."""
        mine = attachment.kind is Attached.NETWORK and attachment == self.attachment(
            attachment.name
        )
        return attachment.name if mine else None

    def tagged(self, volume_id: str, key: str) -> str | None:
        """Return the working image's tag."""
        with db.transaction(self.path) as database:
            found = database.execute(
                "SELECT value FROM tag WHERE volume = ? AND key = ?", (volume_id, key)
            ).fetchone()
            return None if found is None else found[0]

    def usage(self, volume_id: str) -> int:
        """Return the bytes of its images' blocks."""
        with db.transaction(self.path) as database:
            (blocks,) = database.execute(
                "SELECT count(DISTINCT block) FROM place JOIN image ON image.id = place.image WHERE volume = ?",
                (volume_id,),
            ).fetchone()
            return int(blocks) * db.BLOCK

    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who has noted that they have it open."""
        with db.transaction(self.path) as database:
            row = _row(database, volume_id)
            return () if row is None else db.clients(database, row["working"] or row["current"])

    def open_image(self, volume_id: str, number: int | None = None) -> client.OpenImage:
        """Open the current image, or a revision, for reading."""
        with db.transaction(self.path) as database:
            row = _row(database, volume_id)
            if row is None:
                raise NoSuchVolume(volume_id, self.root)
            view, source = self._view(database, row), _config(row).source
            if source is not None and number is None:
                row, source = _row(database, source), None
                if row is None:
                    raise NoSuchVolume(volume_id, self.root)
            elif view.moved and number in {None, view.current}:
                reason = (
                    "it has no snapshots, and its VM is writing to the only image; stop it first"
                )
                raise Refused(volume_id, view.state, "read", reason)
            image = row["current"] if number is None else _numbered(database, volume_id, number)
        if image is None:
            raise NoSuchRevision(volume_id, number or 0, view.numbers)
        return client.OpenImage(self.path, image)

    def capacity(self) -> Capacity:
        """Return what the file system has room for; images share their blocks."""
        found = os.statvfs(self.root)
        size = found.f_blocks * found.f_frsize
        return Capacity(size, size - found.f_bfree * found.f_frsize, reflinks=True)

    # ------------------------------------------------------------ acting outside of events

    @contextmanager
    def lock(self, vm: str, *, create: bool = False, wait: bool = True) -> Iterator[None]:
        """Lock a file of the VM's own by SQLite; the kernel takes the lock away however this process ends."""
        timeout = self.config.lock_timeout if wait else 0
        file = f"{self._locks}/{quote(vm, safe='')}"
        with closing(sqlite3.connect(file, timeout=timeout, isolation_level=None)) as lock:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                raise Locked(vm, timeout, ()) from None
            if not create and vm not in self.vms():
                raise NoSuchVolume(vm, self.root)
            yield

    def configure(self, volume_id: str, config: VolumeConfig) -> None:
        """Write down how the volume is set up."""
        with db.transaction(self.path, write=True) as database:
            _set(database, volume_id, config=_written(config))

    def annotate(self, volume_id: str, number: int, change: Callable[[Note], Note]) -> None:
        """Change what is known of an image."""
        with db.transaction(self.path, write=True) as database:
            image = _image(database, _numbered(database, volume_id, number))
            if image is None:
                raise NoSuchRevision(volume_id, number, ())
            note = change(Note(image["cause"], bool(image["pinned"]), image["label"]))
            database.execute(
                "UPDATE image SET cause = ?, pinned = ?, label = ? WHERE id = ?",
                (*note, image["id"]),
            )

    def tag(self, volume_id: str, key: str, value: str | None, *, durable: bool = False) -> None:
        """Tag the working image."""
        with db.transaction(self.path, write=True) as database:
            row = _row(database, volume_id)
            if row is None or row["working"] is None:
                raise NoSuchVolume(volume_id, self.root)
            database.execute("DELETE FROM tag WHERE volume = ? AND key = ?", (volume_id, key))
            if value is not None:
                database.execute("INSERT INTO tag VALUES (?, ?, ?)", (volume_id, key, value))

    # ------------------------------------------------------------ events

    @contextmanager
    def _acting(self, volume: Volume) -> Iterator[tuple[sqlite3.Connection, sqlite3.Row]]:
        with db.transaction(self.path, write=True) as database:
            row = _row(database, volume.id)
            if row is None:
                raise NoSuchVolume(volume.id, self.root)
            yield database, row

    def create(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make the volume, and the empty image if it owns images."""
        config: VolumeConfig = change.asked["config"]
        with db.transaction(self.path, write=True) as database:
            owns = config.source is None
            current = db.new_image(database, volume.id, config.size or 0, 0) if owns else None
            database.execute(
                "INSERT INTO volume (id, config, rest, current) VALUES (?, ?, ?, ?)",
                (volume.id, _written(config), State.CREATED, current),
            )

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Clone what it begins from; or let the current image be the working one, of a volume without snapshots."""
        with self._acting(volume) as (database, row):
            database.execute("DELETE FROM tag WHERE volume = ?", (volume.id,))
            if row["working"] is not None:
                return
            config, current, begun = _config(row), _image(database, row["current"]), None
            if config.source is not None:
                source = _row(database, config.source)
                if source is None:
                    raise NoSuchVolume(config.source, self.root)
                current = _image(database, source["current"])
                begun = None if current is None else current["number"]
            if current is None:
                raise NoSuchVolume(volume.id, self.root)
            working = current["id"]
            if not config.snapshots and config.rw and not current["kept"]:
                _require_unused(database, working, volume, change)
            else:
                least = (config.size or 0) if config.source is not None else 0
                size = max(current["size"], least)
                working = db.clone(database, working, volume.id, size)
            _set(database, volume.id, working=working, begun=begun, run=row["run"] + 1)

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Drop the working image."""
        with self._acting(volume) as (database, row):
            _require_unused(database, row["working"], volume, change)
            image = _image(database, row["working"])
            if image is not None and image["written"]:
                reason = "it was written to this very moment; stop it again"
                raise Refused(volume.id, change.source, change.event, reason)
            _rest(database, row)

    def commit(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make the working image current."""
        with self._acting(volume) as (database, row):
            _require_unused(database, row["working"], volume, change)
            _promote(database, row, row["working"], change)

    def checkpoint(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Clone the working image, whoever has it open: a transaction is of one moment."""
        with self._acting(volume) as (database, row):
            image = db.clone(database, row["working"], volume.id)
            _name(database, image, change, kept=True)
            _set(database, volume.id, next=(change.revision or 0) + 1)

    def revert(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Drop the working image, or make a revision current."""
        with self._acting(volume) as (database, row):
            if row["working"] is not None:
                _require_unused(database, row["working"], volume, change)
                _rest(database, row, State.REVERTED)
                return
            number = change.revision or 0
            image = _numbered(database, volume.id, number)
            if image is None:  # the empty one, of a volume that has always run on its only image
                image = db.new_image(database, volume.id, _config(row).size or 0, number)
            if image != row["current"]:
                database.execute("UPDATE image SET kept = 1 WHERE id = ?", (row["current"],))
            _set(database, volume.id, current=image, rest=State.REVERTED)

    def resize(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Resize the working image, or the empty one, or make a current image of another size."""
        size: int = change.asked["size"]
        with self._acting(volume) as (database, row):
            if row["working"] is not None:
                db.resize(database, row["working"], size)
                database.execute("UPDATE image SET written = 1 WHERE id = ?", (row["working"],))
            elif change.revision is None:
                if row["current"] is not None:
                    db.resize(database, row["current"], size)
                config = _written(_config(row)._replace(size=size))
                _set(database, volume.id, config=config, rest=change.dest)
            else:
                image = db.clone(database, row["current"], volume.id, size)
                _promote(database, row, image, change)

    def import_(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Take in the content, and make it current."""
        content: Readable = change.asked["content"]
        name = change.asked["name"]
        if not content.size:
            raise InvalidSize(0, f"{name} is empty")
        with self._acting(volume) as (database, row):
            # where both are of this database, nothing is copied
            origin = _image(database, getattr(content, "image", None))
            if getattr(content, "path", None) == self.path and origin is not None:
                image = db.clone(database, origin["id"], volume.id, round_up(content.size))
            else:
                image = db.new_image(database, volume.id, round_up(content.size))
                tell = pool.progress(f"import {volume.id}") or (lambda _done, _total: None)
                for offset, chunk in chunks(content, holes=False):
                    db.write(database, image, offset, chunk)
                    tell(offset + len(chunk), content.size)
                tell(content.size, content.size)
            if change.asked.get("verify"):
                written = db.Image(database, self.path, image)
                written.size = content.size  # without what it was rounded up by
                where = difference(content, written, pool.progress(f"verify {volume.id}"))
                if where is not None:
                    raise NotTheSame(name, f"they differ at byte {where}")
            _promote(database, row, image, change)

    def remove(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Remove the volume with all its images."""
        with self._acting(volume) as (database, row):
            for image in (row["working"], row["current"]):
                _require_unused(database, image, volume, change)
            found = database.execute("SELECT id FROM image WHERE volume = ?", (volume.id,))
            for (image,) in found.fetchall():
                db.drop(database, image)
            database.execute("DELETE FROM tag WHERE volume = ?", (volume.id,))
            database.execute("DELETE FROM volume WHERE id = ?", (volume.id,))

    def prune(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Remove a revision."""
        with self._acting(volume) as (database, _row):
            image = _numbered(database, volume.id, change.revision or 0)
            if image is not None:
                db.drop(database, image)


# ---------------------------------------------------------------- rows


def _row(database: sqlite3.Connection, volume_id: str) -> sqlite3.Row | None:
    found: sqlite3.Row | None = database.execute(
        "SELECT * FROM volume WHERE id = ?", (volume_id,)
    ).fetchone()
    return found


def _image(database: sqlite3.Connection, image: int | None) -> sqlite3.Row | None:
    found: sqlite3.Row | None = database.execute(
        "SELECT * FROM image WHERE id = ?", (image,)
    ).fetchone()
    return found


def _numbered(database: sqlite3.Connection, volume_id: str, number: int) -> int | None:
    """Return the image of this number; None if there is none."""
    found = database.execute(
        "SELECT id FROM image WHERE volume = ? AND number = ?", (volume_id, number)
    ).fetchone()
    return None if found is None else found[0]


def _set(database: sqlite3.Connection, volume_id: str, **values: Any) -> None:
    names = ", ".join(f"{name} = ?" for name in values)
    database.execute(f"UPDATE volume SET {names} WHERE id = ?", (*values.values(), volume_id))


def _config(row: sqlite3.Row) -> VolumeConfig:
    found = json.loads(row["config"])
    for name, kind in (("on_crash", CrashPolicy), ("precache", Precache)):
        found[name] = found[name] and kind(found[name])
    return VolumeConfig(**found)


def _written(config: VolumeConfig) -> str:
    return json.dumps(config._asdict())


def _require_unused(
    database: sqlite3.Connection, image: int | None, volume: Volume, change: Change
) -> None:
    """Refuse to pull away what someone has open: in the transaction that pulls it away, which no one can come into."""
    holders = db.clients(database, image)
    if holders:
        raise InUse(volume.id, change.source, change.event, holders)


def _name(database: sqlite3.Connection, image: int, change: Change, *, kept: bool) -> None:
    """Let an image have the change's number."""
    database.execute(
        "UPDATE image SET number = ?, at = ?, cause = ?, pinned = 0, label = NULL, kept = ?, written = 0"
        " WHERE id = ?",
        (change.revision, change.at.isoformat(), change.cause, kept, image),
    )


def _promote(database: sqlite3.Connection, row: sqlite3.Row, image: int, change: Change) -> None:
    """Make an image current; what was current becomes a revision, unless it is the same."""
    if image != row["current"]:
        database.execute("UPDATE image SET kept = 1 WHERE id = ?", (row["current"],))
    _name(database, image, change, kept=False)
    _set(
        database,
        row["id"],
        current=image,
        working=None,
        rest=State.COMMITTED,
        next=max(row["next"], (change.revision or 0) + 1),
    )
    database.execute("DELETE FROM tag WHERE volume = ?", (row["id"],))


def _rest(database: sqlite3.Connection, row: sqlite3.Row, state: State | None = None) -> None:
    """Take the working image away; the volume rests where it did, or in this state."""
    if row["working"] != row["current"]:
        db.drop(database, row["working"])
    _set(database, row["id"], working=None, begun=None, rest=state or row["rest"])
    database.execute("DELETE FROM tag WHERE volume = ?", (row["id"],))
