"""What a subscriber of a pool's signals is to the pool that has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from lifecycle.backend import Pool, Volume


class Subscriber(Protocol):
    """What a pool connects to its signals when it is opened, and keeps as long as there is the pool.

    Its functions are called as the signals say (events.py): what it raises before an event vetoes it, what it raises
    after one is logged, and the event stands.
    """

    def connect(self, pool: Pool) -> None:
        """Connect functions to the signals of this pool (`sender=pool`), never to the imperative ones.

        One object may serve several pools; it is called for each of them, once.
        """


class Batching(Subscriber, Protocol):
    """A subscriber that does for several events at once what it would do after each, and waits for the disk once."""

    def batch(self, volumes: Sequence[Volume]) -> AbstractContextManager[None]:
        """Return a block within which events of these volumes, of its pools, are reported; then do what they ask for.

        Their VMs are locked until the block is left. Events of other volumes, which a subscriber may cause meanwhile,
        do not belong to it. What the block raises is logged; the events stand.
        """
