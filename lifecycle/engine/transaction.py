"""One event on one volume: checked against the rulebook, announced, done and reported.

How this works. A `Transition` is what the rulebook's machine moves: it stands in the state in which the volume was
found under its VM's lock, and the machine calls it back in a fixed order. `_require_unused` and the conditions ask,
`_announce` sends the `-ing` signal, `_act` the imperative one; an exception in any of them leaves the state as it
was. Then the machine changes the state, and `_report` sends the `-ed` signal. Several transitions can be announced
first and run then: that is how all volumes of a VM start, or none.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from transitions import EventData, MachineError

from lifecycle import events, plugins, times
from lifecycle.errors import InUse, LifecycleError, Refused, Vetoed, storage
from lifecycle.linux import durability
from lifecycle.linux.durability import Steps
from lifecycle.model import Change
from lifecycle.states import (
    RULEBOOK,
    Event,
    State,
    dest_of,
    holds,
    rules_for,
    why_not,
)

if TYPE_CHECKING:
    from lifecycle.backend import Volume
    from lifecycle.model import View


class Transition:
    """One event on one volume. The VM must be locked from before it is made until it has run.

    Attributes:
        volume: the volume.
        event: the event's name.
        facts: the volume as it was found; it answers the rulebook's conditions.
        change: what the signals carry; None until the dest is known.
        has_acted: whether `act` is over, and `run` only has to complete it.
    """

    __slots__ = (
        "_asked",
        "_reason",
        "_revision",
        "_state",
        "change",
        "event",
        "facts",
        "has_acted",
        "volume",
    )

    def __init__(
        self,
        volume: Volume,
        event: str,
        facts: View,
        state: State,
        *,
        revision: int | None = None,
        reason: str | None = None,
        asked: dict[str, Any] | None = None,
    ) -> None:
        self.volume = volume
        self.event = event
        self.facts = facts
        self.change: Change | None = None
        self._state = state
        self._revision = revision
        self._reason = reason
        self._asked = asked or {}
        self.has_acted = False

    def announce(self) -> None:
        """Check that the event is allowed, and send its `-ing` signal; `run` will not send it again.

        Raises:
            Refused, InUse, Vetoed: nothing has happened.
        """
        fitting = [r for r in rules_for(self.event, self._state) if holds(r, self.facts)]
        if not fitting:
            raise self._refusal()
        if fitting[0].unused:
            self._require_unused()
        self._send_announcement(fitting[0].dest or self._state)

    def act(self) -> Steps:
        """Do what was announced, ahead of `run`, which then only completes the transition: for many at once.

        Yields what must be durable before the next step.

        Raises:
            StorageFailed, LifecycleError: as in `run`.
        """
        if self.change is None:
            raise ValueError("a transition is announced before it is done")
        yield from steps(self.volume, self.change)
        self.has_acted = True

    def run(self) -> Change:
        """Let the event happen; return what happened.

        Raises:
            Refused, InUse, Vetoed: nothing has happened.
            StorageFailed, LifecycleError: the backend could not do it; the state is what the volume says now.
        """
        try:
            done = RULEBOOK.events[self.event].trigger(self)
        except MachineError:
            raise self._refusal() from None
        if not done or self.change is None:
            raise self._refusal()
        return self.change

    def _refusal(self) -> Refused:
        reason = why_not(self.event, self._state, self.facts)
        return Refused(
            self.volume.id,
            self._state,
            self.event,
            reason if self.facts.damage is None else f"{reason}; {self.facts.damage}",
            self.facts.allowed,
        )

    # ------------------------------------------------------------ called back by the machine

    def _require_unused(self, _data: EventData | None = None) -> None:
        if self.has_acted:
            return  # it was asked before that; whoever has come since has the image that is there now
        if self.facts.read_only:
            return  # whoever holds the image open shares it, and nothing is pulled away
        with storage(self.volume.id, self.event):
            holders = self.volume.pool.backend.in_use_by(self.volume.id)
        # an event that pulls the image away asks again, when no one can open it any more, and may know more then
        if any(one.known or self.event == Event.START for one in holders):
            wanted = self.facts.goes_back_to(self.event, self._state, self._asked.get("to"))
            raise InUse(self.volume.id, self._state, self.event, holders, wanted=wanted)

    def _announce(self, data: EventData) -> None:
        if self.change is None:
            self._send_announcement(dest_of(data))

    def _send_announcement(self, dest: State) -> None:
        change = Change(
            event=self.event,
            source=self._state,
            dest=dest,
            at=times.now(),
            reason=self._reason,
            revision=self._revision,
            asked=MappingProxyType(dict(self._asked)),
        )
        announce(self.volume, change)
        self.change = change

    def _act(self, _data: EventData) -> None:
        if self.change is not None and not self.has_acted:
            act(self.volume, self.change)

    def _report(self, _data: EventData) -> None:
        if self.change is not None:
            report(self.volume, self.change)
        if self.event == Event.WRITE:
            self.volume.noticed = self.facts.run


def announce(volume: Volume, change: Change) -> None:
    """Send the `-ing` signal of the change's event.

    Raises:
        Vetoed: a subscriber objected.
    """
    signal = events.EVENTS[change.event].announced
    objection = events.ask(signal, volume.pool, volume=volume, change=change)
    if objection is not None:
        raise Vetoed(
            volume.id, change.source, change.event, objection.reason, objection.subscriber
        ) from objection.error


def act(volume: Volume, change: Change) -> None:
    """Send the imperative signal of the change's event and see it done durably; if the backend fails, `failed` too.

    Raises:
        StorageFailed: the file system failed.
        LifecycleError: the backend could not do it for another reason.
    """
    durability.take(steps(volume, change))


def steps(volume: Volume, change: Change) -> Steps:
    """Do as `act`, but yield what must be durable before the next step instead of making it so.

    A backend's subscriber may do all at once and return None, or return such steps itself.
    """
    pool = volume.pool
    try:
        with storage(volume.id, change.event):
            with plugins.naming(pool.backend):
                told = events.EVENTS[change.event].done.send(pool, volume=volume, change=change)
            if not told:
                raise LifecycleError(
                    f"{volume.id}: no one does what the signal `{change.event}` says"
                )
            with plugins.naming(pool.backend, GeneratorExit):  # which is ours, to end the steps
                for _subscriber, own_steps in told:
                    yield from own_steps or ()
    except Exception as error:
        events.tell(events.failed, pool, volume=volume, change=change, error=error)
        raise


def report(volume: Volume, change: Change) -> None:
    """Send the `-ed` signal of the change's event."""
    events.tell(events.EVENTS[change.event].reported, volume.pool, volume=volume, change=change)
