"""A VM: the volumes in one directory of a pool, which start and stop together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lifecycle import names, planning, room
from lifecycle.change import Change
from lifecycle.errors import LifecycleError, NoSuchVolume, Refused
from lifecycle.states import AT_REST, RUNNING, Event
from lifecycle.transition import Transition
from lifecycle.volume import Volume

if TYPE_CHECKING:
    from lifecycle.pool import Pool

log = logging.getLogger("lifecycle.vm")

Outcome = list[tuple[Volume, Change]]
"""What happened to each volume, in the order in which it did."""


class VM:
    """The volumes of one VM. Get it from its pool: `pool.vm("ci-42")`.

    Attributes:
        pool: the pool it lives in.
        name: its directory in the pool.
    """

    __slots__ = ("name", "pool")

    def __init__(self, pool: Pool, name: str) -> None:
        names.check_vm(name)
        self.pool = pool
        self.name = name

    def __repr__(self) -> str:
        return f"<VM {self.name!r} in {self.pool.path!r}>"

    @property
    def volumes(self) -> list[Volume]:
        """Its volumes, in the order of their names."""
        return self.pool.volumes(self.name)

    def start(self) -> Outcome:
        """Start all volumes, or none; durable when this returns.

        All are checked and announced before the first one starts. If one then fails, those started before it are
        released again.

        Raises:
            NoSuchVolume: it has no volumes.
            Refused, InUse, Vetoed, StorageFailed: one of them could not start; none has.
        """
        volumes = self._require_volumes()
        room.make(self.pool)
        with self.pool.changing(*volumes):
            transitions = [planning.plan(volume, Event.START) for volume in volumes]
            for transition in transitions:
                transition.announce()
            started: list[Transition] = []
            try:
                for transition in transitions:
                    transition.run()
                    started.append(transition)
            except BaseException:
                _take_back(started)
                raise
            return _outcome(transitions)

    def stop(self, *, discard: bool = False, reason: str | None = None) -> Outcome:
        """Stop all volumes that run, each as its kind says; durable when this returns.

        All are checked and announced before the first one stops, so a refusal or a veto leaves all running. Should
        the file system fail half-way, the rest keep running, with what was written; stop again.

        Args:
            discard: throw away what was written, even by those that are saved on stop.
            reason: why, if not simply stopped.

        Raises:
            NoSuchVolume: it has no volumes.
            Refused: none of them is running.
            InUse, Vetoed: one of them could not stop; all are still running.
            StorageFailed: the file system failed.
        """
        volumes = self._require_volumes()
        with self.pool.changing(*volumes):
            running = [volume for volume in volumes if volume.state in RUNNING]
            if not running:
                raise Refused(self.name, "at rest", "stop", "none of its volumes is running")
            return _run_together(
                [planning.stop(volume, discard=discard, reason=reason) for volume in running]
            )

    def checkpoint(self) -> Outcome:
        """Keep what has been written by now, of each volume that runs and is saved on stop; durable.

        Each is of its own moment: they are crash-consistent one by one, not together.

        Raises:
            NoSuchVolume: it has no volumes.
            Refused: none of them is running and saved on stop.
            Vetoed, Unsupported, StorageFailed: one of them could not be kept.
        """
        volumes = self._require_volumes()
        with self.pool.changing(*volumes):
            views = [(volume, volume.look()) for volume in volumes]
            running = [volume for volume, view in views if view.running and view.saves]
            if not running:
                raise Refused(
                    self.name,
                    "at rest",
                    Event.CHECKPOINT,
                    "none of its volumes is running and saved on stop",
                )
            return _run_together([planning.plan(one, Event.CHECKPOINT) for one in running])

    def _require_volumes(self) -> list[Volume]:
        volumes = self.volumes
        if not volumes:
            raise NoSuchVolume(self.name, self.pool.path)
        return volumes


def _run_together(transitions: list[Transition]) -> Outcome:
    """Announce all, then run all: an objection to one stops all before anything has happened."""
    for transition in transitions:
        transition.announce()
    for transition in transitions:
        transition.run()
    return _outcome(transitions)


def _take_back(started: list[Transition]) -> None:
    """Release what was started from rest, the last one first."""
    for transition in reversed(started):
        if transition.facts.state not in AT_REST:
            continue  # it was left over before, and is again
        try:
            planning.plan(transition.volume, Event.RELEASE).run()
        except LifecycleError:
            log.exception("%s: could not be released again", transition.volume.id)


def _outcome(transitions: list[Transition]) -> Outcome:
    return [(one.volume, one.change) for one in transitions if one.change is not None]
