"""The signals that subscribers connect to: each transition of a volume, announced, done and reported.

How this works. Each event of the rulebook has three blinker signals, and their grammar says what a subscriber
may do:

- `-ing` (`committing`): sent before anything happens. A subscriber that raises vetoes: nothing has happened, the
  state is unchanged, the caller gets `Vetoed` with the exception's text as the reason.
- imperative (`commit`): does the work. The pool's backend listens, and no one else.
- `-ed` (`committed`): it has happened and is durable. What a subscriber raises is logged; the others still run.

What a subscriber raises counts as its own whatever class it is of: `sys.exit()` in one vetoes, or is logged, and does
not end the program. What comes from outside while one runs (Ctrl-C, what a signal's handler raises) is no objection:
before the event it goes on at once, and nothing has happened; after it all others are told first, then it goes on.

Subscribers are called as plain functions. One that would only be made by that and never run is refused as it connects
(`NotASubscriber`): coroutine and generator functions, methods, partials and objects of that kind. Where it shows only
in what a call returns, the call counts as one that raised.

The sender is the pool: `committed.connect(f, sender=pool)` hears one pool, `committed.connect(f)` all of them.
Every receiver is called as `f(pool, volume=Volume, change=Change)`. Receivers run in the order in which they
connected. blinker holds them weakly: keep a reference to your subscriber, or connect with `weak=False`.

While a subscriber runs, the volume is locked and in the middle of its transition: asking it for another one is
refused. Look at it as you like (`volume.state`, `volume.revisions`), and act on it after the call has returned.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from blinker import ANY, Signal

from lifecycle import plugins
from lifecycle.errors import HookFailed, NotASubscriber

log = logging.getLogger("lifecycle.events")


class _Ordered:
    """A set that remembers when each item was added: what blinker keeps the receivers' ids in.

    blinker unites two of them, of those who hear everyone and of those who hear this sender, and calls the
    receivers in the order of the union; so the moment of adding is counted over all sets. The dict is in that order.
    """

    _moments = itertools.count()

    def __init__(self, moments: dict[Any, int] | None = None) -> None:
        self._moment_of: dict[Any, int] = dict(moments or {})

    def add(self, item: Any) -> None:
        self._moment_of.setdefault(item, next(self._moments))

    def discard(self, item: Any) -> None:
        self._moment_of.pop(item, None)

    def copy(self) -> _Ordered:
        return _Ordered(self._moment_of)

    def __or__(self, other: _Ordered) -> _Ordered:
        if not self._moment_of:  # as a rule: few hear everyone
            return other
        both = other._moment_of | self._moment_of
        first = {one: min(both[one], other._moment_of.get(one, both[one])) for one in both}
        return _Ordered(dict(sorted(first.items(), key=lambda item: item[1])))

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._moment_of))  # a receiver may disconnect one meanwhile

    def __len__(self) -> int:
        return len(self._moment_of)


_Receiver = TypeVar("_Receiver", bound=Callable[..., Any])


class OrderedSignal(Signal):
    """A blinker signal whose receivers run in the order in which they connected, and are plain functions."""

    set_class = _Ordered  # type: ignore[assignment]
    may_yield = False
    """Whether a receiver may be a generator function: its steps are taken then (`Steps`)."""

    def connect(self, receiver: _Receiver, sender: Any = ANY, weak: bool = True) -> _Receiver:
        """Connect a receiver, as blinker does. `connect_via` and `connected_to` come here too.

        Raises:
            NotASubscriber: it would be called and never run, as a coroutine function.
        """
        kind = plugins.only_made_by(receiver, may_yield=self.may_yield)
        if kind is not None:
            raise NotASubscriber(plugins.name_of(receiver), kind)
        return super().connect(receiver, sender, weak)


class _Imperative(OrderedSignal):
    may_yield = True


class Tenses(NamedTuple):
    """The three signals of one event: announced (`-ing`), done (imperative), reported (`-ed`)."""

    announced: OrderedSignal
    done: OrderedSignal
    reported: OrderedSignal


def _tenses(event: str, what: str, revision: str) -> Tenses:
    """Make an event's signals, each with a docstring: when it is sent, what it carries, who may raise."""
    carries = f"Carries `volume` and `change` (event `{event}`; `change.revision` is {revision})."
    return Tenses(
        OrderedSignal(
            f"Sent before {what}; nothing has happened yet.\n{carries}\n"
            "A subscriber that raises vetoes it: the caller gets `Vetoed`, the state is unchanged."
        ),
        _Imperative(
            f"Sent so that {what}; the pool's backend is the one subscriber.\n{carries}\n"
            "The backend raises when it fails: the state is read again, `failed` is sent."
        ),
        OrderedSignal(
            f"Sent after {what}; it is durable.\n{carries}\n"
            "What a subscriber raises is logged; the others run, and the transition stands."
        ),
    )


