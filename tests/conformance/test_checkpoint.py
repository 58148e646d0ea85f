"""Checkpoints: a revision from the running VM's image, which goes on running."""

from datetime import UTC, datetime

import pytest
from freezegun import freeze_time

from lifecycle import Pool, Refused, State, Volume
from lifecycle.errors import Unsupported
from support.attached_disks import attached
from support.disks import SIZE, cycle, disk, draw, numbers, seen, seen_by_vm


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A running volume, at number 1."""
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    volume.start()
    return volume


@pytest.mark.parametrize("state", [State.STARTED, State.DIRTY])
def test_the_volume_stays_as_it_is(volume: Volume, state: State) -> None:
    if state is State.DIRTY:
        draw(volume, b"second")
    before = seen_by_vm(volume)
    change = volume.checkpoint()

    assert (change.event, change.source, change.dest) == ("checkpoint", state, state)
    assert change.revision == 2
    assert volume.state is state
    assert volume.current == 1
    assert seen_by_vm(volume) == seen(volume, 2) == before
    assert seen(volume) == disk(b"first")
    assert numbers(volume) == [2]


def test_it_is_marked_as_what_it_is(volume: Volume) -> None:
    with freeze_time("2026-01-05T12:00:00Z"):
        volume.checkpoint()

    (revision,) = volume.revisions
    assert revision.cause == "checkpoint"
    assert revision.at == datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert revision.size == SIZE


def test_what_is_written_afterwards_is_not_in_it(volume: Volume) -> None:
    draw(volume, b"second")
    volume.checkpoint()
    draw(volume, b"third!")
    volume.checkpoint()
    draw(volume, b"fourth")

    assert volume.stop().revision == 4
    assert numbers(volume) == [1, 2, 3]
    assert [seen(volume, n)[:6] for n in (1, 2, 3, 4)] == [
        b"first\0",
        b"second",
        b"third!",
        b"fourth",
    ]


@pytest.mark.parametrize("written", [False, True])
def test_it_stays_when_the_vm_stops(volume: Volume, written: bool) -> None:
    if written:
        draw(volume, b"second")
    volume.checkpoint()
    volume.stop(discard=True)

    assert volume.current == 1
    assert 2 in numbers(volume)
    volume.revert(to=2)
    assert seen(volume) == disk(b"second" if written else b"first")


def test_an_unwritten_volume_is_released_all_the_same(volume: Volume) -> None:
    volume.checkpoint()

    assert volume.stop().event == "release"
    assert volume.state is State.COMMITTED
    assert volume.current == 1


def test_its_number_is_not_given_again(volume: Volume) -> None:
    volume.checkpoint()
    volume.forget(2)
    volume.checkpoint()
    draw(volume, b"second")

    assert volume.stop().revision == 4
    assert numbers(volume) == [1, 3]


def test_while_the_vm_holds_its_image_open(volume: Volume) -> None:
    """A clone is of one moment; a copy is not, so without reflinks it is refused."""
    draw(volume, b"second")
    with attached(volume):
        if volume.pool.capacity().reflinks:
            volume.checkpoint()
            assert seen(volume, 2) == disk(b"second")
        else:
            with pytest.raises(Unsupported, match="reflinks"):
                volume.checkpoint()
            assert numbers(volume) == []
    assert volume.state is State.DIRTY


def test_a_volume_at_rest_has_none(volume: Volume) -> None:
    volume.stop()
    with pytest.raises(Refused):
        volume.checkpoint()
