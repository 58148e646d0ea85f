"""What a reflink pool can report: its volumes, who uses their images, and the space they take.

Nothing here waits or changes anything, and no lock is kept.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from lifecycle import ids
from lifecycle.errors import (
    ForeignFile,
    Holder,
    InvalidName,
    NoSuchRevision,
    NoSuchVolume,
    Refused,
    StorageFailed,
    blames_file,
    storage,
)
from lifecycle.linux import holders, reflinks, xattrs
from lifecycle.linux.copying import OpenFile
from lifecycle.linux.directories import Directory
from lifecycle.linux.holders import Asked, identity
from lifecycle.linux.status import status_of
from lifecycle.machine import trees
from lifecycle.model import Attached, Attachment, Capacity, Finding, Revision, Surveyed, View
from lifecycle.reflink import names, walk, withdrawal
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.interpret import judge
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import gather
from lifecycle.reflink.store import Store

OnLook = Callable[[int], None] | None
"""Called, while all VMs are gone through, with how many there were so far; None if no one watches."""

_RUNS_ON_IT = "it has no snapshots, and its VM is writing to the only image; stop it first"

_T = TypeVar("_T")
_P = ParamSpec("_P")


def _told(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function tell by `StorageFailed` that the file system would not let it look."""

    @functools.wraps(function)
    def tell(*args: _P.args, **options: _P.kwargs) -> _T:
        store, subject = args[0], args[1] if len(args) > 1 else None
        with storage(str(subject or getattr(store, "root", "")), "look"):
            return function(*args, **options)

    return tell


@_told
def view(store: Store, volume_id: str) -> View:
    """Return the volume as it is."""
    vm, name = ids.split_id(volume_id)
    try:
        with store.directory(vm) as directory:
            return judge(gather(directory, name), store.config.on_crash).view
    except FileNotFoundError:
        return View()


