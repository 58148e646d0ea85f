"""The signals themselves: in which order receivers run, what one that raises does to the others, what is held."""

import gc
import itertools
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from lifecycle import events
from lifecycle.events import EVENTS, OrderedSignal, tell
from lifecycle.states import Event


class Pool:
    """A sender."""


Receiver = Callable[..., None]


@pytest.fixture
def signal() -> OrderedSignal:
    return OrderedSignal()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def receiver(heard: list[str]) -> Callable[[str], Receiver]:
    """Return what makes a receiver that writes its name down; it lives until the test ends."""
    kept = []

    def make(name: str) -> Receiver:
        def receive(_pool: object, **_what: object) -> None:
            heard.append(name)

        kept.append(receive)
        return receive

    return make


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("of_everyone", list(itertools.product([True, False], repeat=4)))
def test_receivers_run_in_the_order_in_which_they_connected(
    of_everyone: tuple[bool, ...],
    signal: OrderedSignal,
    heard: list[str],
    receiver: Callable[[str], Receiver],
) -> None:
    pool = Pool()
    for name, everyone in zip("abcd", of_everyone, strict=True):
        if everyone:
            signal.connect(receiver(name))
        else:
            signal.connect(receiver(name), sender=pool)
    signal.send(pool)
    tell(signal, pool)
    assert "".join(heard) == "abcdabcd"


