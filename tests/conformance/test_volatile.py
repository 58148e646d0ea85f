"""Volatile volumes: each start begins from an empty image, each stop throws away."""

import pytest

from lifecycle import Event, Kind, Pool, Refused, State, Volume
from support.disks import MIB, SIZE, disk, draw, numbers, seen, seen_by_vm


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/swap", SIZE, save_on_stop=False)


def test_each_start_begins_from_an_empty_image(volume: Volume) -> None:
    assert volume.kind is Kind.VOLATILE
    for _ in range(2):
        volume.start()
        assert seen_by_vm(volume) == disk()
        draw(volume, b"swapped out")
        change = volume.stop()
        assert (change.event, change.dest) == ("revert", "reverted")

    assert volume.state is State.REVERTED
    assert volume.current == 0
    assert numbers(volume) == []
    assert seen(volume) == disk()


def test_a_stop_after_which_nothing_was_written_leaves_it_as_it_rested(volume: Volume) -> None:
    volume.start()

    assert volume.stop().event == "release"
    assert volume.state is State.CREATED


@pytest.mark.parametrize("event", [Event.COMMIT, Event.CHECKPOINT])
def test_it_never_keeps_what_was_written(volume: Volume, event: Event) -> None:
    volume.start()
    draw(volume, b"swapped out")
    assert event not in volume.allowed

    with pytest.raises(Refused, match="not kept"):
        getattr(volume, event)()


def test_nothing_is_imported_into_it(volume: Volume, pool: Pool) -> None:
    with pytest.raises(Refused, match="no content of its own"):
        volume.import_from(pool.create_volume("ci/other", SIZE))


def test_it_can_be_resized_and_stays_empty(volume: Volume) -> None:
    volume.resize(2 * MIB)
    volume.start()
    draw(volume, b"swapped out")
    volume.stop()
    volume.resize(4 * MIB)
    volume.start()

    assert seen_by_vm(volume) == disk(size=4 * MIB)
