"""What `start` and `stop` do, and the line that is said of what happened to a volume.

A host calls these two at each start and stop of a VM: nothing is loaded here that they do not need.
"""

from __future__ import annotations

from lifecycle import together
from lifecycle.states import Event
from lifecycle.vm import VM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifecycle.change import Change
    from lifecycle.session import Session
    from lifecycle.together import Outcome
    from lifecycle.volume import Volume


def start(session: Session, targets: Sequence[str]) -> None:
    """Start volumes, or all volumes of VMs: all of them, or none; say where their working images are."""
    say(session, together.start(session.volumes(targets)))


def stop(session: Session, targets: Sequence[str], *, discard: bool) -> None:
    """Stop volumes, or all running volumes of VMs, target by target; say what became of what was written."""
    outcome: Outcome = []
    for target in session.targets(targets):
        outcome += (
            target.stop(discard=discard)
            if isinstance(target, VM)
            else [(target, target.stop(discard=discard))]
        )
    say(session, outcome)


def say(session: Session, outcome: Outcome, *, single: bool = False) -> None:
    """Say what happened to each volume; as JSON the volumes as they are now, or the one there is."""
    found = []
    if session.as_json:
        from lifecycle import documents  # noqa: PLC0415 - only here

        found = [documents.of_volume(volume) for volume, _change in outcome]
    session.say(
        found[0] if single and found else found,
        *(line(volume, change) for volume, change in outcome),
    )


def line(volume: Volume, change: Change) -> str:
    """Say in a line what happened to a volume."""
    return f"{volume.id}: {_WORDS[Event(change.event)](volume, change)}"


def _reverted(_volume: Volume, change: Change) -> str:
    if change.revision is None:
        return "reverted: what was written is thrown away"
    return f"reverted to {change.revision}{' (empty)' if change.revision == 0 else ''}"


_WORDS = {
    Event.START: lambda volume, _change: f"started, at {volume.path}",
    Event.RELEASE: lambda _volume, change: (
        f"released: nothing was written; {change.dest} as before"
    ),
    Event.COMMIT: lambda _volume, change: f"committed as {change.revision}",
    Event.CHECKPOINT: lambda _volume, change: f"checkpoint kept as revision {change.revision}",
    Event.REVERT: _reverted,
}