def test_the_order_holds_for_many_receivers(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    names = [str(number) for number in range(200)]
    for name in names:
        signal.connect(receiver(name))
    signal.send(Pool())
    assert heard == names


def test_one_that_connected_to_another_sender_is_not_called(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    mine, other = Pool(), Pool()
    signal.connect(receiver("other"), sender=other)
    signal.connect(receiver("mine"), sender=mine)
    signal.send(mine)
    tell(signal, mine)
    signal.send(Pool())
    assert heard == ["mine", "mine"]


@pytest.mark.parametrize("everyone_first", [True, False])
def test_one_that_connected_twice_is_called_once_and_keeps_its_first_place(
    everyone_first: bool,
    signal: OrderedSignal,
    heard: list[str],
    receiver: Callable[[str], Receiver],
) -> None:
    pool = Pool()
    twice = receiver("twice")
    connections: list[dict[str, Any]] = [{}, {"sender": pool}]
    first, second = connections if everyone_first else connections[::-1]
    signal.connect(twice, **first)
    signal.connect(receiver("between"))
    signal.connect(twice, **second)
    signal.send(pool)
    assert heard == ["twice", "between"]


def test_one_that_left_and_came_back_runs_last(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    first = receiver("first")
    signal.connect(first)
    signal.connect(receiver("second"))
    signal.disconnect(first)
    signal.send(Pool())
    signal.connect(first)
    signal.send(Pool())
    assert heard == ["second", "second", "first"]


def test_connecting_during_a_send_is_heard_from_the_next_one_on(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    late = receiver("late")

    def connects(_pool: object) -> None:
        signal.connect(late)

    signal.connect(connects)
    tell(signal, Pool())
    assert heard == []
    tell(signal, Pool())
    assert heard == ["late"]


# ---------------------------------------------------------------- tell


def test_what_a_receiver_raises_is_logged_and_the_others_still_run(
    signal: OrderedSignal,
    heard: list[str],
    receiver: Callable[[str], Receiver],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raises(_pool: object, **_what: object) -> None:
        raise RuntimeError("no room for the log")

    signal.connect(receiver("before"))
    signal.connect(raises)
    signal.connect(receiver("after"))
    tell(signal, Pool(), volume="ci-42/root")
    assert heard == ["before", "after"]
    (entry,) = caplog.records
    assert (entry.name, entry.levelno) == ("lifecycle.events", logging.ERROR)
    assert "raises" in entry.getMessage()
    assert entry.exc_info is not None
    assert str(entry.exc_info[1]) == "no room for the log"


def test_a_receiver_with_the_wrong_parameters_does_not_stop_the_others(
    signal: OrderedSignal,
    heard: list[str],
    receiver: Callable[[str], Receiver],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong(_pool: object) -> None:
        """Take no volume."""

    signal.connect(wrong)
    signal.connect(receiver("after"))
    tell(signal, Pool(), volume="ci-42/root")
    assert heard == ["after"]
    assert "TypeError" in caplog.text


def test_an_interrupt_is_not_swallowed_but_the_others_are_told_first(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    def interrupted(_pool: object) -> None:
        heard.append("interrupted")
        raise KeyboardInterrupt

    signal.connect(interrupted)
    signal.connect(receiver("after"))
    with pytest.raises(KeyboardInterrupt):
        tell(signal, Pool())
    assert heard == ["interrupted", "after"]


def test_a_receiver_may_disconnect_itself_and_others(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    last = receiver("last")

    def leaves(_pool: object) -> None:
        heard.append("leaves")
        signal.disconnect(leaves)
        signal.disconnect(last)

    signal.connect(leaves)
    signal.connect(receiver("middle"))
    signal.connect(last)
    tell(signal, Pool())
    heard.clear()
    tell(signal, Pool())
    assert heard == ["middle"]


@pytest.mark.parametrize("of_everyone", [True, False])
def test_who_connects_and_who_leaves_does_not_disturb_a_send(
    signal: OrderedSignal,
    heard: list[str],
    receiver: Callable[[str], Receiver],
    of_everyone: bool,
) -> None:
    """Who comes is not called yet. Who leaves one sender is, for blinker knows it until it has left all."""
    pool = Pool()
    sender = {} if of_everyone else {"sender": pool}
    gone, late = receiver("gone"), receiver("late")

    def changes(_pool: object) -> None:
        heard.append("changes")
        signal.disconnect(gone, **sender)
        signal.connect(late, **sender)

    signal.connect(changes, **sender)
    signal.connect(gone, **sender)
    signal.connect(receiver("stays"), **sender)
    signal.send(pool)
    assert heard == ["changes", *([] if of_everyone else ["gone"]), "stays"]


def test_a_send_stops_at_the_first_objection(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    def objects(_pool: object) -> None:
        raise RuntimeError("not now")

    signal.connect(receiver("before"))
    signal.connect(objects)
    signal.connect(receiver("after"))
    with pytest.raises(RuntimeError, match="not now"):
        signal.send(Pool())
    assert heard == ["before"]


def test_telling_no_one_is_nothing(signal: OrderedSignal) -> None:
    tell(signal, Pool(), volume="ci-42/root")


# ---------------------------------------------------------------- what is held


class Subscriber:
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def receive(self, _pool: object) -> None:
        self.heard.append("subscriber")


def test_a_subscriber_that_no_one_holds_is_gone(signal: OrderedSignal, heard: list[str]) -> None:
    subscriber = Subscriber(heard)
    signal.connect(subscriber.receive)
    tell(signal, Pool())
    assert heard == ["subscriber"]
    gone = weakref.ref(subscriber)
    del subscriber
    gc.collect()
    assert gone() is None
    tell(signal, Pool())
    assert heard == ["subscriber"]
    assert not signal.receivers


def test_a_subscriber_connected_strongly_stays(signal: OrderedSignal, heard: list[str]) -> None:
    signal.connect(Subscriber(heard).receive, weak=False)
    gc.collect()
    tell(signal, Pool())
    assert heard == ["subscriber"]


def test_a_signal_does_not_keep_its_sender(
    signal: OrderedSignal, heard: list[str], receiver: Callable[[str], Receiver]
) -> None:
    pool = Pool()
    signal.connect(receiver("mine"), sender=pool)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    for _ in range(100):  # one of these may well live where the first one did
        tell(signal, Pool())
    assert heard == []


# ---------------------------------------------------------------- the signals there are


ALL_SIGNALS = {
    f"{event} {tense}": signal
    for event, tenses in EVENTS.items()
    for tense, signal in tenses._asdict().items()
} | {"failed": events.failed}


def test_every_event_of_the_rulebook_has_three_signals_and_prune_too() -> None:
    assert list(EVENTS) == [*Event, "prune"]
    assert len(set(map(id, ALL_SIGNALS.values()))) == 3 * len(EVENTS) + 1


@pytest.mark.parametrize(
    ("names", "event"),
    [
        (("creating", "create", "created"), "create"),
        (("starting", "start", "started"), "start"),
        (("writing", "write", "written"), "write"),
        (("releasing", "release", "released"), "release"),
        (("committing", "commit", "committed"), "commit"),
        (("checkpointing", "checkpoint", "checkpointed"), "checkpoint"),
        (("reverting", "revert", "reverted"), "revert"),
        (("resizing", "resize", "resized"), "resize"),
        (("importing", "import_", "imported"), "import"),
        (("removing", "remove", "removed"), "remove"),
        (("pruning", "prune", "pruned"), "prune"),
    ],
)
def test_a_signals_name_is_its_events_in_that_tense(names: tuple[str, ...], event: str) -> None:
    assert tuple(getattr(events, name) for name in names) == EVENTS[event]


WHO_MAY_RAISE = {
    "announced": ("Sent before ", "A subscriber that raises vetoes it"),
    "done": ("Sent so that ", "The backend raises when it fails"),
    "reported": ("Sent after ", "What a subscriber raises is logged"),
    "failed": ("Sent when ", "What a subscriber raises is logged"),
}


@pytest.mark.parametrize("name", ALL_SIGNALS)
def test_a_signals_docstring_says_in_three_lines_when_what_and_who_may_raise(name: str) -> None:
    when, carries, who = (ALL_SIGNALS[name].__doc__ or "").splitlines()
    begins, may_raise = WHO_MAY_RAISE[name.rsplit(maxsplit=1)[-1]]
    assert when.startswith(begins)
    assert carries.startswith("Carries `volume`")
    assert "`change`" in carries
    assert who.startswith(may_raise)
    assert all(line.endswith(".") for line in (when, carries, who))
