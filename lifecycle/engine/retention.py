"""Retention at work: a subscriber that prunes after each commit, and the removal of revisions by hand.

The decision is policies.py's, pure; here it is carried out, one revision after the other, each announced by
`pruning` (which may veto it), done by `prune`, reported by `pruned`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lifecycle import events, times
from lifecycle.engine import reserve, transaction
from lifecycle.engine.plan import require_whole, require_writable
from lifecycle.errors import (
    InvalidPolicy,
    LifecycleError,
    Locked,
    NoSuchRevision,
    NoSuchVolume,
    PluginFailed,
    Refused,
    StorageFailed,
    Vetoed,
)
from lifecycle.linux import durability
from lifecycle.linux.fork_safety import ThreadState
from lifecycle.model import Change
from lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.model import View
    from lifecycle.policies import Plan

log = logging.getLogger("lifecycle.retention")

_PAUSES = 10
_PAUSE_SECONDS = 0.01


class Retention:
    """Prunes a volume after each commit. The commit stands whatever happens here (events.tell)."""

    def __init__(self) -> None:
        self._this_thread = _ThisThread()

    def connect(self, pool: Pool) -> None:
        """Subscribe to `committed` of this pool."""
        events.committed.connect(self.after_commit, sender=pool)

    def after_commit(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """Prune the volume, or let `batch` do it; a policy that cannot be used prunes nothing."""
        waiting = self._this_thread.waiting
        if volume in waiting:
            waiting[volume] = True
            return
        try:
            _remove_all([(volume, change) for change in _announced(volume)])
        except (InvalidPolicy, PluginFailed) as error:
            log.error("%s: nothing is pruned: %s", volume.id, error)

    @contextmanager
    def batch(self, volumes: Iterable[Volume]) -> Iterator[None]:
        """Prune those of these volumes that are committed within the block at its end, waiting for the disk once.

        Others, which a subscriber commits meanwhile, are pruned at once: at the end no one holds their VMs' locks.
        What cannot be pruned is logged; the commits stand.
        """
        around = self._this_thread.waiting
        waiting = self._this_thread.waiting = dict.fromkeys(volumes, False)
        try:
            yield
        finally:
            self._this_thread.waiting = around
            announced = []
            for volume in (one for one, was_committed in waiting.items() if was_committed):
                try:
                    announced += [(volume, change) for change in _announced(volume)]
                except Exception:
                    log.exception("%s: nothing is pruned", volume.id)
            try:
                _remove_all(announced)
            except LifecycleError:
                log.exception("not all is pruned; the next commit tries again")


class _ThisThread(ThreadState):
    """What a thread is at.

    Attributes:
        waiting: the volumes that `batch` is about, and whether each was committed, to be pruned at its end.
    """

    def __init__(self) -> None:
        self.waiting: dict[Volume, bool] = {}


def plan_of(volume: Volume) -> Plan:
    """Return what the policy makes of the volume's revisions now, as `Volume.plan` says. Nothing is removed."""
    view = volume.require(volume.look())
    if view.state is State.DAMAGED:
        raise Refused(volume.id, view.state, "prune", view.damage or "", view.allowed)
    policy, revisions = volume.pool.policy_for(view.config), volume.revisions
    volume.require(volume.look())  # whoever removed it meanwhile left no revisions to plan by
    return policy.plan(revisions, times.now())


def prune(volume: Volume) -> Plan:
    """Remove what the volume's policy does not keep, and return the plan; durable when this returns.

    What a subscriber of `pruning` objects to stays, until the next time.
    """
    with volume.pool.changing(volume):
        view = require_whole(volume, "prune")
        plan = volume.pool.policy_for(view.config).plan(volume.revisions, times.now())
        _remove_all([(volume, change) for change in _announce(volume, view, plan)])
        return plan


def _announced(volume: Volume) -> list[Change]:
    """Plan, announce what is to be removed, and return that; the revisions are not even looked at if all stay."""
    view = volume.require(volume.pool.settle(volume.id))
    if view.state is State.DAMAGED:  # what it is to keep, and what is pinned, cannot be known
        log.error("%s: nothing is pruned: it is damaged: %s", volume.id, view.damage)
        return []
    policy = volume.pool.policy_for(view.config)
    if policy.keeps_all:
        return []
    return _announce(volume, view, policy.plan(volume.revisions, times.now()))


def _announce(volume: Volume, view: View, plan: Plan) -> list[Change]:
    """Announce what is to be removed, and return that."""
    announced = []
    for number in plan.remove:
        change = Change("prune", view.state, view.state, times.now(), None, number)
        try:
            transaction.announce(volume, change)
        except Vetoed as veto:
            log.warning("%s: revision %d stays: %s", volume.id, number, veto.reason)
        else:
            announced.append(change)
    return announced


def remove_one(volume: Volume, number: int, *, reason: str) -> None:
    """Lock the VM and remove one revision, if it is still there, and neither current nor pinned nor needed.

    Raises:
        Vetoed: a subscriber objected. Locked: another process did not finish in time.
    """
    with volume.pool.changing(volume):
        view = volume.pool.settle(volume.id)
        is_whole = view.state is not State.DAMAGED
        found = {one.number: one for one in volume.revisions} if is_whole else {}
        one = found.get(number)
        if one is not None and not (one.current or one.pinned or one.needed):
            _remove(volume, Change("prune", view.state, view.state, times.now(), reason, number))


