"""One row of the table in scenes.py."""

from __future__ import annotations

from dataclasses import dataclass

from crash.situations import (
    ID,
    Step,
)


@dataclass(frozen=True)
class Scene:
    """One row.

    Attributes:
        name: what happens; its first word is the event.
        prepare: leads to the situation.
        act: the event.
        before, after: the volume, in words.
        again: what a user does to come to the end after the event was cut off; by default the same again.
        volume: the id of the volume that `before` and `after` are of.
        pool: settings of the pool.
        guest: whether a guest writes to the working image just before, and flushes some of it.
        dissolves: whether the event takes the volume apart, one revision after the other.
    """

    name: str
    prepare: Step
    act: Step
    before: str
    after: str
    again: Step | None = None
    volume: str = ID
    pool: tuple[tuple[str, object], ...] = ()
    guest: bool = False
    dissolves: bool = False

    @property
    def event(self) -> str:
        """The event in one word."""
        return self.name.split()[0].rstrip(",")
