"""What a reflink pool can report: its volumes, who uses their images, and the space they take.

Nothing here takes a lock, waits or changes anything. Files may vanish and others take their names while one looks;
then one looks again.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from lifecycle import ids
from lifecycle.config import PoolConfig
from lifecycle.errors import (
    ForeignFile,
    Holder,
    NoSuchRevision,
    NoSuchVolume,
    Refused,
    StorageFailed,
    blames_file,
    storage,
)
from lifecycle.linux import holders, reflinks, xattrs
from lifecycle.linux.directories import Directory
from lifecycle.linux.fork_safety import Lock
from lifecycle.linux.holders import Asked, identity
from lifecycle.linux.status import status_of
from lifecycle.machine import trees
from lifecycle.model import Capacity, Finding, Revision, Surveyed, View
from lifecycle.reflink import names, walk, withdrawal
from lifecycle.reflink.interpret import judge
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import ATTEMPTS, gather
from lifecycle.reflink.seals import Origin
from lifecycle.reflink.steps import VolumeFiles
from lifecycle.states import State

_RUNS_ON_IT = "it has no snapshots, and its VM is writing to the only image; stop it first"

_T = TypeVar("_T")
_P = ParamSpec("_P")


def _told(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a method tell by `StorageFailed` that the file system would not let it look."""

    @functools.wraps(method)
    def tell(*args: _P.args, **options: _P.kwargs) -> _T:
        backend, subject = args[0], args[1] if len(args) > 1 else None
        with storage(str(subject or getattr(backend, "root", "")), "look"):
            return method(*args, **options)

    return tell