def forget(volume: Volume, numbers: Iterable[int]) -> None:
    """Remove these revisions; durable when this returns.

    Raises:
        NoSuchRevision, Refused: one cannot be removed; none was.
        Vetoed: a subscriber objected to one.
    """
    with volume.pool.changing(volume):
        remove_revisions(volume, numbers, reason="forget")


def remove_revisions(volume: Volume, numbers: Iterable[int], *, reason: str | None = None) -> None:
    """Remove these revisions of a volume whose VM this thread has locked, as it is while signals are sent.

    So a subscriber of `committed` can prune, to whom `Volume.forget` is refused in the middle of the commit. Durable
    when this returns.

    Args:
        volume: the volume.
        numbers: its revisions.
        reason: why, for those who are told of each.

    Raises:
        NoSuchRevision, Refused: one cannot be removed; none was.
        Vetoed: a subscriber objected to one.
    """
    view = require_whole(volume, "forget")
    require_writable(volume, view, "forget")
    revisions = {one.number: one for one in volume.revisions}
    wanted = sorted(set(numbers))
    for number in wanted:
        if number == view.current and not (number and number in revisions):
            raise Refused(volume.id, view.state, f"forget {number}", "it is what the volume holds")
        if number not in revisions:
            raise NoSuchRevision(volume.id, number, view.numbers)
        reasons = {
            "it is pinned; unpin it first": revisions[number].pinned,
            "it is what the volume holds": revisions[number].current,
            "other images are built upon it": revisions[number].needed,
        }
        for why, holds in reasons.items():
            if holds:
                raise Refused(volume.id, view.state, f"forget {number}", why)
    for number in wanted:
        _remove(volume, Change("prune", view.state, view.state, times.now(), reason, number))


def _remove(volume: Volume, change: Change) -> None:
    transaction.announce(volume, change)
    _remove_all([(volume, change)])


def _remove_all(announced: Sequence[tuple[Volume, Change]]) -> None:
    """Remove revisions whose removal was announced, waiting for the disk once.

    Raises:
        LifecycleError: in the end, the first failure of any.
    """
    failures = durability.take_all(
        [transaction.steps(volume, change) for volume, change in announced]
    )
    for (volume, change), failure in zip(announced, failures, strict=True):
        if failure is None:
            transaction.report(volume, change)
    for failure in failures:
        if failure is not None:
            raise failure


# ---------------------------------------------------------------- for the reserve


def make_room(pool: Pool) -> list[tuple[str, int]]:
    """Remove revisions, the oldest first, until the pool has its reserve; return the ids and numbers removed.

    Does so only if the pool's `prune_for_reserve` says so, and never removes what retention may not touch: pinned,
    current and needed revisions, and those from the future. No lock is held when this is called.
    """
    if not pool.config.prune_for_reserve or not (lacking := reserve.missing(pool)):
        return []
    removed: list[tuple[str, int]] = []
    used = pool.capacity().usage
    enough = None if used is None else used - lacking
    for volume, number in _removable(pool):
        if not _is_missing_still(pool, enough, after_removal=bool(removed)):
            break
        try:
            remove_one(volume, number, reason="reserve")
        except (Vetoed, Locked, StorageFailed, NoSuchVolume) as reason:
            log.warning("%s: revision %d stays: %s", volume.id, number, reason)
        else:
            removed.append((volume.id, number))
    return removed


def _is_missing_still(pool: Pool, enough: int | None, *, after_removal: bool) -> bool:
    """Tell whether the pool lacks room, giving the file system a moment to free what was just removed.

    XFS frees a file's blocks in the background, some milliseconds after its last name is gone. What an embedded pool
    frees comes back to the disk below later still; no more is removed than that disk lacked.

    Args:
        pool: the pool.
        enough: bytes used in the pool from which on enough was removed; None if not known.
        after_removal: whether something was removed.
    """
    for _pause in range(_PAUSES if after_removal else 0):
        if _has_room(pool, enough):
            return False
        time.sleep(_PAUSE_SECONDS)
    return not _has_room(pool, enough)


def _has_room(pool: Pool, enough: int | None) -> bool:
    if not reserve.missing(pool):
        return True
    used = pool.capacity().usage
    return used is not None and enough is not None and used <= enough


def _that_can_be_looked_at(pool: Pool) -> Iterator[Volume]:
    """Yield the pool's volumes, but for those in directories that cannot be listed."""
    with contextlib.suppress(StorageFailed):
        yield from pool


def _removable(pool: Pool) -> list[tuple[Volume, int]]:
    """Return all revisions that may be removed at need, the oldest first."""
    from lifecycle import policies  # noqa: PLC0415 - seldom needed

    nothing = policies.parse("last 0")
    found = []
    for volume in _that_can_be_looked_at(pool):
        with contextlib.suppress(StorageFailed):
            if volume.state is State.DAMAGED:
                continue  # its revisions are the way back
            at = {one.number: one.at for one in volume.revisions}
            numbers = nothing.plan(volume.revisions, times.now()).remove
            found += [(at[number], number, volume) for number in numbers if number in at]
    found.sort(key=lambda one: one[:2])
    return [(volume, number) for _at, number, volume in found]
