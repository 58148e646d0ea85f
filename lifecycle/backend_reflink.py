"""The reflink backend: how each event is done on files.

How this works. A volume NAME of a VM is a handful of files in the VM's directory (reflink/names.py). Three rules carry
everything:

- An image gets its name only when its content is durable (directories.Draft).
- Images are immutable once current, and a revision is a hard link to what was current. So a commit, a revert and
  keeping a revision are a few directory operations at any size; only the working image is a clone.
- One rename is the commit point (VolumeFiles.promote): keep what is current under its revision's name, rename the new
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
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from lifecycle import config as settings
from lifecycle import events, ids
from lifecycle.config import PoolConfig, VolumeConfig
from lifecycle.errors import (
    ForeignFile,
    InvalidSize,
    Locked,
    NoReflinks,
    NoSuchVolume,
    Refused,
    Unsupported,
)
from lifecycle.linux import copying, files, holders, reflinks, xattrs
from lifecycle.linux.directories import Directory
from lifecycle.linux.durability import Steps
from lifecycle.linux.failed_flush import Image
from lifecycle.linux.fork_safety import Lock, ThreadState
from lifecycle.linux.holders import identity
from lifecycle.model import Change, Note, View
from lifecycle.reflink import precached, walk, withdrawal
from lifecycle.reflink.cloning import ReflinkCloning
from lifecycle.reflink.interpret import judge
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import gather_locked
from lifecycle.reflink.steps import VolumeFiles, revision_of, truncate
from lifecycle.reflink.withdrawal import withdrawn
from lifecycle.sizes import SECTOR, round_up
from lifecycle.states import RUNNING, State

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume

log = logging.getLogger("lifecycle.backend")

_MOMENT = 0.05
"""Seconds in which someone who only looks has let go of a VM's lock."""


class _LockedVM(NamedTuple):
    """A VM that this thread has the lock of.

    Attributes:
        directory: its directory, open.
        settled: its volumes as they were found when their event was planned, by id; no one else can have changed one.
    """

    directory: Directory
    settled: dict[str, VolumeFiles]


class _ThisThread(ThreadState):
    """What this thread holds: the locked VMs by name."""

    def __init__(self) -> None:
        self.locked: dict[str, _LockedVM] = {}