class ReflinkTelling:
    """The half of the reflink backend that looks.

    Attributes:
        root: the pool's directory.
        config: the pool's settings.
    """

    def __init__(self, path: str, config: PoolConfig) -> None:
        self.root = path
        self.config = config
        self.on_look: Callable[[int], None] | None = None

    @_told
    def look(self, volume_id: str) -> View:
        """Return the volume as it is."""
        vm, name = ids.split_id(volume_id)
        try:
            with self.directory(vm) as directory:
                return judge(gather(directory, name), self.config.on_crash).view
        except FileNotFoundError:
            return View()

    @_told
    def revisions(self, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:
        """Return the volume's revisions, oldest first."""

        def read(opened: VolumeFiles) -> tuple[Revision, ...]:
            numbers = set(opened.view.numbers)
            if current and opened.view.current:
                numbers.add(opened.view.current)
            return tuple(opened.revision(number) for number in sorted(numbers))

        with contextlib.suppress(NoSuchVolume):
            return self._look_into(volume_id, read)
        return ()

    @_told
    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids of all volumes, or of one VM's, in order."""
        with Directory.open(self.root) as root:
            if vm is None:
                return _and_then_raise(*walk.volumes_below(root))
            with contextlib.suppress(FileNotFoundError), trees.open_vm(root, vm) as directory:
                found = walk.volumes_in(directory, directory.entries())
                return iter([f"{vm}/{name}" for name in found])
        return iter(())

    @_told
    def vms(self) -> Iterator[str]:
        """Yield the names of the directories with a file of a volume, or what is left of one, or not to be listed."""
        with Directory.open(self.root) as root:
            found = [
                one.vm
                for one in trees.vms_below(root)
                if one.problem is not None or walk.names_in(one.entries)
            ]
        return iter(sorted(found))

    def restless(self) -> Iterator[str]:
        """Yield the names of the VMs in which a volume runs or is damaged, or a crash left something."""
        with storage(self.root, "look"), Directory.open(self.root) as root:
            for found in self._vms(root):
                if walk.is_restless(found, self.config.on_crash):
                    yield found.vm

    def _vms(
        self,
        root: Directory,
        walk: Callable[[Directory], Iterator[trees.Found]] = trees.vms_below,
    ) -> Iterator[trees.Found]:
        """Yield what can be a VM, and tell who watches how many there were."""
        for number, found in enumerate(walk(root), 1):
            if self.on_look is not None:
                self.on_look(number)
            yield found

    def survey(self, vm: str | None = None) -> Iterator[Surveyed]:
        """Yield what a list shows of all volumes, or of one VM's."""
        with storage(vm or self.root, "look"), Directory.open(self.root) as root:
            if vm is None:
                for found in self._vms(root):
                    yield from walk.survey(found, self.config.on_crash)
                return
            with contextlib.suppress(FileNotFoundError), trees.open_vm(root, vm) as directory:
                one = trees.Found(vm, directory, directory.entries())
                yield from walk.survey(one, self.config.on_crash)

    def path(self, volume_id: str) -> str:
        """Return the working image's path."""
        return f"{self.root}/{volume_id}{Kind.WORKING}"

    def id_at(self, path: str) -> str | None:
        """Return the id of the volume that a working image of this path would be of."""
        vm, _, file = path.rpartition("/")
        parsed = names.parse_file(file)
        if not vm or parsed is None or parsed.kind != Kind.WORKING:
            return None
        return f"{vm}/{parsed.volume}"

    @_told
    def tagged(self, volume_id: str, key: str) -> str | None:
        """Return the working image's tag."""
        with contextlib.suppress(NoSuchVolume), self.opened(volume_id) as opened:
            if opened.evidence.working is not None:
                return xattrs.look_up(opened.directory, opened.working, key)
        return None

    @_told
    def usage(self, volume_id: str) -> int:
        """Return the bytes allocated to its images."""
        with contextlib.suppress(NoSuchVolume), self.opened(volume_id) as opened:
            found = [*opened.images(), status_of(opened.directory, opened.name + Kind.PRECACHE)]
            blocks = {one.st_ino: one.st_blocks for one in found if isinstance(one, os.stat_result)}
            return 512 * sum(blocks.values())
        return 0

    @_told
    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who holds the volume's image open."""
        vm, name = ids.split_id(volume_id)
        for kind in (Kind.WORKING, Kind.WITHDRAWN_WORKING, Kind.CURRENT):
            ask = functools.partial(self._ask, vm, name + kind)
            with contextlib.suppress(FileNotFoundError, ForeignFile):
                try:
                    return withdrawal.count(holders.users(ask), kind, self.config.unknown_use)
                except OSError as error:
                    if kind != Kind.CURRENT or not blames_file(error):
                        raise
                    return ()  # no one can open it any more, and what is open already is only read
        return ()

    def _ask(self, vm: str, file: str) -> Asked:
        """Ask the kernel who has an image open, so that no one is hindered.

        Whoever asks has it open for a moment, and so must not do it while an event asks.
        """
        with self.alone(vm) as (directory, is_alone):
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
    def open_image(self, volume_id: str, number: int | None = None) -> int:
        """Open the current image, or a revision, for reading."""

        def read(opened: VolumeFiles) -> int:
            source = opened.record.config.source
            if source is None:
                if opened.view.moved and number in {None, opened.view.current}:
                    raise Refused(volume_id, opened.view.state, "read", _RUNS_ON_IT)
                return opened.open_image(number)
            if number is not None:
                raise NoSuchRevision(volume_id, number, ())
            return self.open_current(source)[0]

        return self._look_into(volume_id, read)

    @_told
    def capacity(self) -> Capacity:
        """Return what the file system has room for."""
        found = os.statvfs(self.root)
        with Directory.open(self.root) as root:
            shares = reflinks.shares_blocks(root)
        size = found.f_blocks * found.f_frsize
        return Capacity(size, size - found.f_bfree * found.f_frsize, shares)

    @_told
    def room(self) -> tuple[int, int]:
        """Return the bytes free for a user, as far as the file system below can give them, and the bytes in all."""
        found = os.statvfs(self.root)
        free = found.f_bavail * found.f_frsize
        backing = holders.backing_file(os.stat(self.root).st_dev)
        if backing is not None:
            from lifecycle.linux import embedded_xfs  # noqa: PLC0415 - slow to load, and seldom needed

            below = embedded_xfs.room_below(self.root, backing)
            free = free if below is None else min(free, below)
        return free, found.f_blocks * found.f_frsize

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what is wrong or strange."""
        from lifecycle.reflink.verify import findings  # noqa: PLC0415 - seldom needed

        walk = functools.partial(self._vms, walk=trees.directories_below)
        return findings(self.root, vm, self.config.on_crash, walk)

    # ------------------------------------------------------------ opening

    def directory(self, vm: str, *, create: bool = False) -> Directory:
        """Open a VM's directory.

        Raises:
            FileNotFoundError: there is none, and `create` is not set.
            InAnotherPool: it lies in a pool within this one.
        """
        with Directory.open(self.root) as root:
            return trees.open_vm(root, vm, create=create)

    def existing(self, vm: str, asked_for: str, *, create: bool = False) -> Directory:
        """Open the directory of a VM that there must be, as `directory` does.

        Raises:
            NoSuchVolume: there is none; it names what was asked for.
        """
        try:
            return self.directory(vm, create=create)
        except FileNotFoundError:
            raise NoSuchVolume(asked_for, self.root) from None

    def entered(self, vm: str) -> contextlib.AbstractContextManager[Directory]:
        """Return the VM's directory, open within a block.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.directory(vm)

    def alone(self, vm: str) -> contextlib.AbstractContextManager[tuple[Directory, bool]]:
        """Return the VM's directory and whether it is locked, within a block: it is not if an event goes on.

        Raises:
            FileNotFoundError: there is none.
        """
        return _locked_for_a_moment(self.directory(vm))

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[VolumeFiles]:
        """Open one volume's files, with what was found of it, which may be nothing.

        Raises:
            NoSuchVolume: there is not even its VM.
        """
        vm, name = ids.split_id(volume_id)
        with self.existing(vm, volume_id) as directory:
            evidence = gather(directory, name)
            judged = judge(evidence, self.config.on_crash)
            yield VolumeFiles(directory, volume_id, evidence, judged, self.config.unknown_use)

    def _look_into(self, volume_id: str, read: Callable[[VolumeFiles], _T]) -> _T:
        """Read something of a volume without a lock: again, if a file vanished since it was listed.

        Raises:
            NoSuchVolume: there is none.
        """
        for _attempt in range(ATTEMPTS):
            with self.opened(volume_id) as opened:
                if opened.view.state is State.ABSENT:
                    break
                with contextlib.suppress(FileNotFoundError):
                    return read(opened)
        raise NoSuchVolume(volume_id, self.root)

    def open_current(self, volume_id: str) -> tuple[int, Origin]:
        """Open a volume's current image, lock or no lock; return the descriptor and what can be made from it."""
        for _attempt in range(ATTEMPTS):
            try:
                with self.opened(volume_id) as opened:
                    origin = opened.origin
                    if origin is None:
                        break
                    fd = opened.open_current()
            except (FileNotFoundError, NoSuchVolume):
                break
            if os.fstat(fd).st_ino == origin.inode:
                return fd, origin
            os.close(fd)  # a commit went on meanwhile
        raise NoSuchVolume(volume_id, self.root)


@contextlib.contextmanager
def _locked_for_a_moment(directory: Directory) -> Iterator[tuple[Directory, bool]]:
    with directory, Lock(directory.fd) as lock:
        yield directory, lock.take_at_once()


def _and_then_raise(found: list[str], failed: list[trees.Found]) -> Iterator[str]:
    """Yield the ids, and when all are gone through, say what could not be listed."""
    yield from found
    for one in failed:
        if one.problem is not None:
            raise StorageFailed(", ".join(other.vm for other in failed), "look", one.problem)
