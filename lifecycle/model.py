"""What lists and signals carry: a volume's revisions, and the changes it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from lifecycle.states import State


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
