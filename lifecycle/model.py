"""What every room speaks of: views of volumes, revisions, changes, findings. No input, no output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from lifecycle.config import DEFAULT_CONFIG, CrashPolicy, VolumeConfig
from lifecycle.errors import Holder
from lifecycle.states import AT_REST, RUNNING, Event, State, allowed


class Fixed:
    """What subscribers are handed and others go on with: an attribute, once it has its value, keeps it."""

    __slots__ = ()
    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self.MAY_CHANGE and hasattr(self, name):
            raise AttributeError(f"`{name}` of a {type(self).__name__} cannot be changed")
        super().__setattr__(name, value)


class Revision(NamedTuple):
    """An earlier content of a volume.

    Attributes:
        number: never used twice in the volume's life; the order of revisions is that of their numbers.
        at: when it was made (UTC).
        cause: the event that made it (`commit`, `checkpoint`, `import`, `resize`…), or the reason given with it
            (`crash`); None if not known.
        size: bytes the disk holds; None if not known.
        pinned: whether retention leaves it alone.
        label: a person's words for it.
        current: whether it is the current image too, after a revert to it.
        needed: whether the backend needs it, for other images are built upon it.
    """

    number: int
    at: datetime
    cause: str | None = "commit"
    size: int | None = None
    pinned: bool = False
    label: str | None = None
    current: bool = False
    needed: bool = False


class Change(NamedTuple):
    """One transition, as the signals carry it.

    Attributes:
        event: the event.
        source: the state before.
        dest: the state after.
        at: when it was announced (UTC).
        reason: why, in a word, where one was given (`crash`).
        revision: the number it is about; which, the signal's docstring says.
        asked: what else was asked for: `size` (bytes), `config`, `content`…
    """

    event: str
    source: State
    dest: State
    at: datetime
    reason: str | None = None
    revision: int | None = None
    asked: Mapping[str, Any] = MappingProxyType({})

    def __reduce__(self) -> tuple[Any, ...]:
        # what keeps `asked` from being changed cannot be sent to another process by itself
        return _change, (*self[:-1], dict(self.asked))

    @property
    def cause(self) -> str:
        """What is written down as the cause of the image it makes."""
        return self.reason or str(self.event)


def _change(*fields: Any) -> Change:
    """Return a change that was taken apart to be copied or sent."""
    return Change(*fields[:-1], asked=MappingProxyType(fields[-1]))  # type: ignore[misc]  # fields in their order


class Note(NamedTuple):
    """What is known of one image beyond its file: only what differs from a plain commit is written.

    Attributes:
        cause: what made it; None if that is not known.
        pinned: whether retention leaves it alone.
        label: a person's words for it.
    """

    cause: str | None = "commit"
    pinned: bool = False
    label: str | None = None


CRASH = "crash"
"""The cause of an image that a crash left over."""
PLAIN = Note()


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
    run: object = None
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

    def goes_back_to(self, event: str, source: State, to: int | None) -> int | None:
        """Return the number that an event takes a running volume back to, past what a stop would keep of the run.

        None for all other events. A stop that is advised first could prune that number.
        """
        if event != Event.REVERT or source not in RUNNING or not self.saves:
            return None
        return self.current if to is None else to

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


class Attached(StrEnum):
    """What kind of thing a hypervisor is given for a disk."""

    FILE = "file"
    BLOCK = "block"
    """A block device of this host."""
    NETWORK = "network"
    """Something that the hypervisor itself reaches, by a protocol that it speaks."""


class Attachment(NamedTuple):
    """What a hypervisor is given for a volume's disk.

    Attributes:
        kind: what kind of thing it is.
        name: of a file or block device its path, absolute; of a network disk the name that its protocol knows it by
            (`rbd`: `POOL/NAMESPACE/IMAGE` or `POOL/IMAGE`; `nbd`: the export).
        protocol: of a network disk, as QEMU and libvirt call it: `rbd`, `nbd`…; None of others.
        hosts: where a network disk is reached, as `HOST:PORT` or the path of a socket; empty if the protocol's own
            configuration says it.
        options: what else the protocol is to be told, by QEMU's names (`rbd`: `conf`, `id`), with their values; and
            `secret`, the UUID of the secret that libvirt has the user's key in.
    """

    kind: Attached
    name: str
    protocol: str | None = None
    hosts: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return a path, or for a network disk what QEMU takes in the place of one.

        That is `rbd:POOL/IMAGE:KEY=VALUE…` for Ceph, and else a URL: `nbd://HOST:PORT/NAME`, or
        `nbd+unix:///NAME?socket=PATH`.
        """
        if self.protocol is None:
            return self.name
        if self.protocol == _RBD:
            monitors = (("mon_host", ";".join(self.hosts)),) if self.hosts else ()
            said = [one for one in self.options if one[0] != "secret"]
            told = [f"{key}={_escaped(value)}" for key, value in (*said, *monitors)]
            return ":".join([_RBD, _escaped(self.name), *told])
        from urllib.parse import quote, urlencode  # noqa: PLC0415 - slow to load, and seldom needed

        host, options = next(iter(self.hosts), ""), dict(self.options)
        scheme = self.protocol
        if host.startswith("/"):
            scheme, host, options = f"{scheme}+unix", "", {"socket": host, **options}
        query = f"?{urlencode(options, safe='/', quote_via=quote)}" if options else ""
        return f"{scheme}://{host}/{quote(self.name)}{query}"


_RBD = "rbd"


def _escaped(text: str) -> str:
    """Return a text as it stands in QEMU's name of a disk on Ceph, where some characters part its fields."""
    return "".join(f"\\{one}" if one in "\\:;@=" else one for one in text)


class Surveyed(NamedTuple):
    """What a list of volumes shows of one.

    Attributes:
        id: the volume's id.
        view: the volume.
        usage: bytes that its images take, as `Backend.usage` counts them.
        in_use_by: who holds the working image open, or the current one at rest, as far as one look at all of them
            shows; None if that cannot be asked.
        is_volume: whether it is one; else it is a directory that cannot be listed, by the name of its VM, and damaged.
    """

    id: str
    view: View
    usage: int
    in_use_by: Sequence[Holder] | None
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
