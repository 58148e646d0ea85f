"""What a backend must do: the protocol between the engine and the place where images are kept.

A backend keeps the images of one pool. It does two things:

- It **acts**: `connect` subscribes it to the imperative signal of each event, for its pool alone. By then the event
  has been allowed by the rulebook, announced without objection, and the VM is locked. The method does it and
  returns when it is durable; if it raises, the transition has failed and the volume is looked at again.
- It **tells**: `look` and the others take no lock, never wait and change nothing.

Where images are kept, and how, is a backend's own: files, a database, a cluster. What hypervisors are given for a disk
is an `Attachment`; what a disk holds is a `Readable`. `Plain` has what a backend need not do itself.

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
from typing import TYPE_CHECKING, ClassVar, Protocol

from lifecycle import events
from lifecycle.ids import split_id
from lifecycle.model import Capacity, Surveyed
from lifecycle.states import AT_REST

if TYPE_CHECKING:
    from lifecycle.config import PoolConfig, VolumeConfig
    from lifecycle.errors import Holder
    from lifecycle.model import Attachment, Change, Finding, Note, Revision, View
    from lifecycle.policies import Policy
    from lifecycle.readable import Progress, Readable
    from lifecycle.states import Event, State


class Backend(Protocol):
    """The protocol; see the module's text. Ids are valid names (`ids.split_id`) wherever they are taken."""

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
        """Return its revisions, oldest first, without 0; with `current`, the current image among them.

        Empty if there is no such volume.
        """

    def volume_ids(self, vm: str | None = None) -> Iterator[str]:
        """Yield the ids of all volumes, or of one VM's, in order.

        Raises:
            StorageFailed: a VM's volumes could not be listed; all others have been gone through by then.
        """

    def survey(self, vm: str | None = None) -> Iterator[Surveyed]:
        """Yield what a list shows of all volumes, or of one VM's, in order, who uses them included: in one go.

        There may be a hundred thousand. A VM whose volumes cannot be listed is shown as damaged, in their place.
        """

    def restless(self) -> Iterator[str]:
        """Yield the names of the VMs in which `recover` may have something to do."""

    def vms(self) -> Iterator[str]:
        """Yield the names of the VMs in order, also of those with nothing but leftovers and those not to be listed."""

    def attachment(self, volume_id: str) -> Attachment:
        """Return what a hypervisor is given for the volume's disk: the working image, there or not.

        It is the same at every start.
        """

    def id_of(self, attachment: Attachment, *, any_image: bool = False) -> str | None:
        """Return the id of the volume that has this attachment, there or not; None if none would have it.

        Args:
            attachment: what a VM was given; a file's path is absolute, with the links above the file resolved.
            any_image: whether the volume's other images count too: the current one, its revisions.
        """

    def is_image(self, path: str) -> bool:
        """Tell whether a file in the pool's directory, by its absolute path, is an image: a VM may have written it."""

    def tagged(self, volume_id: str, key: str) -> str | None:
        """Return the working image's tag; None if it has no such one, or if there is no working image."""

    def usage(self, volume_id: str) -> int:
        """Return the bytes that its images take, those shared between them and with others counted in full."""

    def in_use_by(self, volume_id: str) -> tuple[Holder, ...]:
        """Return who holds the working image open, or the current one if there is none; empty if no one.

        Where it cannot be known, a holder that is not `known` says why. An event that pulls an image away asks again,
        when no one can open it any more, and raises InUse then.
        """

    def open_image(self, volume_id: str, number: int | None = None) -> Readable:
        """Open the current image (or a revision) for reading; the caller closes it.

        What is open stays readable as it is, whatever happens to the volume.

        Raises:
            NoSuchVolume: there is none. NoSuchRevision: it has none of that number.
            Refused: the VM is writing to it, for the volume has no snapshots.
        """

    def capacity(self) -> Capacity:
        """Return what the pool has room for."""

    def room(self) -> tuple[int, int] | None:
        """Return the bytes that can still be written, and the bytes in all; None if not known."""

    def verify(self, vm: str | None = None) -> Iterator[Finding]:
        """Yield what is wrong or strange in the pool, or in one VM; nothing where there is nothing to check."""

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
        """Take the images, at rest, for right that `verify` doubts; return their numbers, if there are any. Durable."""

    def tag(self, volume_id: str, key: str, value: str | None, *, durable: bool = False) -> None:
        """Tag the working image; None takes the tag off. A start that uses a left-over image again drops its tags.

        What this does is durable when it returns if `durable` asks for that, else some seconds later.

        Raises:
            NoSuchVolume: there is no working image.
        """

    # ------------------------------------------------------------ acting on signals
    # each returns nothing once it is durable; or steps, which stop where something must be (linux/durability.py)

    def create(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Make the volume with `change.asked["config"]`, empty."""

    def start(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Make the working image; where there is one (left over), leave it."""

    def write(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Nothing, as a rule: the VM wrote."""

    def release(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Drop the working image."""

    def commit(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Make the working image current, as number `change.revision`; what was current becomes a revision."""

    def checkpoint(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Make a revision `change.revision` from the working image, in use or not."""

    def revert(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Drop the working image, if it runs or `change.asked["discard"]`; else make revision `change.revision`
        current, and what was current a revision.
        """

    def resize(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Give the volume `change.asked["size"]` bytes; at rest, as number `change.revision`, if one is given."""

    def import_(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Make `change.asked["content"]`, a `Readable`, current, as number `change.revision`.

        Its length is rounded up to whole sectors. `asked["name"]` is what messages call it; with `asked["verify"]` what
        was written is read again, from where it is kept, and compared. `asked["own"]` says that it has a descriptor of
        an image of a pool.

        Raises:
            NotTheSame: what was written is not what was read.
        """

    def remove(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Remove the volume, its revisions and its record."""

    def prune(self, pool: Pool, *, volume: Volume, change: Change) -> object:
        """Remove revision `change.revision`."""


class Plain:
    """What a backend need not do itself: a class that has it for a base writes down only what it keeps otherwise.

    Nothing is left half done by a crash, nothing can be verified, nothing is made ahead, and what is asked of all
    volumes is asked of each.
    """

    pool_file_mode: ClassVar[int] = 0o600
    on_look: Callable[[int], None] | None = None

    def set_up(self: Backend) -> None:
        """Nothing: it can be anywhere."""

    def connect(self: Backend, pool: Pool) -> None:
        """Subscribe the method that is called as the event (`import_`, since `import` is a word of Python's)."""
        for event, tenses in events.EVENTS.items():
            method = getattr(self, "import_" if event == "import" else event)
            tenses.done.connect(method, sender=pool)

    def survey(self: Backend, vm: str | None = None) -> Iterator[Surveyed]:
        """Ask of each volume what a list shows."""
        for number, volume_id in enumerate(self.volume_ids(vm), 1):
            if self.on_look is not None:
                self.on_look(number)
            view, usage = self.look(volume_id), self.usage(volume_id)
            yield Surveyed(volume_id, view, usage, self.in_use_by(volume_id))

    def restless(self: Backend) -> Iterator[str]:
        """Yield the VMs of which a volume runs or is damaged."""
        found = (one for one in self.volume_ids() if self.look(one).state not in AT_REST)
        yield from dict.fromkeys(split_id(one)[0] for one in found)

    def vms(self: Backend) -> Iterator[str]:
        """Yield the VMs that have volumes."""
        yield from dict.fromkeys(split_id(one)[0] for one in self.volume_ids())

    def id_of(self: Backend, attachment: Attachment, *, any_image: bool = False) -> str | None:  # noqa: ARG002
        """Compare it with each volume's."""
        return next((one for one in self.volume_ids() if self.attachment(one) == attachment), None)

    def is_image(self: Backend, path: str) -> bool:  # noqa: ARG002
        """Say no: no image is a file."""
        return False

    def capacity(self: Backend) -> Capacity:
        """Say that it is not known."""
        return Capacity(None, None, None)

    def room(self: Backend) -> tuple[int, int] | None:
        """Say that it is not known."""
        return None

    def verify(self: Backend, vm: str | None = None) -> Iterator[Finding]:  # noqa: ARG002
        """Find nothing."""
        return iter(())

    def accept(self: Backend, volume_id: str) -> tuple[int, ...]:  # noqa: ARG002
        """Accept nothing, for nothing is doubted."""
        return ()

    def wants_ahead(self: Backend, volume_id: str) -> str | None:  # noqa: ARG002
        """Want nothing."""
        return None

    def make_ahead(self: Backend, volume_id: str) -> int:  # noqa: ARG002
        """Make nothing."""
        return 0

    def settle(self: Backend, volume_id: str) -> View:
        """Look: no crash leaves anything half done."""
        return self.look(volume_id)

    def tidy(self: Backend, vm: str) -> None:
        """Nothing: no crash leaves anything behind."""

    def write(self: Backend, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Nothing: the VM wrote."""


# ---------------------------------------------------------------- what signals bring to a backend, and to subscribers


class Pool(Protocol):
    """A pool, as backends and subscribers meet it; `lifecycle.Pool` is one, and says more of each."""

    @property
    def path(self) -> str:
        """The pool's directory, absolute."""

    @property
    def identity(self) -> str:
        """The same, without symbolic links: two with the same are one pool."""

    @property
    def config(self) -> PoolConfig:
        """Its settings."""

    @property
    def backend(self) -> Backend:
        """What keeps its images."""

    def __iter__(self) -> Iterator[Volume]:
        """Yield all volumes."""

    def __getitem__(self, volume_id: str, /) -> Volume:
        """Return the volume of that id, which must be there."""

    def volume(self, volume_id: str) -> Volume:
        """Return the volume of that id, there or not."""

    def volumes(self, vm: str | None = None) -> Sequence[Volume]:
        """Return all volumes, or one VM's."""

    def capacity(self) -> Capacity:
        """Return what the pool has room for."""

    def settle(self, volume_id: str) -> View:
        """Finish or drop what a crash left half done, and return the volume as it is then; its VM is locked."""

    def changing(
        self, *volumes: Volume, create: bool = False, what: str | None = None
    ) -> AbstractContextManager[None]:
        """Lock the volumes' VMs while they go through transitions."""

    def locked(self, vm: str, *, create: bool = False) -> AbstractContextManager[None]:
        """Hold the VM's lock."""

    def tidy(self, vm: str) -> None:
        """Remove what crashes left behind in the VM and no one needs."""

    def make_ahead(self, volume_id: str) -> None:
        """Have the working images made ahead that the volume's next starts will want."""

    def policy_for(self, config: VolumeConfig) -> Policy:
        """Return the retention policy in force for a volume that is set up like this."""

    def progress(self, text: str) -> Progress | None:
        """Return what a copy is to call as it goes; None if no one watches."""


class Volume(Protocol):
    """A volume, as backends and subscribers meet it; `lifecycle.Volume` is one, and says more of each."""

    noticed: object
    """The run in which a write was noticed last (`View.run`)."""

    @property
    def pool(self) -> Pool:
        """Its pool."""

    @property
    def id(self) -> str:
        """Its id, `VM/NAME`."""

    @property
    def vm(self) -> str:
        """Its VM's name."""

    @property
    def name(self) -> str:
        """Its own name."""

    @property
    def path(self) -> str:
        """What a VM opens, in one word."""

    @property
    def attachment(self) -> Attachment:
        """What a hypervisor is given for its disk."""

    @property
    def state(self) -> State:
        """The state it is in."""

    @property
    def allowed(self) -> tuple[Event, ...]:
        """The events that the rulebook allows now."""

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Its revisions, oldest first."""

    @property
    def usage(self) -> int:
        """Bytes its images take on disk."""

    @property
    def in_use_by(self) -> tuple[Holder, ...]:
        """Who holds its image open."""

    def look(self) -> View:
        """Return the volume as it is now."""

    def require(self, view: View) -> View:
        """Return the view of a volume that exists."""

    def settle(self) -> View:
        """Finish or drop what a crash left half done; return the volume as it is then."""

    def size_in(self, view: View) -> int | None:
        """Return the bytes that the disk holds in this view of it."""

    def outdated_in(self, view: View) -> bool:
        """Tell whether it runs, in this view of it, on an image of its source that is no longer current."""

    def stop(self, *, discard: bool = False, reason: str | None = None) -> Change:
        """Keep or throw away what the VM wrote, by what kind of volume it is."""

    def tag(self, key: str, value: str | None, *, durable: bool = False) -> None:
        """Put a word to the working image."""

    def tagged(self, key: str) -> str | None:
        """Return the word that was put to the working image under this key."""