EVENTS: Mapping[str, Tenses] = MappingProxyType(
    {
        "create": _tenses("create", "a volume is born", "0, the empty image"),
        "start": _tenses(
            "start", "a volume gets its working image", "the number of the image it is made from"
        ),
        "write": _tenses(
            "write",
            "a volume is known to have been written to (this is noticed at the stop, or when asked)",
            "None",
        ),
        "release": _tenses("release", "an unwritten working image is dropped", "None"),
        "commit": _tenses(
            "commit", "a working image becomes current", "the number it gets as the current image"
        ),
        "checkpoint": _tenses(
            "checkpoint", "a running VM's image is kept as a revision", "that revision's number"
        ),
        "revert": _tenses(
            "revert",
            "a volume is taken back",
            "the revision it goes back to; None when a working image is thrown away",
        ),
        "resize": _tenses(
            "resize",
            "a volume gets another size (`change.asked['size']`, bytes)",
            "the number the image of the new size gets; None while empty or running",
        ),
        "import": _tenses(
            "import",
            "content from outside becomes current",
            "the number it gets as the current image",
        ),
        "remove": _tenses("remove", "a volume and all its revisions are removed", "None"),
        "prune": _tenses("prune", "one revision is removed", "that revision's number"),
    }
)
"""The signals by event: those of the rulebook, and `prune`, which removes one revision and changes no state."""

creating, create, created = EVENTS["create"]
starting, start, started = EVENTS["start"]
writing, write, written = EVENTS["write"]
releasing, release, released = EVENTS["release"]
committing, commit, committed = EVENTS["commit"]
checkpointing, checkpoint, checkpointed = EVENTS["checkpoint"]
reverting, revert, reverted = EVENTS["revert"]
resizing, resize, resized = EVENTS["resize"]
importing, import_, imported = EVENTS["import"]
removing, remove, removed = EVENTS["remove"]
pruning, prune, pruned = EVENTS["prune"]

failed = OrderedSignal(
    "Sent when a backend could not do what it was told.\n"
    "Carries `volume`, `change`, and `error`, the exception that the caller gets too.\n"
    "What a subscriber raises is logged; the others still run."
)


class Objection(NamedTuple):
    """What a subscriber had against an event.

    Attributes:
        reason: its words.
        subscriber: who it is, by its module and name; None where the reason says it.
        error: what it raised; None if it only seemed to be called.
    """

    reason: str
    subscriber: str | None
    error: BaseException | None


def ask(signal: OrderedSignal, pool: Any, **what: Any) -> Objection | None:
    """Send a signal that can be objected to, and return the first objection, if there is one."""
    process = os.getpid()
    for receiver in [] if signal.is_muted else signal.receivers_for(pool):
        try:
            problem = plugins.not_run(receiver(pool, **what))
        except HookFailed as error:
            return Objection(str(error), None, error)
        except BaseException as error:
            if _goes_on(error, process):
                raise
            is_plain = isinstance(error, Exception)
            said = plugins.words(error) if is_plain else plugins.raised(error)
            return Objection(said or type(error).__name__, plugins.name_of(receiver), error)
        if problem is not None:
            said = f"it was asked in vain: its call {problem}"
            return Objection(said, plugins.name_of(receiver), None)
    return None


def tell(signal: OrderedSignal, pool: Any, **what: Any) -> None:
    """Send a signal that cannot be objected to: what a receiver raises is logged, and the others still run.

    Raises:
        BaseException: what came from outside meanwhile (Ctrl-C), once all have been told.
    """
    process = os.getpid()
    from_outside: BaseException | None = None
    for receiver in list(signal.receivers_for(pool)):
        try:
            problem = plugins.not_run(receiver(pool, **what))
        except BaseException as error:
            if os.getpid() != process:
                raise
            if _goes_on(error, process):
                from_outside = from_outside or error
                continue
            text = "a subscriber, %s, raised %s; the transition stands"
            log.error(text, plugins.name_of(receiver), type(error).__name__, exc_info=error)
        else:
            if problem is not None:
                text = "a subscriber, %s, was told in vain: its call %s"
                log.error(text, plugins.name_of(receiver), problem)
    if from_outside is not None:
        raise from_outside


def _goes_on(error: BaseException, process: int) -> bool:
    """Tell whether this is not the subscriber's: it came from outside, or ends a process forked meanwhile."""
    return os.getpid() != process or plugins.is_from_outside(error)
