"""A VM: the volumes in one directory of a pool, which start and stop together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle import ids
from lifecycle.engine import batch, plan
from lifecycle.engine.batch import Outcome
from lifecycle.engine.volume import Volume
from lifecycle.errors import NoSuchVolume, Refused
from lifecycle.model import Fixed
from lifecycle.states import Event

if TYPE_CHECKING:
    from lifecycle.engine.pool import Pool


class VM(Fixed):
    """The volumes of one VM. Get it from its pool: `pool.vm("ci-42")`.

    Attributes:
        pool: the pool it lives in.
        name: its directory in the pool.
    """

    __slots__ = ("name", "pool")

    def __init__(self, pool: Pool, name: str) -> None:
        ids.check_vm(name)
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
        return batch.start(self._require_volumes())

    def stop(self, *, discard: bool = False, reason: str | None = None) -> Outcome:
        """Stop all volumes that run, each as its kind says; durable when this returns.

        All are checked and announced before the first one stops, so a refusal or a veto leaves all running. Should
        the file system fail for some, those keep running, with what was written; stop again.

        Args:
            discard: throw away what was written, even by those that are saved on stop.
            reason: why, if not simply stopped.

        Raises:
            NoSuchVolume: it has no volumes.
            Refused: none of them is running; or the working image of one is in doubt, and not to be discarded.
            InUse, Vetoed: one of them could not stop; all are still running.
            StorageFailed: the file system failed.
        """
        with self.pool.changing(*self._require_volumes()):
            return batch.run(
                [plan.stop(volume, discard=discard, reason=reason) for volume in self.to_stop()]
            )

    def to_stop(self) -> list[Volume]:
        """Return the volumes that a stop now would stop. Who means to stop them locks the VM before.

        Raises:
            NoSuchVolume: it has no volumes. Refused: none of them is running.
        """
        views = [(volume, volume.look()) for volume in self._require_volumes()]
        running = [volume for volume, view in views if view.may_run or view.in_doubt]
        if not running:
            raise Refused(self.name, "at rest", "stop", "none of its volumes is running")
        return running

    def checkpoint(self) -> Outcome:
        """Keep what has been written by now, of each volume that runs and is saved on stop; durable.

        Each is of its own moment: they are crash-consistent one by one, not together.

        Raises:
            NoSuchVolume: it has no volumes.
            Refused: none of them is running and saved on stop.
            Vetoed, Unsupported, StorageFailed: one of them could not be kept.
        """
        with self.pool.changing(*self._require_volumes()):
            return batch.run([plan.plan(one, Event.CHECKPOINT) for one in self.to_checkpoint()])

    def to_checkpoint(self) -> list[Volume]:
        """Return the volumes that a checkpoint now would keep. Who means to keep them locks the VM before.

        Raises:
            NoSuchVolume: it has no volumes. Refused: none of them is running and saved on stop.
        """
        views = [(volume, volume.look()) for volume in self._require_volumes()]
        running = [volume for volume, view in views if view.running and view.saves]
        if not running:
            raise Refused(
                self.name,
                "at rest",
                Event.CHECKPOINT,
                "none of its volumes is running and saved on stop",
            )
        return running

    def _require_volumes(self) -> list[Volume]:
        volumes = self.volumes
        if not volumes:
            raise NoSuchVolume(self.name, self.pool.path)
        return volumes