@_told
def revisions(store: Store, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:
    """Return the volume's revisions, oldest first."""

    def read(opened: VolumeImages) -> tuple[Revision, ...]:
        numbers = set(opened.view.numbers)
        if current and opened.view.current:
            numbers.add(opened.view.current)
        return tuple(opened.revision(number) for number in sorted(numbers))

    with contextlib.suppress(NoSuchVolume):
        return store.look_into(volume_id, read)
    return ()


@_told
def volume_ids(store: Store, vm: str | None = None) -> Iterator[str]:
    """Yield the ids of all volumes, or of one VM's, in order."""
    with Directory.open(store.root) as root:
        if vm is None:
            return _and_then_raise(*walk.volumes_below(root))
        with contextlib.suppress(FileNotFoundError), trees.open_vm(root, vm) as directory:
            found = walk.volumes_in(directory, directory.entries())
            return iter([f"{vm}/{name}" for name in found])
    return iter(())


@_told
def vms(store: Store) -> Iterator[str]:
    """Yield the names of the directories with a file of a volume, or what is left of one, or not to be listed."""
    with Directory.open(store.root) as root:
        found = [
            one.vm
            for one in trees.vms_below(root)
            if one.problem is not None or walk.names_in(one.entries)
        ]
    return iter(sorted(found))


def restless(store: Store, on_look: OnLook = None) -> Iterator[str]:
    """Yield the names of the VMs in which a volume runs or is damaged, or a crash left something."""
    with storage(store.root, "look"), Directory.open(store.root) as root:
        for found in _vms(root, on_look):
            if walk.is_restless(found, store.config.on_crash):
                yield found.vm


def survey(store: Store, vm: str | None = None, on_look: OnLook = None) -> Iterator[Surveyed]:
    """Yield what a list shows of all volumes, or of one VM's."""
    everyone = holders.Everyone()

    def users_of(volume_id: str, image: os.stat_result | None, *, running: bool) -> walk.Users:
        """Return who has the image, by one look at all processes; of one that runs the kernel knows more."""
        file = None if image is None else identity(image)
        users = everyone.of(file, at_rest=not running)
        if users or not running:
            return users
        try:
            return in_use_by(store, volume_id)
        except StorageFailed:
            return None  # it cannot be opened, to ask

    with storage(vm or store.root, "look"), Directory.open(store.root) as root:
        if vm is None:
            for found in _vms(root, on_look):
                yield from walk.survey(found, store.config.on_crash, users_of)
            return
        with contextlib.suppress(FileNotFoundError), trees.open_vm(root, vm) as directory:
            one = trees.Found(vm, directory, directory.entries())
            yield from walk.survey(one, store.config.on_crash, users_of)


def _vms(
    root: Directory,
    on_look: OnLook,
    found_by: Callable[[Directory], Iterator[trees.Found]] = trees.vms_below,
) -> Iterator[trees.Found]:
    """Yield what can be a VM, and tell who watches how many there were."""
    for number, found in enumerate(found_by(root), 1):
        if on_look is not None:
            on_look(number)
        yield found


def _and_then_raise(found: list[str], failed: list[trees.Found]) -> Iterator[str]:
    """Yield the ids, and when all are gone through, say what could not be listed."""
    yield from found
    for one in failed:
        if one.problem is not None:
            raise StorageFailed(", ".join(other.vm for other in failed), "look", one.problem)


def id_of(store: Store, attachment: Attachment, *, any_image: bool) -> str | None:
    """Return the id of the volume that a working image, or any image, of this path would be of."""
    if attachment.kind is not Attached.FILE:
        return None
    path = os.path.relpath(attachment.name, os.path.realpath(store.root))
    vm, _, file = path.rpartition("/")
    parsed = names.parse_file(file)
    if not vm or parsed is None or (parsed.kind != Kind.WORKING and not any_image):
        return None
    try:
        ids.check_vm(vm)
    except InvalidName:
        return None
    return f"{vm}/{parsed.volume}"


@_told
def tagged(store: Store, volume_id: str, key: str) -> str | None:
    """Return the working image's tag."""
    with contextlib.suppress(NoSuchVolume), store.opened(volume_id) as opened:
        if opened.evidence.working is not None:
            return xattrs.look_up(opened.directory, opened.working, key)
    return None


@_told
def usage(store: Store, volume_id: str) -> int:
    """Return the bytes allocated to its images."""
    with contextlib.suppress(NoSuchVolume), store.opened(volume_id) as opened:
        found = [*opened.images(), status_of(opened.directory, opened.name + Kind.PRECACHE)]
        blocks = {one.st_ino: one.st_blocks for one in found if isinstance(one, os.stat_result)}
        return 512 * sum(blocks.values())
    return 0


@_told
def in_use_by(store: Store, volume_id: str) -> tuple[Holder, ...]:
    """Return who holds the volume's image open."""
    vm, name = ids.split_id(volume_id)
    for kind in (Kind.WORKING, Kind.WITHDRAWN_WORKING, Kind.CURRENT):
        ask = functools.partial(_ask, store, vm, name + kind)
        with contextlib.suppress(FileNotFoundError, ForeignFile):
            try:
                return withdrawal.count(holders.users(ask), kind, store.config.unknown_use)
            except OSError as error:
                if kind != Kind.CURRENT or not blames_file(error):
                    raise
                return ()  # no one can open it any more, and what is open already is only read
    return ()


def _ask(store: Store, vm: str, file: str) -> Asked:
    """Ask the kernel who has an image open, so that no one is hindered.

    Whoever asks has it open for a moment, and so must not do it while an event asks.
    """
    with store.alone(vm) as (directory, is_alone):
        status = status_of(directory, file)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
        if isinstance(status, OSError):
            if not is_alone:
                raise status
            return holders.ask_for(lambda: directory.open_file(file))
        if not is_alone:
            doubt = "" if holders.sees_everyone() else "an event of its VM is under way"
            return Asked(None, identity(status), doubt=doubt)
        try:
            return holders.ask_for(lambda: directory.open_file(file))
        except PermissionError:
            doubt = f"user {os.geteuid()} may not open it"
            return Asked(None, identity(status), doubt=doubt)


@_told
def open_image(store: Store, volume_id: str, number: int | None = None) -> OpenFile:
    """Open the current image, or a revision, for reading."""

    def read(opened: VolumeImages) -> int:
        source = opened.record.config.source
        if source is None:
            if opened.view.moved and number in {None, opened.view.current}:
                raise Refused(volume_id, opened.view.state, "read", _RUNS_ON_IT)
            return opened.open_image(number)
        if number is not None:
            raise NoSuchRevision(volume_id, number, ())
        return store.open_current(source)[0]

    return OpenFile(store.look_into(volume_id, read))


@_told
def capacity(store: Store) -> Capacity:
    """Return what the file system has room for."""
    found = os.statvfs(store.root)
    with Directory.open(store.root) as root:
        shares = reflinks.shares_blocks(root)
    size = found.f_blocks * found.f_frsize
    return Capacity(size, size - found.f_bfree * found.f_frsize, shares)


@_told
def room(store: Store) -> tuple[int, int]:
    """Return the bytes free for a user, as far as the file system below can give them, and the bytes in all."""
    found = os.statvfs(store.root)
    free = found.f_bavail * found.f_frsize
    backing = holders.backing_file(os.stat(store.root).st_dev)
    if backing is not None:
        from lifecycle.linux import embedded_xfs  # noqa: PLC0415 - slow to load, and seldom needed

        below = embedded_xfs.room_below(store.root, backing)
        free = free if below is None else min(free, below)
    return free, found.f_blocks * found.f_frsize


def verify(store: Store, vm: str | None = None, on_look: OnLook = None) -> Iterator[Finding]:
    """Yield what is wrong or strange."""
    from lifecycle.reflink.verify import findings  # noqa: PLC0415 - seldom needed

    found_by = functools.partial(_vms, on_look=on_look, found_by=trees.directories_below)
    return findings(store.root, vm, store.config.on_crash, found_by)
