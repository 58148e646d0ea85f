"""The directories of a reflink pool: opens and locks them, and keeps what was found under a lock.

Nothing is remembered between calls, but what was settled under a lock that this thread still has: until it gives that
up, no one else can have changed it. Without a lock files may vanish and others take their names while one looks; then
one looks again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from lifecycle import ids
from lifecycle.config import PoolConfig
from lifecycle.errors import ForeignFile, Locked, NoSuchVolume, Refused
from lifecycle.linux import holders
from lifecycle.linux.directories import Directory
from lifecycle.linux.fork_safety import Lock, ThreadState
from lifecycle.linux.holders import identity
from lifecycle.machine import trees
from lifecycle.model import View
from lifecycle.reflink import recording, withdrawal
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.interpret import judge
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import ATTEMPTS, Evidence, gather, gather_locked
from lifecycle.reflink.seals import Origin
from lifecycle.states import State

log = logging.getLogger("lifecycle.backend")

_ROUNDS = 4
"""How often what images say is written down and looked at again: some of it shows only then. An image that there is no
room to give its name back is found each time."""
_MOMENT = 0.05
"""Seconds in which someone who only looks has let go of a VM's lock."""

_T = TypeVar("_T")


class _LockedVM(NamedTuple):
    """A VM that this thread has the lock of.

    Attributes:
        directory: its directory, open.
        settled: its volumes as they were found when their event was planned, by id; no one else can have changed one.
        afterwards: what is closed once the lock has been given up.
    """

    directory: Directory
    settled: dict[str, VolumeImages]
    afterwards: contextlib.ExitStack


class _ThisThread(ThreadState):
    """What this thread holds: the locked VMs by name."""

    def __init__(self) -> None:
        self.locked: dict[str, _LockedVM] = {}


class Store:
    """A pool's directories, and what this thread has locked of them.

    Attributes:
        root: the pool's directory.
        config: the pool's settings.
    """

    def __init__(self, root: str, config: PoolConfig) -> None:
        self.root = root
        self.config = config
        self._this_thread = _ThisThread()

    def working_image(self, volume_id: str) -> str:
        """Return the working image's path, there or not."""
        return f"{self.root}/{volume_id}{Kind.WORKING}"

    # ------------------------------------------------------------ VMs

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

    def alone(self, vm: str) -> contextlib.AbstractContextManager[tuple[Directory, bool]]:
        """Return the VM's directory and whether it is locked, within a block: it is not if an event goes on.

        Where this thread has its lock, it is that directory, and locked.

        Raises:
            FileNotFoundError: there is none.
        """
        locked = self._this_thread.locked.get(vm)
        if locked is None:
            return _locked_for_a_moment(self.directory(vm))
        return contextlib.nullcontext((locked.directory, True))

    @contextlib.contextmanager
    def lock(self, vm: str, *, create: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold the VM's lock.

        Raises:
            Locked: another process did not finish in time.
            NoSuchVolume: there is no such VM, and `create` is not set.
        """
        timeout = self.config.lock_timeout if wait else _MOMENT
        while True:
            with (
                contextlib.ExitStack() as afterwards,
                self.existing(vm, vm, create=create) as directory,
                Lock(directory.fd) as lock,
            ):
                if not lock.take(timeout):
                    who = holders.lock_holders(identity(os.fstat(directory.fd)))
                    raise Locked(vm, timeout, who)
                if not self._is_still(vm, directory):
                    continue  # it was removed while we waited
                self._this_thread.locked[vm] = _LockedVM(directory, {}, afterwards)
                try:
                    yield
                finally:
                    self._this_thread.locked.pop(vm, None)  # it is gone in a forked process
                    if create:
                        with contextlib.suppress(OSError):  # an empty directory harms no one
                            self.drop_empty(vm)
                return

    def _is_still(self, vm: str, directory: Directory) -> bool:
        """Tell whether the VM's name still leads to the directory that was locked."""
        try:
            with self.directory(vm) as named:
                return os.path.samestat(os.fstat(named.fd), os.fstat(directory.fd))
        except (FileNotFoundError, ForeignFile):
            return False

    def drop_empty(self, vm: str) -> None:
        """Remove the VM's directory and those above it, as far as they are empty."""
        with Directory.open(self.root) as root:
            while vm and root.remove_directory(vm):
                vm = vm.rpartition("/")[0]

    def free_afterwards(self, volume_id: str, file: str) -> None:
        """Let the blocks of a file that is now removed be given back when the VM's lock has been given up."""
        locked = self._locked(volume_id)
        if locked is not None:
            locked.afterwards.enter_context(locked.directory.keeping(file))

    # ------------------------------------------------------------ volumes

    @contextlib.contextmanager
    def opened(self, volume_id: str) -> Iterator[VolumeImages]:
        """Open one volume's files, with what was found of it, which may be nothing.

        Where this thread has the VM's lock, by the directory that is open already; and as the volume was when it was
        settled, until something is done to it.

        Raises:
            NoSuchVolume: there is not even its VM.
        """
        vm, name = ids.split_id(volume_id)
        locked = self._this_thread.locked.get(vm)
        if locked is None:
            with self.existing(vm, volume_id) as directory:
                yield self._understood(directory, volume_id, gather(directory, name))
        elif volume_id in locked.settled:
            yield locked.settled[volume_id]
        else:
            found = gather_locked(locked.directory, volume_id)
            yield self._understood(locked.directory, volume_id, found)

    def _understood(self, directory: Directory, volume_id: str, evidence: Evidence) -> VolumeImages:
        judged = judge(evidence, self.config.on_crash)
        return VolumeImages(directory, volume_id, evidence, judged, self.config.unknown_use)

    @contextlib.contextmanager
    def acting(self, volume_id: str) -> Iterator[VolumeImages]:
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

    def settle(self, volume_id: str) -> View:
        """Write down what the images say, where the record says otherwise."""
        self._unsettle(volume_id)
        rounds = 0
        while True:
            with self.opened(volume_id) as opened:
                is_settled = not opened.findings and not opened.evidence.second_names
                if is_settled or rounds == _ROUNDS:
                    return self._settled(volume_id, opened)
                rounds += 1
                for file in opened.evidence.second_names:
                    opened.directory.remove(file)
                if not opened.evidence.second_names:
                    log.warning("%s: recovered: %s", volume_id, "; ".join(opened.findings))
                    withdrawal.put_back(opened)
                    recording.write_down(opened)

    def _settled(self, volume_id: str, opened: VolumeImages) -> View:
        """Return the volume as it is; what is done to it under the lock that is held goes by this one look."""
        locked = self._locked(volume_id)
        if locked is not None:
            locked.settled[volume_id] = opened
        return opened.view

    def _unsettle(self, volume_id: str) -> None:
        """Forget how the volume was found."""
        locked = self._locked(volume_id)
        if locked is not None:
            locked.settled.pop(volume_id, None)

    def _locked(self, volume_id: str) -> _LockedVM | None:
        """Return the volume's VM, if this thread has its lock."""
        return self._this_thread.locked.get(ids.split_id(volume_id)[0])

    def look_into(self, volume_id: str, read: Callable[[VolumeImages], _T]) -> _T:
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
