"""`start`, `stop`, `checkpoint` and `revert`: what each does, and the line it prints for each volume.

A host calls the first two at each start and stop of a VM: nothing is loaded here that they do not need.
"""

from __future__ import annotations

from functools import partial

from lifecycle import events
from lifecycle.cli.session import WrongUsage, print_line
from lifecycle.engine import batch
from lifecycle.engine.vm import VM
from lifecycle.errors import shown
from lifecycle.states import RUNNING, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifecycle.backend import Volume as AnyVolume
    from lifecycle.cli.session import Session
    from lifecycle.engine.batch import Outcome
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.volume import Volume
    from lifecycle.model import Change


def start(session: Session, targets: Sequence[str]) -> None:
    """Start volumes, or all volumes of VMs: all of them, or none; say where their working images are."""
    say(session, batch.start(session.volumes(targets)))


def stop(session: Session, targets: Sequence[str], *, discard: bool = False) -> None:
    """Stop volumes, or all running volumes of VMs: all of them, or none; say what became of what was written."""
    found = session.targets(targets)
    with batch.locked(map(_vm_of, found)):  # so that what runs is what is stopped
        volumes = _each(found, VM.to_stop)
        outcome = batch.stop(volumes, discard=discard, meanwhile=partial(say_meanwhile, session))
    say(session, outcome)


def checkpoint(session: Session, targets: Sequence[str]) -> None:
    """Keep what running volumes, or VMs, have written by now: of all of them, or of none; say as which revisions."""
    found = session.targets(targets)
    with batch.locked(map(_vm_of, found)):
        volumes = _each(found, VM.to_checkpoint)
        outcome = batch.checkpoint(volumes, meanwhile=partial(say_meanwhile, session))
    say(session, outcome)


def _vm_of(target: Volume | VM) -> tuple[Pool, str]:
    """Return the VM that the target is, or that it belongs to, by its pool and its name."""
    return target.pool, target.name if isinstance(target, VM) else target.vm


def _each(targets: Sequence[Volume | VM], of_vm: Callable[[VM], list[Volume]]) -> list[Volume]:
    """Return the volumes that these targets are, each once; `of_vm` says which of a VM's."""
    found = [of_vm(one) if isinstance(one, VM) else [one] for one in targets]
    return list(dict.fromkeys(volume for several in found for volume in several))


def revert(session: Session, targets: Sequence[str], *, to: str | None = None) -> None:
    """Take the volume that is the one target back to a revision (a number, or `empty`); say to which.

    Raises:
        WrongUsage: `to` is no such word.
    """
    (address,) = targets
    number = None
    if to is not None:
        is_number = to.isascii() and to.isdecimal() and len(to) <= _DIGITS
        if to != "empty" and not is_number:
            raise WrongUsage(f"--to is a revision's number or `empty`, not {shown(to)}.")
        number = 0 if to == "empty" else int(to)
    volume = session.volume(address)
    events.reverted.connect(_tell_what_went_first, sender=volume.pool)
    say(session, [(volume, volume.revert(number))], single=True)


def _tell_what_went_first(_pool: Pool, *, volume: Volume, change: Change) -> None:
    """Say that a running volume has lost what was written, on its way to a revision."""
    if change.source in RUNNING and change.asked.get("to") is not None:
        tell_line(
            f"{volume.id} was {change.source}, and no one had its image open: what was written since its start"
            " is thrown away"
        )


_DIGITS = 18
"""More than the number of any revision has."""


def say(session: Session, outcome: Outcome, *, single: bool = False) -> None:
    """Say what happened to each volume; as JSON the volumes as they are now, or the one there is."""
    found = []
    if session.as_json:
        from lifecycle.report import documents  # noqa: PLC0415 - only here

        found = [documents.of_volume(volume) for volume, _change in outcome]
    session.say(
        found[0] if single and found else found,
        *(line(volume, change) for volume, change in outcome),
    )


def say_meanwhile(session: Session, outcome: Outcome) -> None:
    """Say what has happened all the same, before an error is said; the one JSON document there will be is that."""
    for volume, change in outcome:
        (tell_line if session.as_json else print_line)(line(volume, change))


def tell_line(text: str) -> None:
    """Say something on the way, on stderr."""
    print_line(f"lifecycle: {text}", on_stderr=True)


def line(volume: AnyVolume, change: Change) -> str:
    """Say in a line what happened to a volume."""
    return f"{volume.id}: {_WORDS[Event(change.event)](volume, change)}"


def _reverted(_volume: AnyVolume, change: Change) -> str:
    if change.revision is None:
        return "reverted: what was written is thrown away"
    return f"reverted to {change.revision}{' (empty)' if change.revision == 0 else ''}"


_WORDS: dict[Event, Callable[[AnyVolume, Change], str]] = {
    Event.START: lambda volume, _change: f"started, at {volume.path}",
    Event.RELEASE: lambda _volume, change: (
        f"released: nothing was written; {change.dest} as before"
    ),
    Event.COMMIT: lambda _volume, change: f"committed as {change.revision}",
    Event.CHECKPOINT: lambda _volume, change: f"checkpoint kept as revision {change.revision}",
    Event.REVERT: _reverted,
    Event.REMOVE: lambda _volume, _change: "removed",
}
