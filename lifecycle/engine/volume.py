"""What a user holds: a volume, its revisions, and the changes it goes through.

A `Volume` is a name in a pool and nothing more: every question is answered by looking at the files at that moment,
so any number of them, in any number of processes, agree.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lifecycle import ids
from lifecycle.backend import View
from lifecycle.engine import plan as planning
from lifecycle.engine import reserve
from lifecycle.engine.volume_telling import VolumeTelling
from lifecycle.errors import InvalidConfig, NoSuchRevision, NoSuchVolume, Refused, storage
from lifecycle.model import Change
from lifecycle.sizes import parse_size
from lifecycle.states import AT_REST, Event, State

if TYPE_CHECKING:
    from lifecycle.config import VolumeConfig
    from lifecycle.policies import Plan
    from lifecycle.reflink.record import Note
    from lifecycle.transfer.content import Content


_MAX_LABEL = 200


class Volume(VolumeTelling):
    """One disk of one VM. Get it from its pool: `pool["ci-42/root"]`.

    What it can tell is in `VolumeTelling`: state, path, current, revisions, size…
    """

    __slots__ = ()

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
        reserve.make(self.pool)
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
        content: Content | str | os.PathLike[str] | Volume,
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
        from lifecycle.transfer.content import Content, is_image, prepared  # noqa: PLC0415 - seldom needed

        with ExitStack() as opened:
            found = opened.enter_context(Content.using(content))
            self.require_allowed(Event.IMPORT)  # before what may take long
            found = opened.enter_context(
                prepared(found, self, image_format=image_format, follow=follow, verify=verify)
            )
            asked = {
                "content": found.fd,
                "name": found.name,
                "verify": verify,
                "own": is_image(found.fd),
            }
            return self._run(Event.IMPORT, reason=found.cause, asked=asked)

    def export(self, revision: int | None = None) -> Content:
        """Open the current image, or a revision, for reading; `Content.save` writes it to a file or device.

        Never waits. While the VM runs this is the state before its start.

        Raises:
            NoSuchVolume, NoSuchRevision: there is none.
        """
        from lifecycle.transfer.content import Content  # noqa: PLC0415 - seldom needed

        return Content.of(self, revision)

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
        from lifecycle.engine import retention  # noqa: PLC0415 - seldom needed

        with self.pool.changing(self):
            self._require_writable("forget")
            retention.forget(self, numbers)

    def plan(self) -> Plan:
        """Return what retention makes of its revisions now, with reasons. Nothing is removed.

        Raises:
            NoSuchVolume: there is none. Refused: it is damaged.
            InvalidPolicy: the policy names a plugin that is not installed, or refused to be used.
            PluginFailed: a plugin that it names failed.
        """
        view = self.require(self.look())
        if view.state is State.DAMAGED:
            raise Refused(self.id, view.state, "prune", view.damage or "", view.allowed)
        policy, revisions = self.pool.policy_for(view.config), self.revisions
        self.require(self.look())  # whoever removed it meanwhile left no revisions to plan by
        return policy.plan(revisions, ids.now())

    def prune(self) -> Plan:
        """Remove what retention does not keep; return its plan. Durable when this returns.

        Raises:
            InvalidPolicy, PluginFailed: as in `plan`; nothing is removed.
        """
        from lifecycle.engine import retention  # noqa: PLC0415 - seldom needed

        with self.pool.changing(self):
            self._require_whole("prune")
            return retention.prune(self)

    def pin(self, number: int) -> None:
        """Keep a revision (or the current image, once it is one) from being removed; durable when this returns.

        Raises:
            NoSuchRevision: there is none of that number.
        """
        self._annotate(number, lambda note: note._replace(pinned=True))

    def unpin(self, number: int) -> None:
        """Take back `pin`; durable when this returns.

        Raises:
            NoSuchRevision: there is none of that number.
        """
        self._annotate(number, lambda note: note._replace(pinned=False))

    def label(self, number: int, text: str | None) -> None:
        """Put words to a revision or the current image; None or an empty text takes them away. Durable.

        Raises:
            NoSuchRevision: there is none of that number.
            InvalidConfig: the text has control characters or is longer than 200.
        """
        if text and (len(text) > _MAX_LABEL or not text.isprintable()):
            raise InvalidConfig(self.id, f"a label is one line of at most {_MAX_LABEL} characters")
        self._annotate(number, lambda note: note._replace(label=text or None))

    def accept(self) -> tuple[int, ...]:
        """Take its images for right whose seals are lost, as after a copy that did not keep the files' times. Durable.

        `verify` tells which those are. Whether they are right no one can know but who made the copy.

        Returns:
            the numbers of the images that were sealed anew.

        Raises:
            Refused: it is not at rest.
        """
        with self.pool.changing(self):
            view = self._require_writable("accept")
            if view.state not in AT_REST:
                raise Refused(self.id, view.state, "accept", "it is running; stop it first")
            with storage(self.id, "accept"):
                return self.pool.backend.accept(self.id)

    def configure(self, **settings: Any) -> VolumeConfig:
        """Change how the volume is set up: `rw`, `keep`, `on_crash`, `source`, `snapshots`, `precache`, `ready`.

        Durable when this returns.

        Returns:
            the configuration as it is then.

        Raises:
            Refused: `rw`, `source` or `snapshots` of a volume that is not at rest; `snapshots` while a disposable
                that begins from it runs.
            InvalidConfig, InvalidPolicy, NoSuchVolume: a setting cannot have that value.
            PluginFailed: the policy names a term of another package, which failed. Nothing was changed.
        """
        from lifecycle.config import change_config  # noqa: PLC0415 - seldom needed

        with self.pool.changing(self):
            view = self._require_writable("set")
            config = change_config(self.id, view.config, settings, self.pool.config.timezone)
            changed = {key for key in settings if getattr(config, key) != getattr(view.config, key)}
            fixed = sorted(changed & {"rw", "source", "snapshots"})
            if fixed and view.state not in AT_REST:
                reason = f"`{fixed[0]}` changes only at rest; {planning.stop_first(view)}"
                raise Refused(self.id, view.state, "set", reason)
            if "snapshots" in changed:
                self._require_no_running_disposable(view)
            if config.source is not None and config.source != view.config.source:
                planning.check_source(self.pool, self.id, config.source)
            if (
                "keep" in settings
            ):  # what it makes of the revisions there are, before it is in force
                self.pool.policy_for(config).plan(self.revisions, ids.now())
            with storage(self.id, "set"):
                self.pool.backend.configure(self.id, config)
        self.pool.precaching.see_to(self.pool, self.id)
        return config

    def tag(self, key: str, value: str | None) -> None:
        """Put a word to the working image, for the hosts' own book-keeping; it is gone with the image.

        None takes it off. Takes no lock; durable when the file system next writes its metadata.

        Raises:
            NoSuchVolume: it is not running. StorageFailed: the file system failed.
        """
        with storage(self.id, "tag"):
            self.pool.backend.tag(self.id, key, value)

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

    def require_allowed(self, event: Event) -> None:
        """Refuse what cannot be now, before what may take long.

        Raises:
            Refused: the event is not allowed.
        """
        view = self.look()
        if event not in view.allowed:
            raise planning.refusal(self, view, event)

    def _require_whole(self, what: str) -> View:
        """Return the volume as it is, settled.

        Raises:
            NoSuchVolume: there is none. Refused: it is damaged, and its record must be left as it is.
        """
        view = self.require(self.pool.settle(self.id))
        if view.state is State.DAMAGED:
            raise Refused(self.id, view.state, what, view.damage or "", view.allowed)
        return view

    def _require_no_running_disposable(self, view: View) -> None:
        running = [
            one.id
            for one in self.pool
            if (found := one.look()).running and found.config.source == self.id
        ]
        if running:
            reason = f"{running[0]} runs on what it holds; stop that first"
            raise Refused(self.id, view.state, "set `snapshots`", reason)

    def _require_writable(self, what: str) -> View:
        """Return the volume as it is, settled, if something about it can be written down.

        Raises:
            ReadOnlyPool: nothing can. NoSuchVolume, Refused: as `_require_whole`.
        """
        view = self._require_whole(what)
        planning.require_writable(self, view, what)
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

    def _annotate(self, number: int, change: Callable[[Note], Note]) -> None:
        with self.pool.changing(self):
            view = self._require_writable("pin or label")
            if number == 0 or number not in {view.current, *view.numbers}:
                raise NoSuchRevision(self.id, number, view.numbers)
            with storage(self.id, "pin or label"):
                self.pool.backend.annotate(self.id, number, change)
