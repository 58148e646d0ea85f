"""A stop after which nothing was written spends no revision."""

import os
import subprocess

import pytest

from lifecycle import Pool, Refused, State, Volume
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen
from support.holding_open import by_loop_device


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
    with open(volume.path, "r+b") as image:
        assert image.read() == disk(b"first")
    with by_loop_device(volume.path) as device, open(device.name, "rb") as disk_file:
        assert disk_file.read(5) == b"first"

    assert volume.state is State.STARTED
    assert volume.stop().event == "release"


def _buffered(path: str) -> None:
    with open(path, "r+b") as image:
        image.write(b"x")


def _mapped(path: str) -> None:
    import mmap

    with open(path, "r+b") as image, mmap.mmap(image.fileno(), 0) as memory:
        memory[0] = 120


def _direct(path: str) -> None:
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={path}", "bs=64k", "count=1", "conv=notrunc", "oflag=direct"],
        check=True,
        capture_output=True,
    )


def _through_a_loop_device(path: str) -> None:
    with by_loop_device(path) as device, open(device.name, "r+b") as disk_file:
        disk_file.write(b"x")
        disk_file.flush()
        os.fsync(disk_file.fileno())


def _discarded(path: str) -> None:
    subprocess.run(
        ["fallocate", "--punch-hole", "--offset", "0", "--length", "65536", path], check=True
    )


def _resized(path: str) -> None:
    os.truncate(path, 2 * MIB)


@pytest.mark.parametrize(
    "write", [_buffered, _mapped, _direct, _through_a_loop_device, _discarded, _resized]
)
def test_however_it_is_written_it_shows(volume: Volume, write: object) -> None:
    assert callable(write)
    cycle(volume, b"first")
    volume.start()
    write(volume.path)

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
