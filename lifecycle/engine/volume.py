"""A volume as its user sees it: its state, its revisions, and everything that can be done with it.

A `Volume` is a name in a pool and nothing more: every question is answered by looking at the files at that moment,
so any number of them, in any number of processes, agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifecycle import ids
from lifecycle.engine import metadata, retention
from lifecycle.engine import plan as planning
from lifecycle.errors import NoSuchVolume, storage
from lifecycle.model import Change, Fixed, Revision, View
from lifecycle.sizes import parse_size
from lifecycle.states import RUNNING, Event, State

if TYPE_CHECKING:
    from typing import Self

    from lifecycle.config import Kind, VolumeConfig
    from lifecycle.engine.pool import Pool
    from lifecycle.errors import Holder
    from lifecycle.model import Attachment
    from lifecycle.policies import Plan
    from lifecycle.transfer.content import Content, Origin


class Volume(Fixed):
    """One disk of one VM. Get it from its pool: `pool["ci-42/root"]`.

    What it tells is found by looking at that moment, takes no lock and never waits.

    Attributes:
        pool: the pool it lives in.
        id: `VM/NAME`.
        vm, name: the two parts of the id.
        noticed: the run (View.run) of which this object has sent `written`; None if of none.
    """

    __slots__ = ("__weakref__", "id", "name", "noticed", "pool", "vm")
    MAY_CHANGE = frozenset({"noticed"})

    def __init__(self, pool: Pool, volume_id: str) -> None:
        self.pool = pool
        self.id = volume_id
        self.vm, self.name = ids.split_id(volume_id)
        self.noticed: object = None

    def __repr__(self) -> str:
        return f"<Volume {self.id!r} in {self.pool.path!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Volume):
            return NotImplemented
        return (self.id, self.pool.path) == (other.id, other.pool.path)

    def __hash__(self) -> int:
        return hash((self.id, self.pool.path))

    # ------------------------------------------------------------ looking

    def look(self) -> View:
        """Return the volume as it is now, in one piece; the properties below each look anew."""
        return self.pool.backend.look(self.id)

    @property
    def state(self) -> State:
        """The state it is in."""
        return self.look().state

    @property
    def allowed(self) -> tuple[Event, ...]:
        """The events that the rulebook allows now, if no one holds its image open."""
        return self.look().allowed

    @property
    def config(self) -> VolumeConfig:
        """How it is set up."""
        return self.look().config

    @property
    def kind(self) -> Kind:
        """Persistent, disposable or volatile."""
        return self.config.kind

    @property
    def path(self) -> str:
        """What a VM opens, which is there while the volume is started: the path of a file or a block device.

        Of a network disk it is how QEMU names it, as `model.Attachment` says.
        """
        return str(self.attachment)

    @property
    def attachment(self) -> Attachment:
        """What a hypervisor is given for its disk, the same at every start: a file, block device or network disk."""
        return self.pool.backend.attachment(self.id)

    @property
    def current(self) -> int | None:
        """The number of the current image; None for a disposable, which has none."""
        return self.look().current

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Its revisions, oldest first. The empty image, number 0, is not listed: it can always be had."""
        return self.pool.backend.revisions(self.id)

    @property
    def size(self) -> int | None:
        """Bytes the disk holds; None if not known."""
        return self.size_in(self.look())

    def size_in(self, view: View) -> int | None:
        """Return the bytes that the disk holds in this view of it; None if not known."""
        if view.size is not None or view.config.source is None:
            return view.size
        source = self.pool.backend.look(view.config.source).size
        return None if source is None else max(source, view.config.size or 0)

    @property
    def history(self) -> tuple[Revision, ...]:
        """Its revisions and the current image among them, oldest first."""
        return self.pool.backend.revisions(self.id, current=True)

    @property
    def usage(self) -> int:
        """Bytes its images take on disk, those they share counted once, those shared with others in full."""
        return self.pool.backend.usage(self.id)

    @property
    def source(self) -> Self | None:
        """The volume that each start begins from."""
        source = self.config.source
        return None if source is None else type(self)(self.pool, source)

    @property
    def outdated(self) -> bool:
        """Whether it runs on an image of its source that is no longer the source's current one."""
        return self.outdated_in(self.look())

    def outdated_in(self, view: View) -> bool:
        """Tell whether it runs, in this view of it, on an image of its source that is no longer current."""
        if view.state not in RUNNING or view.config.source is None:
            return False
        return self.pool.backend.look(view.config.source).current != view.begun

    @property
    def in_use_by(self) -> tuple[Holder, ...]:
        """Who holds its working image open, or its current one at rest."""
        return self.pool.backend.in_use_by(self.id)

    def tagged(self, key: str) -> str | None:
        """Return the word that was put to the working image under this key; None if none was, or it is not running."""
        return self.pool.backend.tagged(self.id, key)

    @property
    def left_over(self) -> bool:
        """Whether it has a working image that no one holds open."""
        return self.state in RUNNING and not self.in_use_by

    # ------------------------------------------------------------ starting and stopping

    def start(self) -> Change:
        """Make the working image, at `path`; durable when this returns.

        A left-over one is used again if the volume's crash policy is `resume`.

        Raises:
            Refused: it is running, damaged or absent, or its source is.
            InUse: its working image is held open.
            Vetoed: a subscriber of `starting` objected.
            StorageFailed: the file system failed; there is no working image.
        """
        retention.make_room(self.pool)
        return self._run(Event.START)

    def stop(self, *, discard: bool = False, reason: str | None = None) -> Change:
        """Keep or throw away what the VM wrote, by what kind of volume it is; durable when this returns.

        Fires `release` if nothing was written (no revision is spent); else `commit`, or `revert` if the volume is
        not saved on stop.

        Args:
            discard: revert even if the volume is saved on stop, or its working image is in doubt.
            reason: why, if not simply stopped; a revision made bears it as its cause.

        Raises:
            Refused: it is not running.
            InUse: its working image is still held open.
            Vetoed: a subscriber objected; it is still running.
            StorageFailed: the file system failed; the working image is as it was, stop again. As `FlushFailed`:
                the disk refused what was written to it; the volume is damaged, until it is reverted or discarded.
        """
        with self.pool.changing(self, what="stop"):
            return planning.stop(self, discard=discard, reason=reason).run()

    # ------------------------------------------------------------ single events

    def write(self) -> Change:
        """Notice that the VM wrote: the state becomes `dirty`, and the signals of `write` are sent.

        `stop` does this by itself. A host that wants to know earlier may ask as often as it likes.

        Raises:
            Refused: nothing has been written, or it was noticed before.
        """
        return self._run(Event.WRITE)

    def release(self) -> Change:
        """Drop the working image, to which nothing was written; the volume rests where it did before.

        Raises:
            Refused: it is not started, or something was written.
            InUse: its working image is held open.
        """
        return self._run(Event.RELEASE)

    def commit(self, *, reason: str | None = None) -> Change:
        """Make the working image current; what was current becomes a revision. Durable when this returns.

        Raises:
            Refused: it is not dirty, or not saved on stop.
            InUse: its working image is held open.
            Vetoed, StorageFailed: as in `stop`.
        """
        return self._run(Event.COMMIT, reason=reason)

    def checkpoint(self) -> Change:
        """Keep what the running VM has written by now as a revision; durable when this returns.

        It holds what a power cut at this moment would have left (it is crash-consistent); its cause is
        `checkpoint`. `change.revision` is its number.

        Raises:
            Refused: it is not running, or not saved on stop.
            Unsupported: the pool has no reflinks, and the VM is running.
        """
        return self._run(Event.CHECKPOINT)

    def revert(self, to: int | None = None) -> Change:
        """Take the volume back; durable when this returns.

        Running: its working image is thrown away. At rest: what is current becomes a revision, and revision `to`
        current; so a revert can be reverted. Running and with `to`: both, one after the other, each with its signals;
        both are announced before anything has happened. The change returned is the second one's.

        Args:
            to: the revision's number, or 0 for the empty image. By default the newest revision numbered below the
                current image, so that revert after revert goes further back, to the empty image in the end. Of a
                damaged volume: what is current, if it is there, else the newest revision.

        Raises:
            NoSuchRevision: there is none of that number.
            Refused: it has no images of its own; or it runs without snapshots.
            InUse: its working image is held open; nothing has happened.
            Vetoed: a subscriber of `reverting` objected; nothing has happened.
            StorageFailed: the file system failed. Running and with `to`: the working image may be gone by then.
        """
        with self.pool.changing(self, what=Event.REVERT):
            first, *second = planning.revert(self, to)
            for one in (first, *second) if second else ():
                one.announce()
            change = first.run()
            return second[0].run() if second else change

    def resize(self, size: int | str, *, shrink: bool = False) -> Change | None:
        """Give the disk another size; durable when this returns.

        At rest the old size stays a revision. Running, the working image is resized and loop devices made of it
        are told; a hypervisor must be told by its own means (QEMU: `block_resize`).

        Args:
            size: bytes, or a text like `10G`.
            shrink: allow a running volume to become smaller, which cannot be undone.

        Returns:
            what happened; None if it has that size already: no signal is sent then, and no revision spent.

        Raises:
            InvalidSize: no disk can have it, or not on this file system.
            Refused: it would shrink while it runs.
        """
        wanted = parse_size(size)
        with self.pool.changing(self, what=Event.RESIZE):
            transition = planning.resize(self, wanted, shrink=shrink)
            return None if transition is None else transition.run()

    def import_from(
        self,
        content: Origin,
        *,
        image_format: str | None = None,
        follow: bool = False,
        verify: bool = False,
    ) -> Change:
        """Make content from outside current; what was current becomes a revision. Durable when this returns.

        It is shared by reflink where possible, else copied sparsely. The volume takes its size.

        Args:
            content: the path of an image file or block device; another volume, of any pool (its current image); or
                a `Content`, which can be a stream.
            image_format: `raw`, `qcow2`, `vmdk`… (`foreign_images.FORMATS`); by default a file's content tells.
            follow: whether an image may refer to other files (a backing file…), which are then read too.
            verify: whether what was written is read again, from the disk, and compared, before it becomes current.

        Raises:
            Refused: it is not at rest, or has no content of its own.
            NotContent: it cannot be read as a disk's content, or refers to other files.
            NotTheSame: what was written is not what was read.
            OSError: the content cannot be opened. StorageFailed: it cannot be read, or not be written here.
            InvalidSize: it is empty.
            Unsupported: it is in a format of others, and there is no qemu-img.
        """
        from lifecycle.engine import content as contents  # noqa: PLC0415 - seldom needed

        how = {"image_format": image_format, "follow": follow, "verify": verify}
        return contents.import_into(self, content, how)

    def export(self, revision: int | None = None) -> Content:
        """Open the current image, or a revision, for reading; `Content.save` writes it to a file or device.

        Never waits. While the VM runs this is the state before its start.

        Raises:
            NoSuchVolume, NoSuchRevision: there is none.
        """
        from lifecycle.engine import content as contents  # noqa: PLC0415 - seldom needed

        return contents.export_of(self, revision)

    def remove(self) -> Change:
        """Remove the volume with all its revisions; durable when this returns.

        Raises:
            Refused: it is running, or the source of other volumes.
            InUse: an image of it is held open.
        """
        return self._run(Event.REMOVE)

    # ------------------------------------------------------------ revisions and configuration

    def forget(self, *numbers: int) -> None:
        """Delete revisions; durable when this returns.

        Raises:
            NoSuchRevision: there is none of one of these numbers; nothing was deleted.
            Refused: one of them is pinned or current; nothing was deleted.
            Vetoed: a subscriber of `pruning` objected to one; those before it are deleted.
        """
        retention.forget(self, numbers)

    def plan(self) -> Plan:
        """Return what retention makes of its revisions now, with reasons. Nothing is removed.

        Raises:
            NoSuchVolume: there is none. Refused: it is damaged.
            InvalidPolicy: the policy names a plugin that is not installed, or refused to be used.
            PluginFailed: a plugin that it names failed.
        """
        return retention.plan_of(self)

    def prune(self) -> Plan:
        """Remove what retention does not keep; return its plan. Durable when this returns.

        Raises:
            InvalidPolicy, PluginFailed: as in `plan`; nothing is removed.
        """
        return retention.prune(self)

    def pin(self, number: int) -> None:
        """Keep a revision (or the current image, once it is one) from being removed; durable when this returns.

        Raises:
            NoSuchRevision: there is none of that number.
        """
        metadata.annotate(self, number, lambda note: note._replace(pinned=True))

    def unpin(self, number: int) -> None:
        """Take back `pin`; durable when this returns.

        Raises:
            NoSuchRevision: there is none of that number.
        """
        metadata.annotate(self, number, lambda note: note._replace(pinned=False))

    def label(self, number: int, text: str | None) -> None:
        """Put words to a revision or the current image; None or an empty text takes them away. Durable.

        Raises:
            NoSuchRevision: there is none of that number.
            InvalidConfig: the text has control characters or is longer than 200.
        """
        metadata.label(self, number, text)

    def accept(self) -> tuple[int, ...]:
        """Take its images for right whose seals are lost, as after a copy that did not keep the files' times. Durable.

        `verify` tells which those are. Whether they are right no one can know but who made the copy.

        Returns:
            the numbers of the images that were sealed anew.

        Raises:
            Refused: it is not at rest.
        """
        return metadata.accept(self)

    def configure(self, **settings: Any) -> VolumeConfig:
        """Change how the volume is set up. Durable when this returns.

        What can be changed: `rw`, `keep`, `on_crash`, `source`, `snapshots`, `precache`, `ready`, `owner`.

        Returns:
            the configuration as it is then.

        Raises:
            Refused: `rw`, `source` or `snapshots` of a volume that is not at rest; `snapshots` while a disposable
                that begins from it runs.
            InvalidConfig, InvalidPolicy, NoSuchVolume: a setting cannot have that value.
            PluginFailed: the policy names a term of another package, which failed. Nothing was changed.
        """
        config = metadata.configure(self, settings)
        self.pool.make_ahead(self.id)
        return config

    def tag(self, key: str, value: str | None, *, durable: bool = False) -> None:
        """Put a word to the working image, for the hosts' own book-keeping; it is gone with the image.

        None takes it off. Takes no lock. It is durable when this returns if that is asked for, else some seconds later.

        Raises:
            NoSuchVolume: it is not running. StorageFailed: the file system failed.
        """
        with storage(self.id, "tag"):
            self.pool.backend.tag(self.id, key, value, durable=durable)

    # ------------------------------------------------------------ inside

    def settle(self) -> View:
        """Finish or drop what a crash left half done, as each event does first; return the volume as it is then.

        Raises:
            NoSuchVolume: there is none. Locked: another process did not finish in time.
        """
        with self.pool.changing(self):
            view = self.require(self.pool.settle(self.id))
            len(view.numbers)  # which are listed as of now, under the lock
            return view

    def require(self, view: View) -> View:
        """Return the view of a volume that exists.

        Raises:
            NoSuchVolume: it does not.
        """
        if view.state is State.ABSENT:
            raise NoSuchVolume(self.id, self.pool.path)
        return view

    def _run(
        self, event: Event, *, reason: str | None = None, asked: dict[str, Any] | None = None
    ) -> Change:
        """Lock the VM, look, plan the event and let it happen."""
        with self.pool.changing(self, what=event):
            return planning.plan(self, event, reason=reason, asked=asked).run()
