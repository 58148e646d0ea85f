"""The signals: what is sent when, what each tense may do, and who hears whom."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from lifecycle import Change, LifecycleError, Pool, State, Vetoed, Volume, events, policies
from support.disks import SIZE, cycle, disk, draw, numbers
from support.listeners import Listener, three
from support.mounts import FileSystem
from support.pools import create_pool
from support.snapshots import snapshot


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    """One file system is enough: signals know of none."""
    return create_pool(xfs)


@pytest.fixture
def other_pool(xfs: FileSystem) -> Pool:
    return create_pool(xfs)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


# ---------------------------------------------------------------- what is sent


def test_a_whole_life_in_three_tenses(pool: Pool, listener: Listener, tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    image.write_bytes(disk(b"outside"))

    volume = pool.create_volume("ci-42/root", SIZE, keep="last 1")
    assert listener.take() == three("create")
    volume.start()
    assert listener.take() == three("start")
    volume.stop()
    assert listener.take() == three("release")
    volume.start()
    draw(volume, b"first")
    assert listener.take() == three("start")
    volume.stop()
    assert listener.take() == three("write", "commit")
    volume.start()
    volume.checkpoint()
    volume.resize(2 * SIZE)
    assert listener.take() == three("start", "checkpoint", "resize")
    volume.write()
    volume.stop(discard=True)
    assert listener.take() == three("write", "revert")
    volume.resize(2 * SIZE)
    volume.import_from(image)
    volume.revert(to=1)
    assert listener.take() == three("resize", "import", "revert")
    volume.forget(2)
    volume.prune()
    assert listener.take() == three("prune", "prune")
    volume.remove()
    assert listener.take() == three("remove")


def test_retention_is_announced_after_the_commit(pool: Pool, listener: Listener) -> None:
    volume = pool.create_volume("ci-42/root", SIZE, keep="last 0")
    cycle(volume, b"first")
    volume.start()
    draw(volume, b"second")
    listener.take()
    volume.stop()

    # pruning begins while the commit is being reported: the backend is connected first, then retention, then we
    assert listener.take() == [
        *three("write"),
        "commit announced",
        "commit done",
        *three("prune"),
        "commit reported",
    ]


def test_a_change_tells_what_happens(pool: Pool, listener: Listener, volume: Volume) -> None:
    listener.take()
    volume.start()
    draw(volume, b"first")
    with freeze_time("2026-01-05T12:00:00.9Z"):
        returned = volume.stop(reason="crash")

    name, sender, heard, change = listener.heard[-1]
    assert name == "commit reported"
    assert sender is pool
    assert heard is volume
    assert change == returned
    assert change == Change(
        event="commit",
        source=State.DIRTY,
        dest=State.COMMITTED,
        at=datetime(2026, 1, 5, 12, tzinfo=UTC),
        reason="crash",
        revision=1,
        asked={},
    )
    assert all(one[3] == change for one in listener.heard[-3:])
    with pytest.raises(AttributeError):
        change.revision = 2  # type: ignore[misc]


def test_each_tense_finds_the_volume_as_it_is_then(pool: Pool, volume: Volume) -> None:
    found = []

    def look(sender: Pool, *, volume: Volume, change: Change) -> None:
        found.append((volume.state, volume.current, numbers(volume)))

    for signal in (events.committing, events.committed):
        signal.connect(look, sender=pool)
    cycle(volume, b"first")
    cycle(volume, b"second")

    assert found == [
        (State.DIRTY, 0, []),
        (State.COMMITTED, 1, []),
        (State.DIRTY, 1, []),
        (State.COMMITTED, 2, [1]),
    ]


def test_subscribers_run_in_the_order_in_which_they_connected(pool: Pool, volume: Volume) -> None:
    order: list[int] = []
    receivers = [lambda _pool, n=n, **_: order.append(n) for n in range(20)]
    for n, receiver in enumerate(receivers):
        if n % 2:
            events.starting.connect(receiver)
        else:
            events.starting.connect(receiver, sender=pool)
    volume.start()
    for receiver in receivers:
        events.starting.disconnect(receiver)

    assert order == list(range(20))


@pytest.mark.parametrize("event", events.EVENTS)
def test_each_signal_says_in_three_lines_what_it_is(event: str) -> None:
    for signal in (*events.EVENTS[event], events.failed):
        assert len((signal.__doc__ or "").splitlines()) == 3


# ---------------------------------------------------------------- what a subscriber may do


def refuse(sender: Pool, *, volume: Volume, change: Change) -> None:
    """Object."""
    raise RuntimeError("the host is in maintenance")


def test_anyone_may_veto_a_start(pool: Pool, volume: Volume, listener: Listener) -> None:
    before = snapshot(pool.path)
    events.starting.connect(refuse, sender=pool)
    with pytest.raises(Vetoed) as veto:
        volume.start()

    assert veto.value.reason == "the host is in maintenance"
    assert "the host is in maintenance" in str(veto.value)
    assert veto.value.volume == volume.id
    assert isinstance(veto.value.__cause__, RuntimeError)
    assert volume.state is State.CREATED
    assert snapshot(pool.path) == before
    assert "start done" not in listener.take()

    events.starting.disconnect(refuse, sender=pool)
    assert volume.start().dest is State.STARTED


def test_a_veto_of_the_write_or_the_commit_leaves_it_running(pool: Pool, volume: Volume) -> None:
    volume.start()
    draw(volume, b"first")
    for signal in (events.writing, events.committing):
        signal.connect(refuse, sender=pool)
        with pytest.raises(Vetoed):
            volume.stop()
        assert volume.state is State.DIRTY
        signal.disconnect(refuse, sender=pool)

    assert volume.stop().revision == 1


def test_an_objection_without_words_is_named_by_its_kind(pool: Pool, volume: Volume) -> None:
    def refuse_silently(sender: Pool, **_: Any) -> None:
        raise PermissionError

    events.starting.connect(refuse_silently, sender=pool)
    with pytest.raises(Vetoed, match="PermissionError"):
        volume.start()


def test_an_interrupt_is_no_objection(pool: Pool, volume: Volume) -> None:
    def interrupt(sender: Pool, **_: Any) -> None:
        raise KeyboardInterrupt

    events.starting.connect(interrupt, sender=pool)
    with pytest.raises(KeyboardInterrupt):
        volume.start()
    events.starting.disconnect(interrupt, sender=pool)

    assert volume.state is State.CREATED
    volume.start()


def test_an_observer_that_raises_does_no_harm(
    pool: Pool, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    def after(sender: Pool, *, volume: Volume, change: Change) -> None:
        heard.append(change.event)

    events.committed.connect(refuse, sender=pool)
    events.committed.connect(after, sender=pool)
    with caplog.at_level(logging.ERROR, "lifecycle.events"):
        cycle(volume, b"first")

    assert heard == ["commit"]
    assert volume.current == 1
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "in maintenance" in str(record.exc_info[1])


def test_a_policy_that_raises_prunes_nothing_and_fails_no_commit(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def plan(*_: Any) -> None:
        raise RuntimeError("cannot decide")

    volume = pool.create_volume("ci-42/root", SIZE, keep="last 0")
    monkeypatch.setattr(policies.Policy, "plan", plan)
    cycle(volume, b"first")
    cycle(volume, b"second")

    assert numbers(volume) == [1]
    assert "cannot decide" in caplog.text


# ---------------------------------------------------------------- who hears whom


def test_two_pools_do_not_hear_each_other(pool: Pool, other_pool: Pool) -> None:
    here, there, everywhere = Listener(pool), Listener(other_pool), Listener()
    cycle(pool.create_volume("ci/root", SIZE), b"here")
    other_pool.create_volume("ci/root", SIZE)
    everywhere.close()

    here_heard, there_heard = here.take(), there.take()
    assert here_heard == three("create", "start", "write", "commit")
    assert there_heard == three("create")
    assert everywhere.take() == here_heard + there_heard
    assert pool["ci/root"].state is State.COMMITTED
    assert other_pool["ci/root"].state is State.CREATED


def test_a_veto_holds_for_its_pool_alone(pool: Pool, other_pool: Pool) -> None:
    events.creating.connect(refuse, sender=pool)
    with pytest.raises(Vetoed):
        pool.create_volume("ci/root", SIZE)
    other_pool.create_volume("ci/root", SIZE)

    assert pool.volumes() == []


def test_two_pools_of_one_directory_send_their_own_signals(pool: Pool, volume: Volume) -> None:
    again = Pool.open(pool.path)
    here, there = Listener(pool), Listener(again)
    again[volume.id].start()

    assert here.take() == []
    assert there.take() == three("start")


# ---------------------------------------------------------------- one backend


def test_a_second_one_who_acts_is_refused_when_the_pool_is_opened(pool: Pool) -> None:
    def act(sender: Pool, **_: Any) -> None:
        """Act, too."""

    events.commit.connect(act)
    try:
        with pytest.raises(LifecycleError, match=r"`commit`.*2 subscribers"):
            Pool.open(pool.path)
    finally:
        events.commit.disconnect(act)
    Pool.open(pool.path)


def test_so_is_no_one_who_acts(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(pool.backend), "connect", lambda *_: None)
    with pytest.raises(LifecycleError, match="0 subscribers"):
        Pool.open(pool.path)


def test_a_pool_no_one_holds_any_more_hears_nothing(pool: Pool, volume: Volume) -> None:
    """Its backend goes with it, so the next one of the same directory acts alone."""
    for _ in range(3):
        Pool.open(pool.path)[volume.id].start()
        Pool.open(pool.path)[volume.id].stop()

    assert volume.state is State.CREATED


def test_no_subscriber_can_change_what_was_asked(pool: Pool, volume: Volume) -> None:
    def meddle(_pool: Pool, *, volume: Volume, change: Change) -> None:
        change.asked["size"] = 1  # type: ignore[index]

    with events.resizing.connected_to(meddle, sender=pool), pytest.raises(Vetoed):
        volume.resize(2 * SIZE)
    assert volume.size == SIZE
