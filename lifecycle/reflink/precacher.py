"""Makes working images ahead, in the background, so that a start finds one ready.

How this works. They are cloned without the VM's lock: the image cloned from never changes. The lock is held only to
give the finished clone its name, if that image is still the current one then. So a start neither waits for this nor
gets a stale image; and if it comes early, it clones for itself while this gives way, since it shares only one stretch
at a time. What the files are called, and how a start takes one, is in reflink/precached.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from lifecycle.config import Precache
from lifecycle.errors import NoSuchVolume
from lifecycle.linux import copying, files, reflinks
from lifecycle.linux.directories import Directory, Draft
from lifecycle.linux.failed_flush import Image
from lifecycle.reflink import precached, recording
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.precached import READY
from lifecycle.reflink.store import Store

_CHEAP = 64
"""A clone of so many extents takes some milliseconds at most: not worth making ahead."""


def wanting(store: Store, volume_id: str) -> str | None:
    """Return the volume, this one or its source, of which a working image should be made ahead now."""
    with store.opened(volume_id) as opened:
        source = opened.record.config.source
        if source is None:
            return None if _missing(store, opened) is None else volume_id
    with contextlib.suppress(NoSuchVolume), store.opened(source) as opened:
        # no further: records that someone else wrote may name each other
        return None if _missing(store, opened) is None else source
    return None


def make(store: Store, volume_id: str) -> int:
    """Make what is missing, unless another process is at it; return how many images were made."""
    made = 0
    with store.opened(volume_id) as opened:
        if _missing(store, opened) is None:
            return 0
        origin = opened.open_current()
    try:
        fcntl.flock(origin, fcntl.LOCK_EX | fcntl.LOCK_NB)
        while _make_one(store, volume_id, origin):
            made += 1
    except BlockingIOError:
        return 0
    finally:
        os.close(origin)
    return made


def _missing(store: Store, opened: VolumeImages) -> str | None:
    """Return where the next image that is missing belongs: `-precache.img` or `.ready`; None if none is."""
    config, evidence = opened.record.config, opened.evidence
    if not opened.view.owns or not config.snapshots or evidence.current is None:
        return None
    is_due = evidence.working is None and _pays(store, opened)
    if is_due and precached.fresh_precache(opened) is None:
        return Kind.PRECACHE
    if not config.ready or not precached.can_wait(opened.directory):
        return None
    return READY if _waiting(opened) < config.ready else None


def _pays(store: Store, opened: VolumeImages) -> bool:
    """Tell whether the volume's own next working image should be made ahead."""
    policy = opened.record.config.precache or store.config.precache
    if policy is not Precache.AUTO:
        return policy is Precache.ALWAYS
    origin = opened.open_current()
    try:
        return reflinks.are_more_than(origin, _CHEAP)
    finally:
        os.close(origin)


def _waiting(opened: VolumeImages) -> int:
    """Return how many images wait for disposables."""
    size, origin = opened.evidence.current_size, opened.origin
    if size is None or origin is None:
        return 0
    directory = precached.open_ready(opened.directory)
    if directory is None:
        return 0
    with directory:
        return len(precached.fresh_ready(directory, opened.name, origin, size))


def _make_one(store: Store, volume_id: str, origin: int) -> bool:
    """Make one image that is missing; return whether there may be another."""
    with store.opened(volume_id) as opened:
        where = _missing(store, opened)
        if where is None or not _is_current(opened, origin):
            return False
        with contextlib.ExitStack() as making:
            # made where it gets its name: that may be another subvolume, project or mount
            home = opened.directory
            if where == READY:
                home = making.enter_context(_ready_directory(store, volume_id))
            draft = making.enter_context(home.draft(opened.current))
            if not _fill(store, opened, origin, draft, where):
                return False
            return _publish(store, volume_id, origin, draft, where, making)


def _ready_directory(store: Store, volume_id: str) -> Directory:
    """Return the directory of what waits for disposables, made if it is not there."""
    vm = volume_id.rpartition("/")[0]
    with store.lock(vm), store.existing(vm, volume_id) as directory:
        return directory.child(READY, create=True)


def _fill(store: Store, opened: VolumeImages, origin: int, draft: Draft, where: str) -> bool:
    """Make the draft a durable working image; return whether it is still wanted."""

    def is_wanted() -> bool:
        """A start that came meanwhile has made its own."""
        return where == READY or opened.directory.stat(opened.working) is None

    try:
        shared = reflinks.share(origin, draft.fd, is_wanted)
    except OSError:
        # if it was that, and not the draft
        Image(origin, f"{opened.directory.path}/{opened.current}").sync()
        raise
    if shared is False and not store.config.setup_check:
        copying.copy(origin, draft.fd)
    elif not shared:
        return False
    files.set_mode(draft.fd, files.FILE_MODE)
    if opened.origin is None:
        return False
    recording.seal_unwritten(draft.fd, opened.origin)
    files.sync_content(draft.fd)
    return True


def _publish(
    store: Store,
    volume_id: str,
    origin: int,
    draft: Draft,
    where: str,
    making: contextlib.ExitStack,
) -> bool:
    """Give the image its name, if what it was made from is still current and no one was quicker.

    What is open for its making is closed before the lock is given up: who takes the image has it alone.
    """
    vm = volume_id.rpartition("/")[0]
    with store.lock(vm), making.pop_all(), store.opened(volume_id) as opened:
        if not _is_current(opened, origin) or _missing(store, opened) != where:
            return False
        if where == READY:
            draft.give_name(precached.new_ready_name(opened.name))
        else:
            file = opened.name + Kind.PRECACHE
            store.free_afterwards(volume_id, file)
            opened.directory.remove(file)  # a stale one
            draft.give_name(file)
    return True


def _is_current(opened: VolumeImages, origin: int) -> bool:
    current = opened.evidence.current
    return current is not None and os.path.samestat(current, os.fstat(origin))
