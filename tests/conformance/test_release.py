"""A stop after which nothing was written spends no revision."""

import pytest

from conformance.harnesses import Hold, Write
from lifecycle import Pool, Refused, State, Volume
from support.attached_disks import attached
from support.disks import SIZE, cycle, disk, draw, numbers, seen


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


def test_it_rests_where_it_did_before(volume: Volume) -> None:
    for rest, number in ((State.CREATED, 0), (State.COMMITTED, 1), (State.REVERTED, 0)):
        if rest is State.COMMITTED:
            cycle(volume, b"first")
        if rest is State.REVERTED:
            volume.revert(to=0)
        before = volume.look()
        volume.start()
        change = volume.stop()

        assert (change.event, change.source, change.dest) == ("release", "started", rest)
        assert volume.look() == before
        assert volume.state is rest
        assert volume.current == number


def test_idle_cycles_spend_nothing_however_many(volume: Volume) -> None:
    cycle(volume, b"first")
    for _ in range(10):
        volume.start()
        volume.stop()

    assert numbers(volume) == []
    assert cycle(volume, b"second") == 2


def test_reading_is_not_writing(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.start()
    with attached(volume) as opened:
        assert opened.read(0, SIZE) == disk(b"first")

    assert volume.state is State.STARTED
    assert volume.stop().event == "release"


def test_holding_it_open_is_not_writing(volume: Volume, hold: Hold) -> None:
    volume.start()
    with hold(volume):
        assert volume.state is State.STARTED
    assert volume.stop().event == "release"


def test_however_it_is_written_it_shows(volume: Volume, write: Write) -> None:
    cycle(volume, b"first")
    volume.start()
    write(volume)

    assert volume.state is State.DIRTY
    assert volume.stop().event == "commit"


def test_release_is_refused_once_something_was_written(volume: Volume) -> None:
    volume.start()
    draw(volume, b"first")

    with pytest.raises(Refused) as refusal:
        volume.release()
    assert "commit" in refusal.value.allowed
    assert volume.stop().event == "commit"
    assert seen(volume) == disk(b"first")


def test_commit_is_refused_while_nothing_was_written(volume: Volume) -> None:
    volume.start()

    with pytest.raises(Refused) as refusal:
        volume.commit()
    assert "release" in refusal.value.allowed


def test_a_volume_at_rest_cannot_be_stopped(volume: Volume) -> None:
    with pytest.raises(Refused, match="not running") as refusal:
        volume.stop()
    assert refusal.value.allowed == tuple(map(str, volume.allowed))
