"""Subscribers that cannot run, and what is raised while they do: whose it is, who is told, what stands."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lifecycle import (
    Change,
    LifecycleError,
    NotASubscriber,
    PluginFailed,
    Pool,
    State,
    StorageFailed,
    Vetoed,
    Volume,
    events,
)
from lifecycle.cli import invocation
from support.command_line import Call
from support.disks import SIZE, cycle, draw, numbers
from support.failing_backend import backend_fails
from support.mounts import FileSystem
from support.pools import create_pool


@pytest.fixture
def pool(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Pool:
    made = create_pool(xfs)
    monkeypatch.setenv("LIFECYCLE_POOL", made.path)
    return made


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE)


# ---------------------------------------------------------------- what is called and never runs


async def later(_pool: Pool, **_: Any) -> None:
    raise RuntimeError("it ran")


async def one_by_one(_pool: Pool, **_: Any) -> AsyncIterator[None]:
    yield


def steps(_pool: Pool, **_: Any) -> Iterator[None]:
    yield


class House:
    async def later(self, _pool: Pool, **_: Any) -> None: ...

    @classmethod
    async def of_class(cls, _pool: Pool, **_: Any) -> None: ...

    @staticmethod
    async def static(_pool: Pool, **_: Any) -> None: ...

    async def one_by_one(self, _pool: Pool, **_: Any) -> AsyncIterator[None]:
        yield

    partly = functools.partialmethod(later)


class Callable1:
    async def __call__(self, _pool: Pool, **_: Any) -> None: ...


class Callable2:
    def __call__(self, _pool: Pool, **_: Any) -> Iterator[None]:
        yield


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **options: Any) -> Any:
        return await function(*args, **options)

    return call


NEVER_RUN: dict[str, tuple[Callable[..., Any], str]] = {
    "a function": (later, f"{__name__}.later"),
    "a generator": (one_by_one, f"{__name__}.one_by_one"),
    "a plain generator": (steps, f"{__name__}.steps"),
    "a method": (House().later, f"{__name__}.House.later"),
    "a class method": (House.of_class, f"{__name__}.House.of_class"),
    "a static method": (House.static, f"{__name__}.House.static"),
    "a method that yields": (House().one_by_one, f"{__name__}.House.one_by_one"),
    "a partial method": (House().partly, f"{__name__}.House.later"),
    "a partial": (functools.partial(later, x=1), f"{__name__}.later"),
    "a partial of a partial": (
        functools.partial(functools.partial(later, x=1), y=2),
        f"{__name__}.later",
    ),
    "a partial of a method": (functools.partial(House().later), f"{__name__}.House.later"),
    "an object": (Callable1(), f"{__name__}.Callable1"),
    "an object that yields": (Callable2(), f"{__name__}.Callable2"),
    "a partial of an object": (functools.partial(Callable1()), f"{__name__}.Callable1"),
    "decorated": (decorated(later), f"{__name__}.later"),
}
CONNECT: dict[str, Callable[[events.OrderedSignal, Callable[..., Any], Pool], object]] = {
    "connect": lambda one, receiver, _pool: one.connect(receiver),
    "connect to a pool": lambda one, receiver, pool: one.connect(receiver, sender=pool),
    "connect by place": lambda one, receiver, pool: one.connect(receiver, pool, False),
    "connect_via": lambda one, receiver, pool: one.connect_via(pool)(receiver),
    "connected_to": lambda one, receiver, pool: one.connected_to(receiver, pool).__enter__(),
}


@pytest.mark.parametrize("way", CONNECT)
@pytest.mark.parametrize("name", NEVER_RUN)
def test_it_is_refused_as_it_connects(name: str, way: str, pool: Pool) -> None:
    receiver, named = NEVER_RUN[name]
    for one in (events.committing, events.committed, events.failed):
        before = list(one.receivers_for(pool))
        with pytest.raises(NotASubscriber) as caught:
            CONNECT[way](one, receiver, pool)
        assert isinstance(caught.value, TypeError)
        assert caught.value.subscriber == named
        assert str(caught.value).startswith(f"{named} cannot be connected to a signal: it is a")
        assert list(one.receivers_for(pool)) == before


def test_a_backend_may_yield_but_not_be_asynchronous() -> None:
    events.commit.disconnect(events.commit.connect(steps))
    with pytest.raises(NotASubscriber):
        events.commit.connect(later)


def test_a_receiver_that_is_refused_is_not_announced_as_connected() -> None:
    one, heard = events.OrderedSignal(), []

    def connected(_signal: object, receiver: object, **_: Any) -> None:
        heard.append(receiver)

    def plain(_pool: Pool) -> None: ...

    one.receiver_connected.connect(connected)
    with pytest.raises(NotASubscriber):
        one.connect(later)
    one.connect(plain)
    assert heard == [plain]


HIDDEN: dict[str, tuple[Callable[..., Any], str]] = {
    "a coroutine": (lambda *_, **__: later(None), "returned a coroutine, which no one awaits"),  # type: ignore[arg-type]
    "an asynchronous generator": (
        lambda *_, **__: one_by_one(None),  # type: ignore[arg-type]
        "returned an asynchronous generator, which no one runs",
    ),
    "a generator": (lambda *_, **__: steps(None), "returned a generator, which no one runs"),  # type: ignore[arg-type]
}
"""What shows only when it is called: a plain function around it."""


@pytest.mark.parametrize("name", HIDDEN)
def test_what_shows_only_when_it_is_called_is_told_then(
    name: str, pool: Pool, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, said = HIDDEN[name]
    with events.starting.connected_to(receiver, sender=pool), pytest.raises(Vetoed) as caught:
        volume.start()
    assert said in caught.value.reason
    assert caught.value.subscriber == f"{__name__}.<lambda>"
    assert f"({__name__}.<lambda>)" in str(caught.value)
    assert volume.state is State.CREATED
    with events.started.connected_to(receiver, sender=pool):
        assert volume.start().dest is State.STARTED
    assert f"{__name__}.<lambda>, was told in vain: its call {said}" in caplog.text


# ---------------------------------------------------------------- what is raised while one runs


class Halt(BaseException):
    """Of a plugin's own."""


RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "an error": (lambda: RuntimeError("no more disks"), "no more disks"),
    "an error without words": (PermissionError, "PermissionError"),
    "sys.exit": (lambda: SystemExit(7), "raised SystemExit: 7"),
    "sys.exit without status": (SystemExit, "raised SystemExit"),
    "a class of its own": (lambda: Halt("enough"), "raised Halt: enough"),
    "GeneratorExit": (GeneratorExit, "raised GeneratorExit"),
    "escapes": (lambda: ValueError("\x1b[31mred\nmore"), r"\x1b[31mred more"),
}


@pytest.mark.parametrize("name", RAISED)
def test_before_the_event_it_vetoes_and_is_named(
    name: str, pool: Pool, volume: Volume, call: Call
) -> None:
    error, said = RAISED[name]

    def objects(_pool: Pool, *, volume: Volume, change: Change) -> None:
        raise error()

    events.starting.connect(objects)
    try:
        with pytest.raises(Vetoed) as caught:
            volume.start()
        called = call("start", "ci/root", status=3)
        document = call("start", "ci/root", "--json", status=3).document
    finally:
        events.starting.disconnect(objects)
    assert caught.value.reason == said
    assert "objects" in str(caught.value.subscriber)
    assert type(caught.value.__cause__) is type(error())
    assert str(caught.value) in called.complaint
    assert document["error"]["reason"] == said
    assert volume.state is State.CREATED


