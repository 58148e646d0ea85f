"""What a backend must do, and be able to tell.

A backend keeps the images of one pool. It does two things:

- It **acts**: `connect` subscribes it to the imperative signal of each event, for its pool alone. By then the event
  has been allowed by the rulebook, announced without objection, and the VM is locked. The method does it and
  returns when it is durable; if it raises, the transition has failed and the volume is looked at again.
- It **tells**: `look` and the others take no lock, never wait and change nothing.

The life of a volume as a backend sees it: `create` makes the empty image, number 0. `start` makes a working image
from the current one (or the source's) that can be told from a written one without comparing content. `commit`
makes the working image current in one step, under the number announced, and what was current a revision.
`revert` makes a revision current, or drops the working image. Revisions and the current image never change.
A number is never given twice, whatever crashes and whatever is pruned.

`tests/conformance` runs on every backend and says the same in code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from lifecycle.config import DEFAULT_CONFIG, CrashPolicy, VolumeConfig
from lifecycle.reflink.record import Note
from lifecycle.states import AT_REST, RUNNING, Event, State, allowed

if TYPE_CHECKING:
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.volume import Volume
    from lifecycle.errors import Holder
    from lifecycle.model import Change, Revision

WITHOUT_WRITING = (Event.START, Event.RELEASE)
"""What can happen to a volume of which nothing is ever written: VMs come and go."""


class View(NamedTuple):
    """A volume at one moment. It answers the rulebook's conditions too.

    Attributes:
        state: the state it is in.
        config: how it is set up.
        on_crash: the crash policy in force, its own or the pool's.
        rest: where it rests, or rested before it was started.
        current: the number of its current image; None if it has none.
        next: the number that the next image gets.
        numbers: its revisions, lowest first, without 0.
        size: bytes the working image holds, or the current one at rest; None if not known.
        begun: the source's number that a running disposable's working image was made from.
        run: what tells this run from every other of the volume; None if it has no working image.
        moved: whether the working image is the only one: a volume without snapshots runs.
        differs: whether there is a working image that differs from what it was made from.
        damage: what is wrong with it, in the state `damaged`.
        in_doubt: whether it is so since a flush of its working image failed, which is there: it can be discarded.
        way_back: the number to revert to from damage, if none is given.
        readable: whether what is written down about it is not of a newer version.
        is_known: whether what is written down about it, its configuration above all, could be read.
        read_only: whether nothing of it is ever written, the pool's directory included. VMs share its image then,
            and no one keeps count of them: it shows as at rest, and can be started and stopped at any time.
    """

    state: State = State.ABSENT
    config: VolumeConfig = DEFAULT_CONFIG
    on_crash: CrashPolicy = CrashPolicy.RESUME
    rest: State = State.CREATED
    current: int | None = None
    next: int = 1
    numbers: Sequence[int] = ()
    size: int | None = None
    begun: int | None = None
    run: tuple[int, int] | None = None
    moved: bool = False
    differs: bool = False
    damage: str | None = None
    in_doubt: bool = False
    way_back: int = 0
    readable: bool = True
    is_known: bool = True
    read_only: bool = False

    # the rulebook's conditions (states.CONDITIONS)

    @property
    def resumes(self) -> bool:
        """Whether a left-over working image is used again."""
        return self.on_crash is CrashPolicy.RESUME

    @property
    def unwritten(self) -> bool:
        """Whether nothing was written to the working image."""
        return not self.differs

    @property
    def keeps(self) -> bool:
        """Whether it has content of its own."""
        return self.config.save_on_stop

    @property
    def saves(self) -> bool:
        """Whether what the VM writes is kept."""
        return self.config.save_on_stop and self.config.rw

    @property
    def owns(self) -> bool:
        """Whether it has images of its own at rest."""
        return self.config.source is None

    @property
    def apart(self) -> bool:
        """Whether what the working image was made from is still there."""
        return not self.moved

    @property
    def rested_created(self) -> bool:
        """Whether it rested in `created`."""
        return self.rest is State.CREATED

    @property
    def rested_committed(self) -> bool:
        """Whether it rested in `committed`."""
        return self.rest is State.COMMITTED

    @property
    def rested_reverted(self) -> bool:
        """Whether it rested in `reverted`."""
        return self.rest is State.REVERTED

    @property
    def running(self) -> bool:
        """Whether it has a working image."""
        return self.state in RUNNING

    @property
    def may_run(self) -> bool:
        """Whether there may be something to stop: a working image, or VMs that share its image."""
        return self.running or (self.read_only and self.state in AT_REST)

    @property
    def allowed(self) -> tuple[Event, ...]:
        """The events that are allowed now, if no one holds its image open."""
        if self.read_only:
            return WITHOUT_WRITING if self.may_run else ()
        return allowed(self.state, self)


class Surveyed(NamedTuple):
    """What a list of volumes shows of one.

    Attributes:
        id: the volume's id.
        view: the volume.
        usage: bytes that its images take, as `Backend.usage` counts them.
        is_volume: whether it is one; else it is a directory that cannot be listed, by the name of its VM, and damaged.
        image: device and inode of what a VM would hold open: the working image, or the current one at rest; None if
            there is none.
    """

    id: str
    view: View
    usage: int
    image: tuple[int, int] | None
    is_volume: bool = True


class Capacity(NamedTuple):
    """What a pool has room for.

    Attributes:
        size: bytes in all; None if not known.
        usage: bytes used, by anything; None if not known.
        reflinks: whether images can share blocks; None if not known.
    """

    size: int | None
    usage: int | None
    reflinks: bool | None


class Finding(NamedTuple):
    """Something that `verify` found.

    Attributes:
        path: the file or volume it is about, relative to the pool.
        text: what it is, and what can be done.
        harmful: False for what is only worth knowing.
    """

    path: str
    text: str
    harmful: bool


class Backend(Protocol):
    """The protocol; see the module's text. Ids are valid names (`names.split_id`) wherever they are taken."""

    driver: ClassVar[str]
    on_look: Callable[[int], None] | None
    """Called, while all VMs are gone through, with how many there were so far; None if no one watches."""
    pool_file_mode: ClassVar[int]
    """The permissions of pool.toml: who else than the pool's owner may open the pool."""

    def set_up(self) -> None:
        """Check, when a pool is made, that it can be here.

        Raises:
            NoReflinks, Unsupported, OSError: it cannot.
        """

    def connect(self, pool: Pool) -> None:
        """Subscribe each event's method to its imperative signal, for this pool alone."""

    # ------------------------------------------------------------ telling

    def look(self, volume_id: str) -> View:
        """Return the volume as it is; in the state `absent` if there is none."""

    def revisions(self, volume_id: str, *, current: bool = False) -> tuple[Revision, ...]:
        """Return its revisions, oldest first, without 0; with `current`, the current image among them."""

    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids of all volumes, or of one VM's, in order.

        Raises:
            StorageFailed: a directory could not be listed; all others have been gone through by then.
        """

    def survey(self, vm: str | None = None) -> Iterator[Surveyed]:
        """Yield what a list shows of all volumes, or of one VM's, in order: each directory is read once.

        A directory that cannot be listed is shown as damaged, in the place of its volumes.
        """

    def restless(self) -> Iterator[str]:
        """Yield the names of the VMs in which `recover` may have something to do; each directory is read once."""

    def vms(self) -> Iterator[str]:
        """Yield the names of the VMs in order, also of those with nothing but leftovers and those not to be listed."""

    def path(self, volume_id: str) -> str:
        """Return the path of the working image, there or not: what a VM opens."""

    def id_at(self, path: str) -> str | None:
        """Return the id of the volume whose working image would have this path, relative to the pool; None for none."""

    def tagged(self, volume_id: str, key: str) -> str | None:
        """Return the working image's tag; None if it has no such one, or if there is no working image."""

    def usage(self, volume_id: str) -> int:
        """Return the bytes that its images take, those shared between them and with others counted in full."""

    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who holds the working image open, or the current one if there is none; empty if no one.

        Where it cannot be known, a holder that is not `known` says why. An event that pulls an image away asks again,
        when no one can open it any more, and raises InUse then.
        """

    def open_image(self, volume_id: str, number: int | None = None) -> int:
        """Open the current image (or a revision) for reading and return the descriptor, the caller's to close.

        Raises:
            NoSuchRevision: it has none of that number.
        """

    def capacity(self) -> Capacity:
        """Return what the pool has room for."""

    def room(self) -> tuple[int, int] | None:
        """Return the bytes that can still be written, and the bytes in all; None if not known."""

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what is wrong or strange in the pool, or in one VM."""

    def wants_ahead(self, volume_id: str) -> str | None:
        """Return the volume, this one or its source, for which `make_ahead` has something to do; None if it has not."""

    def make_ahead(self, volume_id: str) -> int:
        """Make working images that later starts will want, and return how many; the VM is not locked.

        A start that comes meanwhile neither waits for it nor fails.
        """

    # ------------------------------------------------------------ acting outside of events; the VM is locked

    def lock(
        self, vm: str, *, create: bool = False, wait: bool = True
    ) -> AbstractContextManager[None]:
        """Keep other processes from changing the VM's volumes.

        Args:
            vm: the VM.
            create: make room for a new one; left empty it vanishes again.
            wait: whether to wait for another process.

        Raises:
            Locked: another process did not finish in time.
            NoSuchVolume: there is no such VM, and `create` is not set.
        """

    def settle(self, volume_id: str) -> View:
        """Finish or drop what a crash left half done, say so in the log, and return the volume as it is then."""

    def tidy(self, vm: str) -> None:
        """Remove what crashes left behind in the VM and no one needs."""

    def configure(self, volume_id: str, config: VolumeConfig) -> None:
        """Write down how the volume is set up, durably."""

    def annotate(self, volume_id: str, number: int, change: Callable[[Note], Note]) -> None:
        """Change what is known of a revision or the current image, durably."""

    def accept(self, volume_id: str) -> tuple[int, ...]:
        """Take the images, at rest, for right that `verify` doubts; return their numbers. Durable."""

    def tag(self, volume_id: str, key: str, value: str | None) -> None:
        """Tag the working image. The tag goes with it; a start that uses a left-over image again drops its tags.

        Raises:
            NoSuchVolume: there is no working image.
        """

    # ------------------------------------------------------------ acting on signals

    def create(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make the volume with `change.asked["config"]`, empty."""

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make the working image; where there is one (left over), leave it."""

    def write(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Nothing, as a rule: the VM wrote."""

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Drop the working image."""

    def commit(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make the working image current, as number `change.revision`; what was current becomes a revision."""

    def checkpoint(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make a revision `change.revision` from the working image, in use or not."""

    def revert(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Drop the working image, if it runs or `change.asked["discard"]`; else make revision `change.revision`
        current, and what was current a revision.
        """

    def resize(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Give the volume `change.asked["size"]` bytes; at rest, as number `change.revision`, if one is given."""

    def import_(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Make what `change.asked["content"]` (a descriptor) reads current, as number `change.revision`."""

    def remove(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Remove the volume, its revisions and its record."""

    def prune(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Remove revision `change.revision`."""
