"""The directory backend itself: what it can tell of each image, and that it writes nothing.

How this works. Each regular file in a directory below the pool's is a volume: kernels, initial ramdisks, installation
media. A VM opens the file itself, so a start makes nothing and a stop drops nothing; and nothing is written down. So
the tree may lie on a medium that cannot be written to, any number of VMs may run on one image, and a volume is
`created` all the time. What would write is refused before it comes here (View.read_only).

A volume's NAME is its file's, without the ending `.img`: `vmlinuz`, `debian-12.iso`, and `modules` for `modules.img`.
Where both `modules` and `modules.img` are there, the volume is `modules.img`, and `verify` tells of the other.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from lifecycle import ids
from lifecycle.backend import Plain
from lifecycle.config import PoolConfig, VolumeConfig
from lifecycle.directory.tree import (
    ENDING,
    Image,
    image_of,
    name_of,
    names_in,
    objection_to,
    vms_below,
    without_use,
)
from lifecycle.errors import (
    ForeignFile,
    Holder,
    InvalidConfig,
    NoSuchRevision,
    NoSuchVolume,
    NotAPool,
    ReadOnlyPool,
    storage,
)
from lifecycle.linux import holders
from lifecycle.linux.copying import OpenFile
from lifecycle.linux.directories import Directory
from lifecycle.machine.trees import open_vm
from lifecycle.model import Attached, Attachment, Capacity, Finding, Surveyed, View
from lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.model import Change, Note, Revision

log = logging.getLogger("lifecycle.backend")

_CONFIG = VolumeConfig(rw=False)


class DirectoryBackend(Plain):
    """Volumes as the files of a tree, which is only read.

    Attributes:
        root: the pool's directory.
        config: the pool's settings.
    """

    driver: ClassVar[str] = "directory"
    pool_file_mode: ClassVar[int] = 0o644

    def __init__(self, path: str, config: PoolConfig) -> None:
        self.root = path
        self.config = config

    def set_up(self) -> None:
        """Check that pool.toml can be written, and that nothing is asked for that a read-only pool cannot do."""
        for setting in without_use(self.config):
            raise InvalidConfig(
                self.root, f"`{setting}` is of no use in a read-only pool; leave it out"
            )
        if not os.access(self.root, os.W_OK, effective_ids=True):
            raise NotAPool(
                self.root,
                "cannot be written to, so there is no place for its pool.toml; make the directory"
                " above it a pool, or an empty one and mount this below it (`mount --bind`)",
            )

    # ------------------------------------------------------------ telling

    def look(self, volume_id: str) -> View:
        """Return the volume as it is: `created`, if there is such a file."""
        image = self._find(volume_id)
        return View(read_only=True) if image is None else self._view_of(image)

    def _view_of(self, image: Image) -> View:
        if image.problem is not None:
            return View(State.DAMAGED, config=_CONFIG, damage=image.problem, read_only=True)
        return View(
            state=State.CREATED,
            config=_CONFIG,
            on_crash=self.config.on_crash,
            size=image.size,
            read_only=True,
        )

    def revisions(self, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:  # noqa: ARG002
        """Return none: an image has no earlier content, and no number."""
        return ()

    def restless(self) -> Iterator[str]:
        """Yield nothing: nothing is ever left."""
        return iter(())

    def survey(self, vm: str | None = None) -> Iterator[Surveyed]:
        """Yield what a list shows of all volumes, or of one VM's."""
        users = holders.Everyone()
        for volume_id in self.volume_ids(vm):
            image = self._find(volume_id)
            if image is not None:
                using = users.of(image.identity, at_rest=True)
                yield Surveyed(volume_id, self._view_of(image), image.usage, using)

    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids of all volumes, or of one VM's, in order."""
        with storage(vm or self.root, "look"):
            if vm is None:
                with Directory.open(self.root) as root:
                    found = [
                        (one, name) for one, here in vms_below(root) for name in names_in(one, here)
                    ]
                return iter([f"{one}/{name}" for one, name in sorted(found)])
            with contextlib.suppress(FileNotFoundError), self._directory(vm) as here:
                return iter([f"{vm}/{name}" for name in names_in(vm, here)])
        return iter(())

    def vms(self) -> Iterator[str]:
        """Yield the names of the directories that hold an image, in order."""
        with storage(self.root, "look"), Directory.open(self.root) as root:
            return iter(sorted(vm for vm, here in vms_below(root) if names_in(vm, here)))

    def attachment(self, volume_id: str) -> Attachment:
        """Return the image itself, as a file: VMs open that."""
        vm, name = ids.split_id(volume_id)
        image = self._find(volume_id)
        file = name + ENDING if image is None else image.file
        return Attachment(Attached.FILE, f"{self.root}/{vm}/{file}")

    def id_of(self, attachment: Attachment, *, any_image: bool = False) -> str | None:  # noqa: ARG002
        """Return the id of the volume that has this image."""
        if attachment.kind is not Attached.FILE:
            return None
        path = os.path.relpath(attachment.name, os.path.realpath(self.root))
        vm, _, file = path.rpartition("/")
        volume_id = f"{vm}/{name_of(file)}"
        if objection_to(volume_id) is not None:
            return None
        image = self._find(volume_id)
        return volume_id if image is not None and image.file == file else None

    def is_image(self, path: str) -> bool:
        """Tell an image by its ending; what else lies here is looked at, for no VM has written into it."""
        return path.endswith(ENDING)

    def tagged(self, volume_id: str, key: str) -> str | None:  # noqa: ARG002
        """Return None: nothing is noted of a run."""
        return None

    def usage(self, volume_id: str) -> int:
        """Return the bytes allocated to its image."""
        image = self._find(volume_id)
        return 0 if image is None else image.usage

    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who holds the image open, as far as this user may see; that hinders no one."""
        with contextlib.suppress(NoSuchVolume, PermissionError):
            return holders.users(lambda: holders.ask_for(lambda: self._open(volume_id)))
        return ()

    def open_image(self, volume_id: str, number: int | None = None) -> OpenFile:
        """Open the image for reading."""
        if number is not None:
            raise NoSuchRevision(volume_id, number, ())
        with storage(volume_id, "look"):
            return OpenFile(self._open(volume_id))

    def capacity(self) -> Capacity:
        """Return what the file system holds."""
        with storage(self.root, "look"):
            found = os.statvfs(self.root)
        size = found.f_blocks * found.f_frsize
        return Capacity(size, size - found.f_bfree * found.f_frsize, None)

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what cannot be read, and which files are no volumes and why."""
        from lifecycle.directory.verify import of_pool, of_vm  # noqa: PLC0415 - seldom needed

        with storage(vm or self.root, "verify"):
            if vm is None:
                with Directory.open(self.root) as root:
                    return iter(of_pool(root, self.config))
            with self._directory(vm) as here:
                return iter(of_vm(vm, here))

    # ------------------------------------------------------------ acting outside of events

    @contextlib.contextmanager
    def lock(self, vm: str, *, create: bool = False, wait: bool = True) -> Iterator[None]:  # noqa: ARG002
        """Check that there is such a VM. No one changes anything here, so no one need be kept out."""
        if not create:
            try:
                self._directory(vm).close()
            except FileNotFoundError:
                raise NoSuchVolume(vm, self.root) from None
        yield

    def configure(self, volume_id: str, config: VolumeConfig) -> None:  # noqa: ARG002
        """Refuse: there is no place to write it down."""
        view = self.look(volume_id)
        raise ReadOnlyPool(volume_id, view.state, "set", view.allowed)

    def annotate(self, volume_id: str, number: int, change: Callable[[Note], Note]) -> None:  # noqa: ARG002
        """Refuse: there is no place to write it down."""
        view = self.look(volume_id)
        raise ReadOnlyPool(volume_id, view.state, "pin or label", view.allowed)

    def accept(self, volume_id: str) -> tuple[int, ...]:
        """Refuse: there is no place to write it down."""
        view = self.look(volume_id)
        raise ReadOnlyPool(volume_id, view.state, "accept", view.allowed)

    def tag(self, volume_id: str, key: str, value: str | None, *, durable: bool = False) -> None:
        """Nothing: of the VMs that share an image, none is noted."""

    # ------------------------------------------------------------ events

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """See that the image can be read; the VM opens it as it is."""
        os.close(self._open(volume.id))

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Nothing: the image stays as it is."""

    def refuse(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Refuse an event that writes, whoever sends its signal."""
        raise ReadOnlyPool(volume.id, change.source, change.event, volume.allowed)

    create = write = commit = checkpoint = revert = resize = import_ = remove = prune = refuse

    # ------------------------------------------------------------ inside

    def _directory(self, vm: str) -> Directory:
        """Open a VM's directory.

        Raises:
            FileNotFoundError: there is none; what a symbolic link leads to is none.
        """
        with Directory.open(self.root) as root:
            try:
                return open_vm(root, vm)
            except ForeignFile as error:
                raise FileNotFoundError(errno.ENOENT, "no such directory", error.path) from error

    def _find(self, volume_id: str) -> Image | None:
        """Return the volume's file; None if there is none."""
        vm, name = ids.split_id(volume_id)
        with (
            storage(volume_id, "look"),
            contextlib.suppress(FileNotFoundError),
            self._directory(vm) as directory,
        ):
            return image_of(directory, name)
        return None

    def _open(self, volume_id: str) -> int:
        """Open the volume's file for reading.

        Raises:
            NoSuchVolume: there is none.
        """
        vm, name = ids.split_id(volume_id)
        with (
            contextlib.suppress(FileNotFoundError, ForeignFile),
            self._directory(vm) as directory,
        ):
            image = image_of(directory, name)
            if image is not None:
                return directory.open_file(image.file)
        raise NoSuchVolume(volume_id, self.root)
