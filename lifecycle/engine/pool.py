"""A pool: finds and creates volumes, and connects the backend and the subscribers to its signals."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from lifecycle import config as settings
from lifecycle import ids
from lifecycle.config import PoolConfig, VolumeConfig
from lifecycle.engine import batch, locks, plan, registry, wiring
from lifecycle.engine.vm import VM
from lifecycle.engine.volume import Volume
from lifecycle.errors import (
    InAnotherPool,
    InvalidName,
    NoSuchVolume,
    Refused,
    storage,
)
from lifecycle.machine import known_pools
from lifecycle.model import Fixed, View
from lifecycle.sizes import parse_size
from lifecycle.states import Event, State

if TYPE_CHECKING:
    from lifecycle.backend import Backend
    from lifecycle.backend import Volume as AnyVolume
    from lifecycle.engine.batch import Outcome
    from lifecycle.engine.recovery import Recovered
    from lifecycle.model import Capacity, Finding
    from lifecycle.policies import Policy
    from lifecycle.readable import Progress
    from lifecycle.subscribers.subscriber import Subscriber
    from lifecycle.transfer.content import Origin


class Pool(Fixed):
    """Volumes in one place, and the sender of their signals.

    Make one with `Pool.create`, open one with `Pool.open`. It holds nothing open and needs no closing. Sent to another
    process (pickle), it is opened anew there by its path, and has the subscribers of that process. A copy of it in this
    one is itself, since subscribers connect to it; so `copy` and `deepcopy` of a volume keep those who may object.

    Attributes:
        path: its directory, absolute.
        identity: the same, without symbolic links: two with the same are one pool.
        config: its settings.
        backend: what keeps its images.
        subscribers: what was connected to its signals, in the order in which they are told: hooks, retention,
            precaching.
        precaching: the last of them, which has working images made ahead.
        on_progress: called during copies with what is copied, the bytes done, and the bytes in all (None if not
            known).
    """

    MAY_CHANGE = frozenset({"on_progress"})

    def __init__(
        self,
        path: str,
        config: PoolConfig,
        backend: Backend,
        retention: Subscriber | None = None,
    ) -> None:
        self.path = path
        self.identity = os.path.realpath(path)
        self.config = config
        self.backend = backend
        self.on_progress: Callable[[str, int, int | None], None] | None = None
        backend.connect(self)
        self.subscribers = wiring.connect(self, retention)
        self.precaching = wiring.PRECACHING
        wiring.require_one_backend(self)

    def __repr__(self) -> str:
        return f"<Pool {self.path!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.path,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    # ------------------------------------------------------------ making and opening

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        keep: str = settings.DEFAULT_KEEP,
        loop: int | str | None = None,
        **others: Any,
    ) -> Pool:
        """Make a pool of a directory, new or not; images in its subdirectories become volumes as they are.

        Args:
            path: the directory.
            keep: the retention policy's line.
            loop: the size of an XFS to embed (bytes, or `10G`): for file systems without reflinks; needs root.
            others: further settings of `PoolConfig`: `setup_check`, `on_crash`, `timezone`, `lock_timeout`.

        Raises:
            NotAPool: it is a pool already, no directory, or cannot be written to.
            NoReflinks: the file system has none, and `setup_check` is not off.
            InvalidConfig, InvalidPolicy, InvalidSize, PluginFailed: a setting cannot be.
            Unsupported: a loop pool cannot be made here.
        """
        where = os.path.abspath(path)
        config = settings.pool_config(where, keep=keep, **others)
        settings.check_keep(keep, config.timezone)
        wiring.check_retention(where, config.retention)
        size = None if loop is None else parse_size(loop)
        is_new = registry.make_directory(where)
        try:
            return cls(where, config, registry.set_up(where, config, size))
        except BaseException:
            if is_new:
                with suppress(OSError):
                    os.rmdir(where)
            raise

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, retention: Subscriber | None = None) -> Pool:
        """Open a pool. One that is embedded in a file is mounted first if it is not.

        Args:
            path: the pool's directory.
            retention: a subscriber in place of the one that prunes after commits, for this object; by default what
                `retention` in pool.toml names.

        Raises:
            NotAPool: there is none.
            InvalidConfig, InvalidPolicy: its pool.toml cannot be understood, or a newer version wrote it.
        """
        where = os.path.abspath(path)
        content = registry.read_pool_file(where)
        if content is None:
            from lifecycle.linux import embedded_xfs  # noqa: PLC0415 - seldom needed

            # another process may have mounted it meanwhile
            embedded_xfs.mount_again(where)
            content = registry.read_pool_file(where)
        if content is None:
            raise registry.not_a_pool(
                where, "is not a pool: it has no pool.toml; `lifecycle init` makes it one"
            )
        config = settings.read_pool(f"{where}/{settings.POOL_FILE}", content)
        return cls(where, config, registry.backend_of(where, config), retention)

    def create_volume(
        self,
        volume_id: str,
        size: int | str | None = None,
        *,
        source: str | Volume | None = None,
        save_on_stop: bool | None = None,
        rw: bool = True,
        keep: str | None = None,
        on_crash: str | None = None,
        snapshots: bool = True,
    ) -> Volume:
        """Make a volume, empty; durable when this returns.

        Args:
            volume_id: `VM/NAME`.
            size: bytes, or a text like `10G`. With a source: the least its working image gets, by default the
                source's size.
            source: the volume whose current image each start begins from: makes it disposable.
            save_on_stop: whether a stop keeps what was written; by default if there is no source. Without either
                it is volatile.
            rw: whether the VM may write.
            keep: the retention policy's line, by default the pool's.
            on_crash: `resume`, `commit` or `revert`, by default the pool's.
            snapshots: whether a start makes a working image beside the current one; see `VolumeConfig`.

        Raises:
            InvalidName, InvalidSize, InvalidPolicy, InvalidConfig, PluginFailed: one of these cannot be.
            Refused: there is such a volume.
            NoSuchVolume: the source does not exist.
            Vetoed, StorageFailed: it was not made.
        """
        volume = Volume(self, volume_id)
        origin = source.id if isinstance(source, Volume) else source
        config = settings.check_config(
            volume_id,
            VolumeConfig(
                size=None if size is None else parse_size(size),
                rw=rw,
                save_on_stop=origin is None if save_on_stop is None else save_on_stop,
                source=origin,
                keep=keep,
                on_crash=None if on_crash is None else settings.crash_policy(volume_id, on_crash),
                snapshots=snapshots,
            ),
        )
        settings.check_keep(keep, self.config.timezone)
        plan.check_new(self, volume_id, config)
        known_pools.require_in_no_other(self.path, volume.vm, volume.id)
        with self.changing(volume, create=True):
            plan.plan(volume, Event.CREATE, asked={"config": config}).run()
        return volume

    def clone(
        self,
        origin: Origin,
        volume_id: str,
        *,
        rw: bool = True,
        keep: str | None = None,
        on_crash: str | None = None,
        image_format: str | None = None,
        follow: bool = False,
        verify: bool = False,
    ) -> Volume:
        """Make a persistent volume with the content of another, of an image, a block device or a stream. Durable.

        It is born empty and then imports the content, so it can be reverted to empty. Should the import fail, there
        is no such volume.

        Args:
            origin: as in `Volume.import_from`, as are `image_format`, `follow` and `verify`.
            volume_id: the new volume's id.
            rw: as in `create_volume`, as are `keep` and `on_crash`.
            keep: see there.
            on_crash: see there.
            image_format: see there.
            follow: see there.
            verify: see there.

        Raises:
            LifecycleError, OSError: as `create_volume` and `Volume.import_from`.
        """
        from lifecycle.engine.content import clone  # noqa: PLC0415 - seldom needed

        volume = Volume(self, volume_id)
        create = functools.partial(
            self.create_volume, volume_id, rw=rw, keep=keep, on_crash=on_crash
        )
        how = {"image_format": image_format, "follow": follow, "verify": verify}
        clone(origin, volume, create, how)
        return volume

    # ------------------------------------------------------------ finding

    def __getitem__(self, volume_id: str) -> Volume:
        """Return the volume of that id.

        Raises:
            InvalidName: it is no id. NoSuchVolume: there is none.
        """
        volume = Volume(self, volume_id)
        volume.require(volume.look())
        return volume

    def volume(self, volume_id: str) -> Volume:
        """Return the volume of that id, there or not.

        Raises:
            InvalidName: it is no id.
        """
        return Volume(self, volume_id)

    def __contains__(self, volume_id: object) -> bool:
        """Tell whether there is a volume of that id."""
        try:
            return self.backend.look(str(volume_id)).state is not State.ABSENT
        except (InvalidName, InAnotherPool):
            return False

    def __iter__(self) -> Iterator[Volume]:
        """Yield all volumes, in the order of their VMs, then of their names.

        Raises:
            StorageFailed: a directory cannot be listed; all volumes elsewhere have been gone through by then.
        """
        return (Volume(self, one) for one in self.backend.volume_ids())

    def volumes(self, vm: str | None = None) -> list[Volume]:
        """Return all volumes, or one VM's, in the order of their VMs, then of their names.

        Raises:
            InvalidName: the VM's name is none.
            StorageFailed: a directory cannot be listed.
        """
        if vm is not None:
            ids.check_vm(vm)
        return [Volume(self, one) for one in self.backend.volume_ids(vm)]

    def vm(self, name: str) -> VM:
        """Return the VM of that name, to start and stop its volumes together.

        Raises:
            InvalidName: it is none.
        """
        return VM(self, name)

    def policy_for(self, config: VolumeConfig) -> Policy:
        """Return the retention policy in force for a volume that is set up like this.

        Raises:
            InvalidPolicy: it names a plugin that is not installed, or refused to be used.
        """
        from lifecycle import policies  # noqa: PLC0415 - not needed by a start

        return policies.parse(config.keep or self.config.keep, self.config.timezone)

    def start(self, volumes: Iterable[Volume | str]) -> Outcome:
        """Start all of these volumes, or none, sharing each wait for the disk; durable when this returns.

        Args:
            volumes: these, or their ids; of any VMs.

        Raises:
            NoSuchVolume: one of them does not exist.
            Refused, InUse, Vetoed, StorageFailed: one of them could not start; none has.
        """
        return batch.start(self._several(volumes))

    def stop(
        self, volumes: Iterable[Volume | str], *, discard: bool = False, reason: str | None = None
    ) -> Outcome:
        """Stop all of these volumes, sharing each wait for the disk; durable when this returns.

        Args:
            volumes: these, or their ids, all running; of any VMs.
            discard: as in `Volume.stop`, for all.
            reason: as in `Volume.stop`, for all.

        Raises:
            NoSuchVolume: one of them does not exist.
            Refused, InUse, Vetoed: one of them could not stop; all are still running.
            StorageFailed: the file system failed for some, which keep running; stop them again.
        """
        return batch.stop(self._several(volumes), discard=discard, reason=reason)

    def _several(self, volumes: Iterable[Volume | str]) -> list[Volume]:
        return [self[one] if isinstance(one, str) else one for one in volumes]

    def capacity(self) -> Capacity:
        """Return what the pool has room for."""
        return self.backend.capacity()

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what is wrong or strange in the pool, or in one VM. Nothing is changed."""
        return self.backend.verify(vm)

    def recover(self, *vms: str) -> list[Recovered]:
        """Finish or drop what a crash left half done, in all VMs or in these, and apply the crash policies.

        Goes on past what fails. For the boot of a host; a volume in use is left alone.

        Returns:
            what was done and what failed; what needed nothing is left out.
        """
        from lifecycle.engine import recovery  # noqa: PLC0415 - seldom needed

        return recovery.recover(self, vms or sorted(self.backend.restless()))

    def tidy(self, vm: str) -> None:
        """Remove what crashes left behind in the VM and no one needs.

        Raises:
            Locked: another process did not finish in time. StorageFailed: something could not be removed.
            Refused: this thread is changing one of its volumes: a subscriber called back.
        """
        for identity, volume_id in locks.this_thread.changing:
            if identity == self.identity and ids.split_id(volume_id)[0] == vm:
                self._refuse_reentry(Volume(self, volume_id))
        with storage(vm, "tidy"), self.locked(vm):
            self.backend.tidy(vm)

    def make_ahead(self, volume_id: str) -> None:
        """Have the working images made ahead that the volume's next starts will want; returns at once."""
        self.precaching.see_to(self, volume_id)

    def progress(self, text: str) -> Progress | None:
        """Return what a copy is to call as it goes, for `on_progress`; None if no one watches."""
        return None if self.on_progress is None else functools.partial(self.on_progress, text)

    # ------------------------------------------------------------ inside

    @contextmanager
    def changing(
        self, *volumes: AnyVolume, create: bool = False, what: str | None = None
    ) -> Iterator[None]:
        """Lock the volumes' VMs while they go through transitions.

        Args:
            volumes: those.
            create: whether a VM that is not there is made.
            what: the event that is to be.

        Raises:
            Refused: this thread is changing one of them already: a subscriber called back. Or there is no such VM, and
                `what` is said: it is refused as in `absent`.
            NoSuchVolume: there is no such VM.
            Locked: another process did not finish in time.
        """
        for volume in volumes:
            self._refuse_reentry(volume)
        changing = locks.this_thread.changing
        mine = {(self.identity, volume.id) for volume in volumes}
        with ExitStack() as held:
            for vm, volume in sorted({volume.vm: volume for volume in volumes}.items()):
                try:
                    with storage(volume.id, "lock"):
                        held.enter_context(self.locked(vm, create=create))
                except NoSuchVolume as error:
                    if what is None or isinstance(error, InAnotherPool):
                        raise
                    raise plan.refusal(volume, View(), what) from None
            changing |= mine
            held.callback(changing.difference_update, mine)
            yield

    def locked(self, vm: str, *, create: bool = False) -> AbstractContextManager[None]:
        """Hold the VM's lock; a thread that holds it already goes on.

        Raises:
            NoSuchVolume, Locked, Refused: as `locking.locked` says.
        """
        return locks.locked(self, vm, create=create)

    def settle(self, volume_id: str) -> View:
        """Finish or drop what a crash left half done, and return the volume as it is then; its VM is locked.

        Raises:
            StorageFailed: the file system failed.
        """
        with storage(volume_id, "recovery"):
            return self.backend.settle(volume_id)

    def _refuse_reentry(self, volume: AnyVolume) -> None:
        if (self.identity, volume.id) in locks.this_thread.changing:
            raise Refused(
                volume.id,
                volume.state,
                "begin another event",
                "it is in the middle of one; act when the call that sent the signal has returned",
            )