class ReflinkBackend(ReflinkCloning):
    """Volumes as files on a file system with reflinks (XFS, btrfs), or as sparse copies where that was accepted."""

    driver: ClassVar[str] = settings.DEFAULT_DRIVER
    pool_file_mode: ClassVar[int] = files.FILE_MODE

    def __init__(self, path: str, config: PoolConfig) -> None:
        super().__init__(path, config)
        self._this_thread = _ThisThread()

    def set_up(self) -> None:
        """Check that the directory can be written to, and has reflinks or does without."""
        with Directory.open(self.root) as root:
            if not reflinks.has_reflinks(root) and self.config.setup_check:
                raise NoReflinks(self.root)
            if not reflinks.keeps_nanoseconds(root):
                raise Unsupported(
                    f"{self.root}: this file system keeps file times only coarsely, so that a written"
                    " image could not be told from an unwritten one; use another (XFS, btrfs)"
                )

    def connect(self, pool: Pool) -> None:
        """Subscribe to the imperative signals of this pool."""
        for event, tenses in events.EVENTS.items():
            method = getattr(self, "import_" if event == "import" else event)
            tenses.done.connect(method, sender=pool)

    # ------------------------------------------------------------ acting outside of events

    @contextlib.contextmanager
    def lock(self, vm: str, *, create: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold the VM's lock."""
        timeout = self.config.lock_timeout if wait else _MOMENT
        while True:
            with self.existing(vm, vm, create=create) as directory, Lock(directory.fd) as lock:
                if not lock.take(timeout):
                    who = holders.lock_holders(identity(os.fstat(directory.fd)))
                    raise Locked(vm, timeout, who)
                if not self._is_still(vm, directory):
                    continue  # it was removed while we waited
                self._this_thread.locked[vm] = _LockedVM(directory, {})
                try:
                    yield
                finally:
                    self._this_thread.locked.pop(vm, None)  # it is gone in a forked process
                    if create:
                        with contextlib.suppress(OSError):  # an empty directory harms no one
                            self._drop_empty(vm)
                return

    def entered(self, vm: str) -> contextlib.AbstractContextManager[Directory]:
        """Return the VM's directory, open within a block; that which is open already, if its lock is held."""
        locked = self._this_thread.locked.get(vm)
        return super().entered(vm) if locked is None else contextlib.nullcontext(locked.directory)

    def alone(self, vm: str) -> contextlib.AbstractContextManager[tuple[Directory, bool]]:
        """Return the VM's directory and whether it is locked, within a block; if this thread has the lock, it is."""
        locked = self._this_thread.locked.get(vm)
        return super().alone(vm) if locked is None else contextlib.nullcontext((locked[0], True))

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[VolumeFiles]:
        """Open one volume's files.

        Where this thread has the VM's lock, by the directory that is open already; and as the volume was when it was
        settled, until something is done to it.
        """
        locked = self._locked(volume_id)
        if locked is None:
            with super().opened(volume_id) as opened:
                yield opened
        elif volume_id in locked.settled:
            yield locked.settled[volume_id]
        else:
            evidence = gather_locked(locked.directory, volume_id)
            judged = judge(evidence, self.config.on_crash)
            yield VolumeFiles(
                locked.directory, volume_id, evidence, judged, self.config.unknown_use
            )

    @contextlib.contextmanager
    def _acting(self, volume_id: str) -> Iterator[VolumeFiles]:
        """Open one volume's files to change them: as they were when it was settled, since the VM is locked.

        Raises:
            Refused: this thread does not have its lock.
            OSError: they must be looked at once more for that, and now not all of them can be read.
        """
        locked = self._locked(volume_id)
        if locked is None:
            raise Refused(
                volume_id,
                "not locked",
                "change it",
                "only who has its VM's lock may; a process that was forked in the middle of an event"
                " has not, and the event goes on in the one that began it",
            )
        is_new = volume_id not in locked.settled
        with self.opened(volume_id) as opened:
            self._unsettle(volume_id)
            if is_new and opened.evidence.unreadable is not None:
                raise opened.evidence.unreadable  # no step may go by less than what it was planned by
            yield opened

    def _locked(self, volume_id: str) -> _LockedVM | None:
        """Return the volume's VM, if this thread has its lock."""
        return self._this_thread.locked.get(ids.split_id(volume_id)[0])

    def _unsettle(self, volume_id: str) -> None:
        """Forget how the volume was found."""
        locked = self._locked(volume_id)
        if locked is not None:
            locked.settled.pop(volume_id, None)

    def settle(self, volume_id: str) -> View:
        """Write down what the images say, where the record says otherwise."""
        self._unsettle(volume_id)
        with self.opened(volume_id) as opened:
            if not opened.findings and not opened.evidence.second_names:
                return self._settled(volume_id, opened)
            for file in opened.evidence.second_names:
                opened.directory.remove(file)
        with self.opened(volume_id) as opened:
            if not opened.findings:
                return self._settled(volume_id, opened)
            log.warning("%s: recovered: %s", volume_id, "; ".join(opened.findings))
            withdrawal.put_back(opened)
            opened.write_down()
        with self.opened(volume_id) as opened:
            return self._settled(volume_id, opened)

    def _settled(self, volume_id: str, opened: VolumeFiles) -> View:
        """Return the volume as it is; what is done to it under the lock that is held goes by this one look."""
        locked = self._locked(volume_id)
        if locked is not None:
            locked.settled[volume_id] = opened
        return opened.view

    def tidy(self, vm: str) -> None:
        """Remove the leftovers of all names in the VM's directory, and records without images."""
        with self.directory(vm) as directory:
            for name in walk.names_in(directory.entries()):
                with self.opened(f"{vm}/{name}") as opened:
                    if opened.evidence.unreadable is not None:
                        continue  # what is of no worth cannot be told by less than all of it
                    opened.clear()
                    if opened.view.state is State.ABSENT:
                        precached.drop(opened)
                        directory.remove(name + Kind.RECORD)
            directory.sync()
        self._drop_empty(vm)

    def configure(self, volume_id: str, config: VolumeConfig) -> None:
        """Write down how the volume is set up."""
        with self._acting(volume_id) as opened:
            precached.drop_ready(opened, keep=config.ready)
            if not config.snapshots:
                precached.drop_precache(opened)
            opened.write(opened.record._replace(config=config))
            opened.directory.sync()

    def annotate(self, volume_id: str, number: int, change: Callable[[Note], Note]) -> None:
        """Change what is known of an image."""
        with self._acting(volume_id) as opened:
            note = change(opened.record.note(number))
            opened.write(opened.record.with_note(number, note))
            opened.directory.sync()

    def accept(self, volume_id: str) -> tuple[int, ...]:
        """Seal the images anew that do not bear their seal."""
        from lifecycle.reflink import reseal  # noqa: PLC0415 - seldom needed

        with self._acting(volume_id) as opened:
            return reseal.reseal(opened)

    def tag(self, volume_id: str, key: str, value: str | None) -> None:
        """Tag the working image."""
        with self.opened(volume_id) as opened:
            if opened.evidence.working is None:
                raise NoSuchVolume(volume_id, self.root)
            fd = opened.open_working()
            try:
                xattrs.put(fd, key, value)
            finally:
                os.close(fd)

    def wants_ahead(self, volume_id: str) -> str | None:
        """Return the volume whose working images should be made ahead: this one, or its source."""
        from lifecycle.reflink import precacher  # noqa: PLC0415 - not needed by a start

        return precacher.wanting(self, volume_id)

    def make_ahead(self, volume_id: str) -> int:
        """Make the working images that are missing."""
        from lifecycle.reflink import precacher  # noqa: PLC0415 - only in a process of its own

        return precacher.make(self, volume_id)

    # ------------------------------------------------------------ events

    def create(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Make the record, then the empty image: it is the image that makes the volume be."""
        config: VolumeConfig = change.asked["config"]
        with self._acting(volume.id) as opened:
            opened.clear()
            precached.drop(opened)  # of an earlier volume of this name
            owns = config.source is None
            with opened.draft() as draft:
                truncate(draft.fd, config.size or 0)
                stamp = opened.seal(draft.fd, 0, change.at) if owns else None
                current = 0 if owns else None
                opened.write(Record(config=config, current=current, at=change.at, stamp=stamp))
                opened.directory.sync()
                if owns:
                    draft.publish(opened.current)
                    opened.directory.sync()

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:
        """Clone what the volume begins from into a working image, or take one that was made ahead.

        A left-over one is used as it is. Without snapshots the current image itself becomes the working one.
        """
        with self._acting(volume.id) as opened:
            opened.clear()
            if opened.evidence.working is not None:
                opened.drop_tags()
                self.hand_over(opened)
                return
            config = opened.record.config
            direct = not config.snapshots and config.rw and opened.take_current(change)
            if not direct:
                yield from self.begin(pool, opened)
            try:
                self.hand_over(opened)
                yield [opened.directory]
            except BaseException:  # it has not started
                if direct:
                    opened.give_back()
                else:
                    opened.directory.remove(opened.working)
                raise

    def write(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Nothing: the VM wrote."""

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Drop the working image."""
        with self._acting(volume.id) as opened, withdrawn(opened, change) as working:
            yield []
            if opened.is_written_meanwhile(working):
                reason = "it was written to this very moment; stop it again"
                raise Refused(volume.id, change.source, change.event, reason)
            if opened.view.moved:
                opened.directory.rename(working, opened.current)
            else:
                opened.directory.remove(working)
            yield [opened.directory]

    def commit(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Make the working image durable, then current."""
        with (
            self._acting(volume.id) as opened,
            opened.finishing(change) as (working, unflushed, second),
        ):
            yield []
            yield from opened.promote(working, change, second, unflushed)

    def checkpoint(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Reserve the number, then clone the working image to the revision's name."""
        with self._acting(volume.id) as opened:
            number = revision_of(change)
            record = opened.record.with_note(number, Note(cause=change.cause))
            opened.write(record._replace(next=number + 1))
            origin = opened.open_working()
            try:
                with opened.draft() as draft:
                    image = Image(origin, self.path(volume.id))
                    if image.share_with(draft.fd) is not None:
                        self.copy_unused(pool, origin, draft, volume.id)
                    image.sync()  # what failed earlier, in the background, it alone tells
                    opened.seal(draft.fd, number, change.at)
                    draft.publish(opened.free_revision_file(number, change.at))
            finally:
                os.close(origin)
            opened.directory.sync()

    def revert(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Drop the working image; or make an earlier revision current, keeping what is current as one."""
        with self._acting(volume.id) as opened:
            if change.source in RUNNING or change.asked.get("discard"):
                with withdrawn(opened, change) as working:
                    yield []
                    yield from opened.throw_away(working)
            else:
                opened.go_back(change)

    def resize(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Resize the working image, or the empty one, or make a current image of another size."""
        size: int = change.asked["size"]
        with self._acting(volume.id) as opened:
            if change.source in RUNNING:
                opened.resize_working(size)
            elif change.revision is None:
                opened.clear()
                opened.resize_empty(size, change)
            else:
                with opened.draft() as draft:
                    self.clone_current(pool, opened, draft)
                    truncate(draft.fd, size)
                    opened.promote_draft(draft, change)

    def import_(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Read the content into a new image, then make it current."""
        content: int = change.asked["content"]
        name = change.asked["name"]
        with self._acting(volume.id) as opened, opened.draft() as draft:
            origin = Image(content, name, own=change.asked.get("own", False))
            # where the VM's directory makes its images NOCOW, that is wanted
            objection = origin.share_with(draft.fd, clear_nocow=False)
            if objection is None:
                origin.ask()
                log.info("reflinked %r to %r", name, volume.id)
            else:
                copying.copy(content, draft.fd, pool.progress(f"import {volume.id}"))
                log.info("copied %r to %r: %s", name, volume.id, objection)
            if change.asked.get("verify"):
                self.require_same(pool, content, draft, volume.id, name)
            length = os.fstat(draft.fd).st_size
            if length == 0:
                raise InvalidSize(0, f"{name} is empty")
            if length % SECTOR:
                truncate(draft.fd, round_up(length))
            opened.promote_draft(draft, change)

    def remove(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Remove the volume's files, and the VM's directory if nothing else is in it."""
        with self._acting(volume.id) as opened:
            opened.remove(change)
        self._drop_empty(ids.split_id(volume.id)[0])

    def prune(self, pool: Pool, *, volume: Volume, change: Change) -> Steps:  # noqa: ARG002
        """Remove the revision's name; what the record says of it goes with one of the next commits."""
        with self._acting(volume.id) as opened:
            opened.directory.remove(opened.revision_file(revision_of(change)))
            yield [opened.directory]

    # ------------------------------------------------------------ steps of events

    def _is_still(self, vm: str, directory: Directory) -> bool:
        """Tell whether the VM's name still leads to the directory that was locked."""
        try:
            with self.directory(vm) as named:
                return os.path.samestat(os.fstat(named.fd), os.fstat(directory.fd))
        except (FileNotFoundError, ForeignFile):
            return False

    def _drop_empty(self, vm: str) -> None:
        """Remove the VM's directory and those above it, as far as they are empty."""
        with Directory.open(self.root) as root:
            while vm and root.remove_directory(vm):
                vm = vm.rpartition("/")[0]