@pytest.mark.parametrize("name", RAISED)
def test_after_the_event_it_is_logged_and_the_others_are_told(
    name: str, pool: Pool, volume: Volume, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    error, _said = RAISED[name]
    heard = []

    def fails(_pool: Pool, *, volume: Volume, change: Change) -> None:
        raise error()

    def hears(_pool: Pool, *, volume: Volume, change: Change) -> None:
        heard.append(change.revision)

    events.committed.connect(fails)
    events.committed.connect(hears)
    try:
        cycle(volume, b"library")
        volume.start()
        draw(volume, b"command")
        called = call("stop", "ci/root")
    finally:
        events.committed.disconnect(fails)
        events.committed.disconnect(hears)
    assert heard == [1, 2]
    assert (volume.state, volume.current, numbers(volume)) == (State.COMMITTED, 2, [1])
    assert called.err == ""
    said = f"fails, raised {type(error()).__name__}; the transition stands"
    assert [said in one.getMessage() for one in caplog.records].count(True) == 2


def test_what_is_logged_of_it_is_one_printable_line() -> None:
    try:
        raise ValueError("\x1b[31mred\nmore")
    except ValueError as error:
        of_error = (type(error), error, None)
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "raised", (), of_error)
    assert invocation._Brief().format(record) == r"lifecycle: raised: \x1b[31mred more"


@pytest.mark.parametrize("name", RAISED)
def test_of_a_failure_too(name: str, pool: Pool, volume: Volume) -> None:
    heard = []

    def fails(_pool: Pool, **_: Any) -> None:
        raise RAISED[name][0]()

    def hears(_pool: Pool, **_: Any) -> None:
        heard.append("failed")

    events.failed.connect(fails, sender=pool)
    events.failed.connect(hears, sender=pool)
    with backend_fails(pool, "start"), pytest.raises(StorageFailed):
        volume.start()
    assert heard == ["failed"]


# ---------------------------------------------------------------- what comes from outside


def by_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def by_a_handler() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handled() -> Iterator[None]:
    """A program that ends at SIGTERM by an exception, as many do, and at SIGINT as Python does."""

    def end(*_: object) -> None:
        sys.exit(143)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


OUTSIDE = {
    "Ctrl-C": (by_ctrl_c, KeyboardInterrupt),
    "a signal's handler": (by_a_handler, SystemExit),
}


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("name", OUTSIDE)
def test_what_comes_from_outside_before_the_event_goes_on_at_once(
    name: str, pool: Pool, volume: Volume
) -> None:
    comes, kind = OUTSIDE[name]
    heard = []

    def meanwhile(_pool: Pool, **_: Any) -> None:
        comes()

    def hears(_pool: Pool, **_: Any) -> None:
        heard.append("starting")

    events.starting.connect(meanwhile, sender=pool)
    events.starting.connect(hears, sender=pool)
    with pytest.raises(kind):
        volume.start()
    assert (heard, volume.state) == ([], State.CREATED)


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", OUTSIDE)
def test_what_comes_after_the_event_goes_on_when_all_have_been_told(
    name: str, several: bool, pool: Pool, volume: Volume
) -> None:
    comes, kind = OUTSIDE[name]
    heard = []
    volumes = [volume, pool.create_volume("ci/data", SIZE, keep="last 0")]
    for one in volumes:
        cycle(one, b"1")
        one.start()
        draw(one, b"2")

    def meanwhile(_pool: Pool, *, volume: Volume, change: Change) -> None:
        comes()

    def hears(_pool: Pool, *, volume: Volume, change: Change) -> None:
        heard.append(volume.name)

    events.committed.connect(meanwhile, sender=pool)
    events.committed.connect(hears, sender=pool)
    stopped = volumes if several else volumes[1:]
    with pytest.raises(kind):
        pool.stop(stopped) if several else volumes[1].stop()
    assert heard == [one.name for one in stopped]
    assert [one.current for one in stopped] == [2] * len(stopped)
    assert numbers(volumes[1]) == []  # and retention was told, too


