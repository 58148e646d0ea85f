"""Recovers a whole pool after a crash of the host: finishes, keeps or drops what the crash left.

Single volumes need none of this: opening one works out its state by looking. Here every volume is opened, what no one
needs is removed, and each left-over working image meets its volume's crash policy. One volume's failure stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle.engine.endings import Ending, carry_out, unfinished
from lifecycle.errors import LifecycleError
from lifecycle.model import Change
from lifecycle.states import RUNNING, State

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume

log = logging.getLogger("lifecycle.recovery")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about one volume, or one VM's leftovers.

    Attributes:
        id: the volume's id, or the VM's name.
        text: what was done, or found, in words.
        state: the state the volume is in now; None of a VM.
        change: the transition that its crash policy made; None if none was needed.
        error: what went wrong; None if nothing did.
    """

    id: str
    text: str
    state: State | None = None
    change: Change | None = None
    error: Exception | None = None


def recover(pool: Pool, vms: Iterable[str]) -> list[Recovered]:
    """Recover these VMs and return what was done, failures included; what needed nothing is left out."""
    found = []
    for vm in vms:
        try:
            found += [one for one in (_recover(volume) for volume in pool.volumes(vm)) if one]
            pool.tidy(vm)
        except (LifecycleError, OSError) as error:
            log.warning("%s: could not be tidied: %s", vm, error)
            found.append(Recovered(vm, f"could not be tidied: {error}", error=error))
    return found


def _recover(volume: Volume) -> Recovered | None:
    try:
        return _apply_crash_policy(volume)
    except (LifecycleError, OSError) as error:
        log.warning("%s: could not be recovered: %s", volume.id, error)
        return Recovered(volume.id, f"could not be recovered: {error}", error=error)


def _apply_crash_policy(volume: Volume) -> Recovered | None:
    # what is judged here as left over must not be stopped, and started anew, before it is ended
    with volume.pool.locked(volume.vm):
        return _apply_under_lock(volume)


def _apply_under_lock(volume: Volume) -> Recovered | None:
    view = volume.settle()
    if view.state is State.DAMAGED:
        text = f"damaged: {view.damage}; `lifecycle revert` or `import` leads back"
        return Recovered(volume.id, text, view.state, error=LifecycleError(f"{volume.id}: {text}"))
    if view.state not in RUNNING:
        return None
    holders = [one for one in volume.in_use_by if one.known]
    if holders:
        return Recovered(volume.id, f"running: in use by {holders[0]}", view.state)
    # an end that could not take effect says more than the crash policy
    text, change = carry_out(volume, view, unfinished(volume) or Ending.CRASHED)
    return Recovered(volume.id, text, view.state if change is None else change.dest, change)
