"""How a VM ended, as its host reports it, and which event follows from that for each volume.

How this works. A host says in one word how the VM ended. Each volume is taken on its own, and a failure of one stops
no other, for nobody can object to an end. What fails (a full disk, a veto) is tagged on the working image with the word
that was said, so that `recover` or the host's next start does the same later, instead of taking the volume for the
leavings of a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lifecycle.config import CrashPolicy
from lifecycle.engine import plan
from lifecycle.errors import InUse, LifecycleError
from lifecycle.model import CRASH, Change
from lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle.backend import Volume
    from lifecycle.model import View

log = logging.getLogger("lifecycle.ending")

ENDING = "ending"
"""The tag on a working image that says how its VM ended, when that could not be carried out."""


class Ending(StrEnum):
    """How a VM ended."""

    STOPPED = "stopped"
    """By itself, or told to: each volume is committed or thrown away, as its kind says."""
    SUSPENDED = "suspended"
    """Its memory is kept elsewhere and will want the working images as they are."""
    FAILED = "failed"
    """It never came up: what was not written to is released, the rest meets the crash policy."""
    CRASHED = "crashed"
    """It was cut off: each volume meets its crash policy."""
    DISCARDED = "discarded"
    """What it wrote is to be thrown away."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What was done about one volume.

    Attributes:
        volume: the volume.
        text: what was done, or went wrong, in words.
        state: the state the volume is in now.
        change: the transition that was made; None if none was.
        error: what went wrong; None if nothing did.
    """

    volume: Volume
    text: str
    state: State | None = None
    change: Change | None = None
    error: Exception | None = None


def end(volumes: Iterable[Volume], ending: Ending, *, reason: str | None = None) -> list[Ended]:
    """Let the end of their VM take effect on volumes; what is done is durable when this returns.

    Args:
        volumes: of any pools; those at rest are passed over.
        ending: how the VM ended.
        reason: why, for the signals and as the cause of a revision, if the ending says it too coarsely.

    Returns:
        what was done, failures included. What failed is tagged for `finish`; only an image that is still in use is
        not, for it is another VM's, or the VM has not ended.
    """
    found = (_end(volume, ending, reason) for volume in dict.fromkeys(volumes))
    return [one for one in found if one is not None]


def finish(volumes: Iterable[Volume]) -> list[Ended]:
    """Carry out the ends that `end` could not; return what was done. Volumes without one are passed over."""
    return [
        one
        for volume in volumes
        if (ending := unfinished(volume)) is not None
        for one in end([volume], ending)
    ]


def unfinished(volume: Volume) -> Ending | None:
    """Return the end that could not be carried out on this volume; None if there is none."""
    tagged = volume.tagged(ENDING)
    return Ending(tagged) if tagged in set(Ending) else None


def carry_out(
    volume: Volume, view: View, ending: Ending, reason: str | None = None
) -> tuple[str, Change | None]:
    """Do to a running volume what the ending means; return that in words, and the transition if there was one.

    Raises:
        Refused, InUse, Vetoed, StorageFailed: as `Volume.stop`.
    """
    if view.read_only:
        ending = Ending.STOPPED  # there is nothing to keep or to throw away
    if view.in_doubt and ending is not Ending.DISCARDED:
        # what is kept or thrown away of it is for a person to decide, whatever the crash policy; and a VM that is
        # suspended counts on an image that the disk may not hold
        raise plan.refusal(volume, view, "stop")
    if ending is Ending.FAILED:
        ending = Ending.CRASHED if view.differs else Ending.STOPPED
    if ending is Ending.CRASHED:
        return _apply_crash_policy(volume, view)
    if ending is Ending.SUSPENDED:
        # so that `recover` does not take it for the leavings of a crash
        volume.tag(ENDING, ending, durable=True)
        return "its working image is kept as it is", None
    # without snapshots there is nothing to go back to, so what was written stays
    discard = ending is Ending.DISCARDED and view.apart
    return _stopped(volume.stop(discard=discard, reason=reason))


def _apply_crash_policy(volume: Volume, view: View) -> tuple[str, Change | None]:
    if view.on_crash is CrashPolicy.RESUME:
        return "left over: kept for the next start", None
    discard = view.on_crash is CrashPolicy.REVERT
    text, change = _stopped(volume.stop(discard=discard, reason=CRASH))
    return f"left over: {text}", change


def _stopped(change: Change) -> tuple[str, Change]:
    return _WORDS[change.event](change), change


_WORDS: dict[str, Callable[[Change], str]] = {
    "commit": lambda change: f"committed as {change.revision}",
    "revert": lambda _change: "revert: nothing kept",
    "release": lambda _change: "release: nothing kept",
}


def _end(volume: Volume, ending: Ending, reason: str | None) -> Ended | None:
    try:
        with volume.pool.locked(volume.vm):
            view = volume.require(volume.pool.settle(volume.id))
            if not (view.may_run or view.in_doubt):
                return None
            text, change = carry_out(volume, view, ending, reason)
            return Ended(volume, text, view.state if change is None else change.dest, change)
    except (LifecycleError, OSError) as error:
        log.warning("%s: its VM %s, but that could not take effect: %s", volume.id, ending, error)
        if not isinstance(error, InUse):
            _tag(volume, ending)
        return Ended(volume, f"could not be stopped: {error}", error=error)


def _tag(volume: Volume, ending: Ending) -> None:
    try:
        volume.tag(ENDING, ending, durable=True)
    except (LifecycleError, OSError) as error:
        log.warning("%s: nor could it be noted for later: %s", volume.id, error)