def test_what_a_signals_handler_raises_is_told_from_what_a_subscriber_does(
    pool: Pool, volume: Volume, caplog: pytest.LogCaptureFixture, handled: None
) -> None:
    def leaves(_pool: Pool, **_: Any) -> None:
        sys.exit(143)

    events.started.connect(leaves, sender=pool)
    with caplog.at_level(logging.ERROR):
        volume.start()
    assert "raised SystemExit" in caplog.text


# ---------------------------------------------------------------- the one who acts


def test_a_muted_imperative_is_a_failure_and_not_an_acknowledgement(
    pool: Pool, volume: Volume
) -> None:
    volume.start()
    draw(volume, b"one")
    with events.commit.muted(), pytest.raises(LifecycleError, match="no one does what"):
        volume.stop()
    assert volume.state is State.DIRTY
    assert volume.stop().revision == 1


# ---------------------------------------------------------------- what is handed out


@pytest.mark.parametrize("tense", ["announced", "done", "reported"])
def test_nothing_that_is_handed_to_a_subscriber_can_be_changed(
    tense: str, pool: Pool, volume: Volume
) -> None:
    cycle(volume, b"1")
    cycle(volume, b"2")
    tried = []

    def meddle(_pool: Pool, *, volume: Volume, change: Any) -> None:
        view: Any = volume.look()
        plan: Any = volume.plan()
        attempts: dict[str, Callable[[], object]] = {
            "what was asked": lambda: change.asked.update(size=1),
            "one thing asked": lambda: change.asked.__setitem__("size", 1),
            "the change": lambda: setattr(change, "revision", 1),
            "the list of revisions": lambda: volume.revisions.append(1),  # type: ignore[attr-defined]
            "a revision": lambda: setattr(volume.revisions[0], "pinned", True),
            "the history": lambda: volume.history.append(1),  # type: ignore[attr-defined]
            "the numbers": lambda: view.numbers.append(1),
            "one number": lambda: view.numbers.__setitem__(0, 7),
            "the view": lambda: setattr(view, "current", 7),
            "the settings": lambda: setattr(view.config, "keep", "last 0"),
            "the pool's settings": lambda: setattr(volume.pool.config, "keep", "last 0"),
            "the volume's id": lambda: setattr(volume, "id", "ci/other"),
            "the volume's pool": lambda: setattr(volume, "pool", None),
            "the VM's name": lambda: setattr(volume.pool.vm("ci"), "name", "other"),
            "the pool's path": lambda: setattr(_pool, "path", "/"),
            "the pool's settings as a whole": lambda: setattr(_pool, "config", None),
            "the pool's backend": lambda: setattr(_pool, "backend", None),
            "the plan": lambda: setattr(plan, "verdicts", ()),
            "the verdicts": lambda: plan.verdicts.pop(0),
            "one verdict": lambda: setattr(plan.verdicts[0], "keep", False),
            "its reasons": lambda: plan.verdicts[0].reasons.append("mine"),
            "the policy": lambda: setattr(volume.pool.policy_for(view.config), "line", "all"),
            "what is allowed": lambda: view.allowed.pop(0),
            "the table of signals": lambda: events.EVENTS.pop("prune"),  # type: ignore[attr-defined]
        }
        for what, attempt in attempts.items():
            try:
                attempt()
            except (AttributeError, TypeError):
                continue
            tried.append(what)

    signal_of = getattr(events.EVENTS["resize"], tense)
    if tense == "done":
        (real,) = signal_of.receivers_for(pool)

        def acts(pool: Pool, *, volume: Volume, change: Change) -> Any:
            meddle(pool, volume=volume, change=change)
            return real(pool, volume=volume, change=change)

        signal_of.disconnect(real, sender=pool)
        signal_of.connect(acts, sender=pool)
    else:
        signal_of.connect(meddle, sender=pool)
    assert volume.resize(2 * SIZE).asked["size"] == 2 * SIZE
    assert tried == []
    assert volume.size == 2 * SIZE


def test_errors_of_plugins_are_errors_of_this_package() -> None:
    assert issubclass(PluginFailed, LifecycleError)
