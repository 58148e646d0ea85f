"""Several volumes at once, of any VMs and pools: all of them start, stop or go, or none does.

All are checked and announced before the first one is done, so a refusal or a veto comes before anything has happened.
What fails after that is the file system: a start is then taken back; of a stop, those it failed for keep running, and
the caller is told which have stopped (`meanwhile`). All wait for the disk together (linux/durability.py), so many cost
hardly more than one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

from lifecycle.engine import plan, retention, wiring
from lifecycle.engine.transaction import Transition
from lifecycle.errors import LifecycleError, Refused, Unsupported, storage
from lifecycle.linux import durability
from lifecycle.model import Change
from lifecycle.states import AT_REST, Event

if TYPE_CHECKING:
    from lifecycle.backend import Pool
    from lifecycle.backend import Volume as AnyVolume
    from lifecycle.engine.volume import Volume

log = logging.getLogger("lifecycle.together")

Outcome = list[tuple["Volume", Change]]
"""What happened to each volume, in the order in which it did."""

Told = Callable[[Outcome], None]
"""What is called with what has happened."""

STARTED_BY = "started_by"
"""The tag on a working image that says who started the volume, and in which boot of the host."""


def start(
    volumes: Iterable[Volume],
    *,
    by: str | None = None,
    then: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Start all of these volumes, or none; durable when this returns.

    Args:
        volumes: of any pools.
        by: who starts them, for hosts that tell the start of a VM from its end only by its name. What another one has
            started since the host's boot, and not stopped, is refused even while no one has the image open yet.
        then: called with what was started while no one else can stop it yet; if it raises, none has started.

    Raises:
        Refused, InUse, Vetoed, StorageFailed: one of them could not start; none has.
        Unsupported: `by` is given, and this file system cannot note it.
    """
    wanted = list(dict.fromkeys(volumes))
    for pool in _pools(wanted):
        retention.make_room(pool)
    with changing(wanted):
        if by is not None:
            for volume in wanted:
                require_not_started_by_another(volume, by)
        transitions = [plan.plan(volume, Event.START) for volume in wanted]
        for transition in transitions:
            transition.announce()
        try:
            _do(transitions)
            if by is not None:
                for transition in transitions:
                    claim(transition.volume, by)
                    if not transition.facts.read_only:  # of whose runs nothing is noted
                        _require_claimed(transition.volume, by)
            if then is not None:
                then(outcome_of(transitions))
        except BaseException:
            _take_back([one for one in transitions if one.has_acted])
            raise
        return outcome_of(transitions)


def stop(
    volumes: Iterable[Volume],
    *,
    discard: bool = False,
    reason: str | None = None,
    meanwhile: Told | None = None,
) -> Outcome:
    """Stop all of these volumes, each as its kind says; durable when this returns.

    A refusal or a veto leaves all running. Should the file system fail for some, those keep running, with what was
    written; stop them again.

    Args:
        volumes: of any pools, all running.
        discard: throw away what was written, even by those that are saved on stop.
        reason: why, if not simply stopped.
        meanwhile: called with those that have stopped, before an error goes on.

    Raises:
        Refused: one of them is not running; all that ran are still running.
        InUse, Vetoed: one of them could not stop; all are still running.
        StorageFailed: the file system failed.
    """
    wanted = list(dict.fromkeys(volumes))
    with changing(wanted):
        planned = [plan.stop(volume, discard=discard, reason=reason) for volume in wanted]
        return run(planned, meanwhile)


def checkpoint(volumes: Iterable[Volume], *, meanwhile: Told | None = None) -> Outcome:
    """Keep what these volumes' VMs have written by now; durable when this returns.

    Args:
        volumes: of any pools, all running and saved on stop.
        meanwhile: called with those that are kept, before an error goes on.

    Raises:
        Refused: one of them is not running, or not saved on stop; nothing was kept.
        Vetoed: a subscriber objected; nothing was kept.
        Unsupported, StorageFailed: one of them could not be kept.
    """
    wanted = list(dict.fromkeys(volumes))
    with changing(wanted):
        return run([plan.plan(volume, Event.CHECKPOINT) for volume in wanted], meanwhile)


def remove(volumes: Iterable[Volume], *, meanwhile: Told | None = None) -> Outcome:
    """Remove these volumes with all their revisions; durable when this returns. A source goes after its disposables.

    Args:
        volumes: of any pools.
        meanwhile: called with those that are removed, before an error goes on.

    Raises:
        Refused: one of them is running, or the source of a volume that is to stay; nothing was removed.
        InUse: an image of one is held open; nothing was removed, unless it was opened only now.
        Vetoed: a subscriber objected; nothing was removed.
        StorageFailed: the file system failed.
    """
    wanted = list(dict.fromkeys(volumes))
    with changing(wanted):
        transitions = [
            plan.remove(volume, [one.id for one in wanted if one.pool is volume.pool])
            for volume in wanted
        ]
        transitions.sort(key=lambda one: one.facts.config.source is None)
        for transition in transitions:
            transition.announce()
        done: list[Transition] = []
        with _telling(done, meanwhile):
            for (
                transition
            ) in transitions:  # one by one, for what a crash leaves must have its source
                transition.run()
                done.append(transition)
        return outcome_of(done)


