"""What a volume can tell of itself. Each answer is found by looking at that moment, takes no lock and never waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from lifecycle import ids
from lifecycle.backend import View
from lifecycle.model import Fixed, Revision
from lifecycle.states import RUNNING, Event, State

if TYPE_CHECKING:
    from lifecycle.config import Kind, VolumeConfig
    from lifecycle.engine.pool import Pool
    from lifecycle.errors import Holder


class VolumeTelling(Fixed):
    """The half of a volume that looks.

    Attributes:
        pool: the pool it lives in.
        id: `VM/NAME`.
        vm, name: the two parts of the id.
        noticed: the run (View.run) of which this object has sent `written`; None if of none.
    """

    __slots__ = ("__weakref__", "id", "name", "noticed", "pool", "vm")
    MAY_CHANGE = frozenset({"noticed"})

    def __init__(self, pool: Pool, volume_id: str) -> None:
        self.pool = pool
        self.id = volume_id
        self.vm, self.name = ids.split_id(volume_id)
        self.noticed: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Volume {self.id!r} in {self.pool.path!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VolumeTelling):
            return NotImplemented
        return (self.id, self.pool.path) == (other.id, other.pool.path)

    def __hash__(self) -> int:
        return hash((self.id, self.pool.path))

    # ------------------------------------------------------------ looking

    def look(self) -> View:
        """Return the volume as it is now, in one piece; the properties below each look anew."""
        return self.pool.backend.look(self.id)

    @property
    def state(self) -> State:
        """The state it is in."""
        return self.look().state

    @property
    def allowed(self) -> tuple[Event, ...]:
        """The events that the rulebook allows now, if no one holds its image open."""
        return self.look().allowed

    @property
    def config(self) -> VolumeConfig:
        """How it is set up."""
        return self.look().config

    @property
    def kind(self) -> Kind:
        """Persistent, disposable or volatile."""
        return self.config.kind

    @property
    def path(self) -> str:
        """The path of the working image, which is there while the volume is started: what a VM opens."""
        return self.pool.backend.path(self.id)

    @property
    def current(self) -> int | None:
        """The number of the current image; None for a disposable, which has none."""
        return self.look().current

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Its revisions, oldest first. The empty image, number 0, is not listed: it can always be had."""
        return self.pool.backend.revisions(self.id)

    @property
    def size(self) -> int | None:
        """Bytes the disk holds; None if not known."""
        return self.size_in(self.look())

    def size_in(self, view: View) -> int | None:
        """Return the bytes that the disk holds in this view of it; None if not known."""
        if view.size is not None or view.config.source is None:
            return view.size
        source = self.pool.backend.look(view.config.source).size
        return None if source is None else max(source, view.config.size or 0)

    @property
    def history(self) -> tuple[Revision, ...]:
        """Its revisions and the current image among them, oldest first."""
        return self.pool.backend.revisions(self.id, current=True)

    @property
    def usage(self) -> int:
        """Bytes its images take on disk, those they share counted once, those shared with others in full."""
        return self.pool.backend.usage(self.id)

    @property
    def source(self) -> Self | None:
        """The volume that each start begins from."""
        source = self.config.source
        return None if source is None else type(self)(self.pool, source)

    @property
    def outdated(self) -> bool:
        """Whether it runs on an image of its source that is no longer the source's current one."""
        return self.outdated_in(self.look())

    def outdated_in(self, view: View) -> bool:
        """Tell whether it runs, in this view of it, on an image of its source that is no longer current."""
        if view.state not in RUNNING or view.config.source is None:
            return False
        return self.pool.backend.look(view.config.source).current != view.begun

    @property
    def in_use_by(self) -> tuple[Holder, ...]:
        """Who holds its working image open, or its current one at rest."""
        return self.pool.backend.in_use_by(self.id)

    def tagged(self, key: str) -> str | None:
        """Return the word that was put to the working image under this key; None if none was, or it is not running."""
        return self.pool.backend.tagged(self.id, key)

    @property
    def left_over(self) -> bool:
        """Whether it has a working image that no one holds open."""
        return self.state in RUNNING and not self.in_use_by
