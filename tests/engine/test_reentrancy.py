"""A subscriber that calls back: it may look, and act on other volumes, but not on the one in transition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lifecycle import Change, Pool, Refused, State, Volume, events
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem
from support.pools import create_pool


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    """One file system is enough: signals know of none."""
    return create_pool(xfs)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


@pytest.mark.parametrize("again", [False, True], ids=["the same pool", "another of its directory"])
@pytest.mark.parametrize(
    "act",
    [
        Volume.start,
        Volume.stop,
        Volume.revert,
        Volume.checkpoint,
        Volume.remove,
        Volume.prune,
        lambda volume: volume.pin(1),
        lambda volume: volume.pool.vm(volume.vm).start(),
        lambda volume: volume.pool.create_volume(volume.id, SIZE),
    ],
)
@pytest.mark.parametrize("tense", [0, 2], ids=["announced", "reported"])
def test_a_subscriber_does_not_begin_another_event(
    pool: Pool, volume: Volume, again: bool, act: Callable[[Volume], object], tense: int
) -> None:
    answers: list[Exception] = []

    def call_back(sender: Pool, *, volume: Volume, change: Change) -> None:
        target = Pool.open(sender.path)[volume.id] if again else volume
        try:
            act(target)
        except Refused as refusal:
            answers.append(refusal)

    events.EVENTS["commit"][tense].connect(call_back, sender=pool)
    cycle(volume, b"first")

    (refusal,) = answers
    assert "in the middle of" in str(refusal)
    assert volume.state is State.COMMITTED
    assert volume.current == 1
    assert numbers(volume) == []


def test_a_subscriber_may_look(pool: Pool, volume: Volume) -> None:
    found = []

    def look(sender: Pool, *, volume: Volume, change: Change) -> None:
        again = Pool.open(sender.path)[volume.id]
        found.append((again.state, again.revisions, again.in_use_by, seen(again)))

    events.committed.connect(look, sender=pool)
    cycle(volume, b"first")

    assert found == [(State.COMMITTED, (), (), disk(b"first"))]


def test_a_subscriber_may_act_on_another_volume(pool: Pool, volume: Volume) -> None:
    """One that goes by another, of the same VM or not."""
    followers = [pool.create_volume(one, SIZE) for one in ("ci-42/data", "logs/data")]

    def follow(sender: Pool, *, volume: Volume, change: Change) -> None:
        if volume not in followers:
            for one in followers:
                one.start()

    events.started.connect(follow, sender=pool)
    volume.start()

    assert {one.state for one in pool.volumes()} == {State.STARTED}


@pytest.mark.parametrize("whole_vm", [False, True])
def test_a_subscriber_stops_another_vm_while_volumes_stop_together(
    pool: Pool, whole_vm: bool
) -> None:
    """What it commits is pruned while that VM is locked, and before the stop of it is over."""
    one, two, other = (
        pool.create_volume(name, SIZE, keep="last 1") for name in ("ci/one", "ci/two", "db/data")
    )
    for volume in (one, two, other):
        cycle(volume, b"first")
        cycle(volume, b"second")
        volume.start()
        draw(volume, b"third")

    left = []

    def stop_it(sender: Pool, *, volume: Volume, change: Change) -> None:
        if volume == one:
            pool.vm("db").stop() if whole_vm else other.stop()
            left.append(numbers(other))

    with events.committed.connected_to(stop_it, sender=pool):
        pool.vm("ci").stop()
    assert left == [[2]]
    assert [numbers(volume) for volume in (one, two, other)] == [[2]] * 3


def test_a_subscriber_does_not_tidy_what_is_being_made(pool: Pool) -> None:
    """It would remove the empty directory of a VM to be, and what is half done of the others."""

    def tidy(sender: Pool, *, volume: Volume, change: Change) -> None:
        with pytest.raises(Refused, match="in the middle of"):
            pool.tidy(volume.vm)
        pool.recover(volume.vm)

    with events.creating.connected_to(tidy, sender=pool):
        volume = pool.create_volume("ci/root", SIZE)
    assert volume.state is State.CREATED