def run(transitions: Sequence[Transition], meanwhile: Told | None = None) -> Outcome:
    """Announce all, then run all: an objection to one stops all before anything has happened.

    What has happened is told to `meanwhile` before an error goes on.
    """
    for transition in transitions:
        transition.announce()
    done: list[Transition] = []
    with _telling(done, meanwhile):
        try:
            _do(transitions)
        finally:
            done += [one for one in transitions if one.has_acted]
    return outcome_of(done)


@contextmanager
def _telling(done: Sequence[Transition], meanwhile: Told | None) -> Iterator[None]:
    """Tell what has happened inside the block before an error in it goes on."""
    try:
        yield
    except BaseException:
        if done and meanwhile is not None:
            meanwhile(outcome_of(done))
        raise


def _do(transitions: Sequence[Transition]) -> None:
    """Do all that was announced, sharing each wait for the disk.

    Raises:
        LifecycleError: in the end, the first failure of any.
    """
    # an image that was opened since it was announced is met before the first flush, and then none of them happens
    failures = durability.take_all(
        [transition.act() for transition in transitions], all_or_none=True
    )
    from_outside: BaseException | None = None
    with wiring.batch(cast("Volume", one.volume) for one in transitions):
        for transition, failure in zip(transitions, failures, strict=True):
            if failure is None:
                try:
                    transition.run()  # which only tells of it
                except BaseException as error:  # noqa: BLE001 - of the others must be told too
                    from_outside = from_outside or error
    if from_outside is not None:
        raise from_outside
    for failure in failures:
        if failure is not None:
            raise failure


def outcome_of(transitions: Sequence[Transition]) -> Outcome:
    """Return what transitions that have run did."""
    return [(cast("Volume", one.volume), one.change) for one in transitions if one.change]


@contextmanager
def changing(volumes: Sequence[Volume]) -> Iterator[None]:
    """Lock the volumes' VMs, pool by pool, in the same order in every process."""
    with ExitStack() as held:
        for pool in _pools(volumes):
            held.enter_context(pool.changing(*(one for one in volumes if one.pool is pool)))
        yield


@contextmanager
def locked(vms: Iterable[tuple[Pool, str]]) -> Iterator[None]:
    """Hold the locks of these VMs, taken in the same order as by `changing`.

    For who looks at them first, to tell what is to be done: what is seen inside the block holds until that is done.
    """
    with ExitStack() as held:
        found = {(pool.identity, vm): pool for pool, vm in vms}
        for (_identity, vm), pool in sorted(found.items(), key=lambda one: one[0]):
            with storage(vm, "lock"):
                held.enter_context(pool.locked(vm))
        yield


def claim(volume: AnyVolume, by: str) -> None:
    """Note on a running volume who started it.

    Raises:
        NoSuchVolume: it is not running. StorageFailed: the file system failed.
    """
    volume.tag(STARTED_BY, f"{_boot()} {by}")


def _require_claimed(volume: AnyVolume, by: str) -> None:
    if started_by(volume) != by:
        raise Unsupported(
            f"{volume.pool.path}: this file system has no extended attributes, by which the hook"
            " knows whose volumes are whose"
        )


def let_go(volume: AnyVolume) -> None:
    """Note on a running volume that whoever started it is gone: it is left over, for anyone to start.

    Raises:
        NoSuchVolume: it is not running. StorageFailed: the file system failed.
    """
    _boot_then, _, who = (volume.tagged(STARTED_BY) or "").partition(" ")
    volume.tag(STARTED_BY, f"- {who}")


def started_by(volume: AnyVolume) -> str | None:
    """Return who started the volume, if they said so since the host's boot; None else."""
    boot, _, who = (volume.tagged(STARTED_BY) or "").partition(" ")
    return who if boot == _boot() else None


def require_not_started_by_another(volume: AnyVolume, by: str) -> None:
    """Check that no one else has started the volume since the host's boot, and not stopped it.

    Raises:
        Refused: someone has, who is named.
    """
    other = started_by(volume)
    if other is not None and other != by:
        raise Refused(
            volume.id,
            volume.state,
            Event.START,
            f"{other} has started it and not stopped it yet; if that is gone, `lifecycle stop {volume.id}`"
            " keeps what it wrote, with --discard it does not",
        )


def _pools(volumes: Iterable[Volume]) -> list[Pool]:
    found = {id(volume.pool): volume.pool for volume in volumes}
    return sorted(found.values(), key=lambda pool: pool.identity)


def _take_back(started: Sequence[Transition]) -> None:
    """Release what was started from rest, the last one first."""
    for transition in reversed(started):
        if transition.facts.state not in AT_REST:
            continue  # it was left over before, and is again
        try:
            plan.plan(transition.volume, Event.RELEASE).run()
        except LifecycleError:
            log.exception("%s: could not be released again", transition.volume.id)


def _boot() -> str:
    """Return what tells this boot of the host from every other (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
        return boot.read().strip()
