"""Read-only volumes: the working image is never writable and never commits."""

import pytest

from lifecycle import Event, Pool, Refused, State, Volume
from support.attached_disks import is_writable
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen, seen_by_vm


@pytest.fixture
def volume(pool: Pool) -> Volume:
    origin = pool.create_volume("iso/build", SIZE)
    cycle(origin, b"installer")
    return pool.clone(origin, "iso/installer", rw=False)


def test_the_working_image_is_not_writable(volume: Volume) -> None:
    volume.start()

    assert not is_writable(volume)
    assert seen_by_vm(volume) == disk(b"installer")


def test_a_stop_releases_it(volume: Volume) -> None:
    volume.start()

    assert volume.stop().event == "release"
    assert volume.state is State.COMMITTED
    assert numbers(volume) == []


def test_what_was_written_all_the_same_is_thrown_away(volume: Volume) -> None:
    """Root can write to anything."""
    volume.start()
    draw(volume, b"forced")
    change = volume.stop()

    assert (change.event, change.dest) == ("revert", "reverted")
    assert volume.current == 1
    assert seen(volume) == disk(b"installer")


@pytest.mark.parametrize("event", [Event.COMMIT, Event.CHECKPOINT])
def test_it_never_commits(volume: Volume, event: Event) -> None:
    volume.start()
    draw(volume, b"forced")
    assert event not in volume.allowed

    with pytest.raises(Refused, match="not kept"):
        getattr(volume, event)()


def test_it_takes_new_content_from_outside_and_goes_back(pool: Pool, volume: Volume) -> None:
    newer = pool.create_volume("iso/newer", SIZE)
    cycle(newer, b"newer")
    volume.import_from(newer)
    assert seen(volume) == disk(b"newer")
    volume.revert()
    assert seen(volume) == disk(b"installer")


def test_a_read_only_disposable(pool: Pool, volume: Volume) -> None:
    disposable = pool.create_volume("ci/cdrom", source=volume, rw=False)
    disposable.start()

    assert not is_writable(disposable)
    assert disposable.stop().event == "release"


def test_it_can_be_resized_at_rest(volume: Volume) -> None:
    volume.resize(2 * MIB)

    assert seen(volume) == disk(b"installer", size=2 * MIB)


def test_rw_can_be_changed_at_rest_alone(volume: Volume) -> None:
    volume.start()
    with pytest.raises(Refused, match="at rest"):
        volume.configure(rw=True)
    volume.stop()
    assert volume.configure(rw=True).rw
    volume.start()
    assert is_writable(volume)
    draw(volume, b"INSTALL")
    assert volume.stop().event == "commit"
    assert seen(volume) == disk(b"INSTALLer")
