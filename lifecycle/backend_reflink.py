"""The reflink backend: which steps on files each event is made of.

How this works. A volume NAME of a VM is a handful of files in the VM's directory (reflink/names.py). Three rules carry
everything:

- An image gets its name only when its content is durable (directories.Draft).
- Images are immutable once current, and a revision is a hard link to what was current. So a commit, a revert and
  keeping a revision are a few directory operations at any size; only the working image is a clone.
- One rename is the commit point (reflink/current.py): keep what is current under its revision's name, rename the new
  image over it, put the record in place, sync the directory. A crash in between is understood by looking
  (reflink/scan.py).

Nothing is remembered between calls: the directory is the truth. Looking takes no lock; acting is done under the
VM's lock, which is a flock on its directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from lifecycle import config as settings
from lifecycle import events, ids
from lifecycle.config import PoolConfig, VolumeConfig
from lifecycle.errors import Holder, InvalidSize, NoReflinks, NoSuchVolume, Refused, Unsupported
from lifecycle.linux import copying, files, reflinks, xattrs
from lifecycle.linux.directories import Directory
from lifecycle.linux.durability import Steps
from lifecycle.linux.failed_flush import Image
from lifecycle.model import (
    Attached,
    Attachment,
    Capacity,
    Change,
    Finding,
    Note,
    Revision,
    Surveyed,
    View,
)
from lifecycle.reflink import (
    cloning,
    current,
    images,
    look,
    names,
    precached,
    recording,
    removal,
    working,
)
from lifecycle.reflink.record import Record
from lifecycle.reflink.store import Store
from lifecycle.reflink.withdrawal import drop, require_own_name, withdrawn
from lifecycle.sizes import SECTOR, round_up
from lifecycle.states import RUNNING

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.linux.copying import OpenFile
    from lifecycle.readable import Readable

log = logging.getLogger("lifecycle.backend")


class ReflinkBackend:
    """Volumes as files on a file system with reflinks (XFS, btrfs), or as sparse copies where that was accepted."""

    driver: ClassVar[str] = settings.DEFAULT_DRIVER
    pool_file_mode: ClassVar[int] = files.FILE_MODE

    def __init__(self, path: str, config: PoolConfig) -> None:
        self.store = Store(path, config)
        self.on_look: Callable[[int], None] | None = None

    def set_up(self) -> None:
        """Check that the directory can be written to, and has reflinks or does without."""
        with Directory.open(self.store.root) as root:
            if not reflinks.has_reflinks(root) and self.store.config.setup_check:
                raise NoReflinks(root.path)
            if not reflinks.keeps_nanoseconds(root):
                raise Unsupported(
                    f"{root.path}: this file system keeps file times only coarsely, so that a written"
                    " image could not be told from an unwritten one; use another (XFS, btrfs)"
                )

    def connect(self, pool: Pool) -> None:
        """Subscribe to the imperative signals of this pool."""
        for event, tenses in events.EVENTS.items():
            method = getattr(self, "import_" if event == "import" else event)
            tenses.done.connect(method, sender=pool)

    # ------------------------------------------------------------ telling

    def look(self, volume_id: str) -> View:
        """Return the volume as it is."""
        return look.view(self.store, volume_id)

    def revisions(self, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:
        """Return the volume's revisions, oldest first."""
        return look.revisions(self.store, volume_id, current=current)

    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids of all volumes, or of one VM's, in order."""
        return look.volume_ids(self.store, vm)

    def vms(self) -> Iterator[str]:
        """Yield the names of the directories with a file of a volume, or what is left of one, or not to be listed."""
        return look.vms(self.store)

    def restless(self) -> Iterator[str]:
        """Yield the names of the VMs in which a volume runs or is damaged, or a crash left something."""
        return look.restless(self.store, self.on_look)

    def survey(self, vm: str | None = None) -> Iterator[Surveyed]:
        """Yield what a list shows of all volumes, or of one VM's."""
        return look.survey(self.store, vm, self.on_look)

    def attachment(self, volume_id: str) -> Attachment:
        """Return the working image, as a file."""
        return Attachment(Attached.FILE, self.store.working_image(volume_id))

    def id_of(self, attachment: Attachment, *, any_image: bool = False) -> str | None:
        """Return the id of the volume that a working image, or any image, of this path would be of."""
        return look.id_of(self.store, attachment, any_image=any_image)

    def is_image(self, path: str) -> bool:
        """Tell it by its name."""
        return names.parse_file(os.path.basename(path)) is not None

    def tagged(self, volume_id: str, key: str) -> str | None:
        """Return the working image's tag."""
        return look.tagged(self.store, volume_id, key)

    def usage(self, volume_id: str) -> int:
        """Return the bytes allocated to its images."""
        return look.usage(self.store, volume_id)

    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who holds the volume's image open."""
        return look.in_use_by(self.store, volume_id)

    def open_image(self, volume_id: str, number: int | None = None) -> OpenFile:
        """Open the current image, or a revision, for reading."""
        return look.open_image(self.store, volume_id, number)

    def capacity(self) -> Capacity:
        """Return what the file system has room for."""
        return look.capacity(self.store)

    def room(self) -> tuple[int, int]:
        """Return the bytes free for a user, as far as the file system below can give them, and the bytes in all."""
        return look.room(self.store)

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what is wrong or strange."""
        return look.verify(self.store, vm, self.on_look)

    # ------------------------------------------------------------ acting outside of events

    def lock(
        self, vm: str, *, create: bool = False, wait: bool = True
    ) -> contextlib.AbstractContextManager[None]:
        """Hold the VM's lock."""
        return self.store.lock(vm, create=create, wait=wait)

    def settle(self, volume_id: str) -> View:
        """Write down what the images say, where the record says otherwise."""
        return self.store.settle(volume_id)

    def tidy(self, vm: str) -> None:
        """Remove the leftovers of all names in the VM's directory, and records without images."""
        removal.tidy(self.store, vm)

    def configure(self, volume_id: str, config: VolumeConfig) -> None:
        """Write down how the volume is set up."""
        with self.store.acting(volume_id) as opened:
            precached.drop_ready(opened, keep=config.ready)
            if not config.snapshots:
                precached.drop_precache(opened)
            recording.write(opened, opened.record._replace(config=config))
            opened.directory.sync()

    def annotate(self, volume_id: str, number: int, change: Callable[[Note], Note]) -> None:
        """Change what is known of an image."""
        with self.store.acting(volume_id) as opened:
            note = change(opened.record.note(number))
            recording.write(opened, opened.record.with_note(number, note))
            opened.directory.sync()

    def accept(self, volume_id: str) -> tuple[int, ...]:
        """Seal the images anew that do not bear their seal."""
        from lifecycle.reflink import reseal  # noqa: PLC0415 - seldom needed

        with self.store.acting(volume_id) as opened:
            return reseal.reseal(opened)

    def tag(self, volume_id: str, key: str, value: str | None, *, durable: bool = False) -> None:
        """Tag the working image."""
        with self.store.opened(volume_id) as opened:
            if opened.evidence.working is None:
                raise NoSuchVolume(volume_id, self.store.root)
            fd = opened.open_working()
            try:
                xattrs.put(fd, key, value)
                if durable:
                    working.sync(opened, fd)
            finally:
                os.close(fd)

    def wants_ahead(self, volume_id: str) -> str | None:
        """Return the volume whose working images should be made ahead: this one, or its source."""
        from lifecycle.reflink import precacher  # noqa: PLC0415 - not needed by a start

        return precacher.wanting(self.store, volume_id)

    def make_ahead(self, volume_id: str) -> int:
        """Make the working images that are missing."""
        from lifecycle.reflink import precacher  # noqa: PLC0415 - only in a process of its own

        return precacher.make(self.store, volume_id)

    # ------------------------------------------------------------ events

    def create(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Make the record, then the empty image: it is the image that makes the volume be."""
        config: VolumeConfig = change.asked["config"]
        with self.store.acting(volume.id) as opened:
            removal.clear(opened)
            precached.drop(opened)  # of an earlier volume of this name
            owns = config.source is None
            with opened.draft() as draft:
                images.truncate(draft.fd, config.size or 0)
                stamp = recording.seal(opened, draft.fd, 0, change.at) if owns else None
                number = 0 if owns else None
                record = Record(config=config, current=number, at=change.at, stamp=stamp)
                recording.write(opened, record)
                opened.directory.sync()
                if owns:
                    draft.publish(opened.current)
                    opened.directory.sync()

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:
        """Clone what the volume begins from into a working image, or take one that was made ahead.

        A left-over one is used as it is. Without snapshots the current image itself becomes the working one.
        """
        with self.store.acting(volume.id) as opened:
            removal.clear(opened)
            if opened.evidence.working is not None:
                require_own_name(opened)
                with working.dropping_tags(opened) as unflushed:
                    yield unflushed
                working.hand_over(self.store, opened)
                return
            config = opened.record.config
            direct = not config.snapshots and config.rw and working.take_current(opened, change)
            if not direct:
                yield from working.begin(self.store, pool, opened)
            try:
                working.hand_over(self.store, opened)
                yield [opened.directory]
            except BaseException:  # it has not started
                if direct:
                    working.give_back(opened)
                else:
                    opened.directory.remove(opened.working)
                raise

    def write(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Nothing: the VM wrote."""

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Drop the working image."""
        with (
            self.store.acting(volume.id) as opened,
            withdrawn(opened, change, throws_away=opened.view.apart) as file,
        ):
            yield []
            if working.is_written_meanwhile(opened, file):
                reason = "it was written to this very moment; stop it again"
                raise Refused(volume.id, change.source, change.event, reason)
            if opened.view.moved:
                opened.directory.rename(file, opened.current)
            else:
                drop(opened, change, file)
            yield [opened.directory]

    def commit(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Make the working image durable, then current."""
        with (
            self.store.acting(volume.id) as opened,
            working.finishing(opened, change) as (file, unflushed, second),
        ):
            yield []
            yield from current.promote(opened, file, change, second, unflushed)

    def checkpoint(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Reserve the number, then clone the working image to the revision's name."""
        with self.store.acting(volume.id) as opened:
            number = recording.revision_of(change)
            record = opened.record.with_note(number, Note(cause=change.cause))
            recording.write(opened, record._replace(next=number + 1))
            origin = opened.open_working()
            try:
                with opened.draft() as draft:
                    image = Image(origin, self.store.working_image(volume.id))
                    if image.share_with(draft.fd) is not None:
                        cloning.copy_unused(pool, origin, draft, volume.id)
                    image.sync()  # what failed earlier, in the background, it alone tells
                    recording.seal(opened, draft.fd, number, change.at)
                    draft.publish(opened.free_revision_file(number, change.at))
            finally:
                os.close(origin)
            opened.directory.sync()

    def revert(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Drop the working image; or make an earlier revision current, keeping what is current as one."""
        with self.store.acting(volume.id) as opened:
            if change.source in RUNNING or change.asked.get("discard"):
                with withdrawn(opened, change, throws_away=True) as file:
                    yield []
                    yield from working.throw_away(opened, change, file)
            else:
                current.go_back(opened, change)

    def resize(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Resize the working image, or the empty one, or make a current image of another size."""
        size: int = change.asked["size"]
        with self.store.acting(volume.id) as opened:
            if change.source in RUNNING:
                working.resize(opened, size)
            elif change.revision is None:
                removal.clear(opened)
                current.resize_empty(opened, size, change)
            else:
                with opened.draft() as draft:
                    cloning.clone_current(self.store, pool, opened, draft)
                    images.truncate(draft.fd, size)
                    current.promote_draft(opened, draft, change)

    def import_(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Read the content into a new image, then make it current."""
        content: Readable = change.asked["content"]
        name = change.asked["name"]
        with self.store.acting(volume.id) as opened, opened.draft() as draft:
            objection: str | None = "it is no file"
            if content.fd is not None:
                origin = Image(content.fd, name, own=change.asked.get("own", False))
                # where the VM's directory makes its images NOCOW, that is wanted
                objection = origin.share_with(draft.fd, clear_nocow=False)
            if objection is None:
                origin.ask()
                log.info("reflinked %r to %r", name, volume.id)
            else:
                copying.copy(content, draft.fd, pool.progress(f"import {volume.id}"))
                log.info("copied %r to %r: %s", name, volume.id, objection)
            if change.asked.get("verify"):
                cloning.require_same(pool, content, draft, volume.id, name)
            length = os.fstat(draft.fd).st_size
            if length == 0:
                raise InvalidSize(0, f"{name} is empty")
            if length % SECTOR:
                images.truncate(draft.fd, round_up(length))
            current.promote_draft(opened, draft, change)

    def remove(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Remove the volume's files, and the VM's directory if nothing else is in it."""
        with self.store.acting(volume.id) as opened:
            removal.remove(opened, change)
        self.store.drop_empty(ids.split_id(volume.id)[0])

    def prune(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Remove the revision's name; what the record says of it goes with one of the next commits."""
        with self.store.acting(volume.id) as opened:
            opened.directory.remove(opened.revision_file(recording.revision_of(change)))
            yield [opened.directory]
