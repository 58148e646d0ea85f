"""A btrfs without room for another name: what is thrown away goes all the same, and takes nothing from who has it open.

There a rename wants room in the trees, where a removal may use what the file system keeps back for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import InUse, Pool, State, StorageFailed, Volume
from lifecycle.reflink import recording
from support.disks import MIB, cycle, disk, draw, seen, seen_by_vm
from support.holding_open import by_this_process
from support.mounts import FileSystem, run

SIZE = MIB


class FullDisk:
    """A small btrfs that can be filled until there is no room for a name, and emptied again.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, place: Path) -> None:
        image, self.path = place / "image", place / "disk"
        image.touch()
        os.truncate(image, 32 * MIB)
        run("mkfs.btrfs", "-q", "--mixed", str(image))
        self.path.mkdir()
        run("mount", "-o", "loop", str(image), str(self.path))
        self._filler = self.path / "filler"
        self._filler.mkdir()

    def fill(self) -> None:
        """Leave no room for anything."""
        for _twice in range(2):
            for size in (MIB, 64 << 10, 4096):
                with contextlib.suppress(OSError), open(self._new(), "wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * size)
            os.sync()
        with contextlib.suppress(OSError):
            while True:
                Path(self._new()).touch()
        with pytest.raises(OSError, match="No space left"):
            os.rename(self._filler / "0", self._filler / ("n" * 200))

    def _new(self) -> str:
        return str(self._filler / str(len(os.listdir(self._filler))))

    def make_room(self) -> None:
        for one in self._filler.iterdir():
            one.unlink()
        os.sync()


@pytest.fixture(scope="module")
def full_disk(mounted: Callable[[str], FileSystem]) -> FullDisk:
    """The disk of this module."""
    mounted("btrfs")
    return FullDisk(mounted("xfs").new_directory())


@pytest.fixture
def small(full_disk: FullDisk, tmp_path: Path) -> Iterator[Pool]:
    """A new pool on the disk; after the test there is room again."""
    pool = Pool.create(full_disk.path / tmp_path.name)
    yield pool
    full_disk.make_room()
    for volume in reversed(list(pool)):
        if volume.look().running:
            volume.stop(discard=volume.look().apart)
        volume.remove()


# ---------------------------------------------------------------- what is thrown away, by what it is


def persistent(pool: Pool) -> Volume:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    return volume


def written(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.start()
    draw(volume, b"guest")
    return volume


def in_doubt(pool: Pool) -> Volume:
    """A flush of it failed."""
    volume = written(pool)
    os.chmod(volume.path, 0o1600)
    return volume


def unwritten(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.start()
    return volume


def disposable(pool: Pool) -> Volume:
    volume = pool.create_volume("job/root", source=persistent(pool))
    volume.start()
    draw(volume, b"guest")
    return volume


def disposable_unwritten(pool: Pool) -> Volume:
    volume = pool.create_volume("job/root", source=persistent(pool))
    volume.start()
    return volume


def volatile(pool: Pool) -> Volume:
    volume = pool.create_volume("ci/root", SIZE, save_on_stop=False)
    volume.start()
    draw(volume, b"guest")
    return volume


def read_only(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.configure(rw=False)
    volume.start()
    return volume


def discard(volume: Volume) -> None:
    volume.stop(discard=True)


THROWS_AWAY: dict[str, tuple[Callable[[Pool], Volume], Callable[[Volume], object]]] = {
    "stop --discard": (written, discard),
    "revert": (written, Volume.revert),
    "discard what is in doubt": (in_doubt, discard),
    "stop what was not written": (unwritten, Volume.stop),
    "stop --discard what was not written": (unwritten, discard),
    "release": (unwritten, Volume.release),
    "stop a disposable": (disposable, Volume.stop),
    "stop a disposable that was not written": (disposable_unwritten, Volume.stop),
    "stop a volatile one": (volatile, Volume.stop),
    "stop a read-only one": (read_only, Volume.stop),
}


def as_it_is(volume: Volume) -> None:
    pass


def cut_off(volume: Volume) -> None:
    """An event was cut off while it asked who has the image open."""
    os.rename(volume.path, f"{volume.path}@withdrawn")


@pytest.mark.parametrize("before", [as_it_is, cut_off])
@pytest.mark.parametrize("what", THROWS_AWAY)
def test_what_is_thrown_away_goes(
    small: Pool, full_disk: FullDisk, what: str, before: Callable[[Volume], None]
) -> None:
    make, act = THROWS_AWAY[what]
    volume = make(small)
    before(volume)
    full_disk.fill()
    act(volume)
    assert not volume.look().running
    assert not list(Path(volume.path).parent.glob("root-dirty.img*"))
    full_disk.make_room()
    assert not [one for one in small.verify() if one.harmful]
    volume.start()


def test_a_removal_goes(small: Pool, full_disk: FullDisk) -> None:
    volume = persistent(small)
    full_disk.fill()
    volume.remove()
    assert volume.state is State.ABSENT


@pytest.mark.parametrize("what", [one for one in THROWS_AWAY if "in doubt" not in one])
def test_nothing_is_taken_from_who_has_it_open(small: Pool, full_disk: FullDisk, what: str) -> None:
    make, act = THROWS_AWAY[what]
    volume = make(small)
    state = volume.state
    full_disk.fill()
    with by_this_process(volume.path), pytest.raises(InUse):
        act(volume)
    assert (volume.state, os.path.exists(volume.path)) == (state, True)


def test_it_is_asked_once_more_before_the_removal(small: Pool, full_disk: FullDisk) -> None:
    volume = written(small)
    full_disk.fill()
    real = recording.ready
    opened: list[int] = []

    def open_it(*args: object) -> object:
        opened.append(os.open(volume.path, os.O_RDWR))
        return real(*args)  # type: ignore[arg-type]

    with mock.patch.object(recording, "ready", open_it), pytest.raises(InUse):
        volume.stop(discard=True)
    os.close(opened[0])
    assert (volume.state, seen_by_vm(volume)) == (State.DIRTY, disk(b"guest", size=SIZE))


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize("act", [Volume.start, Volume.stop, Volume.checkpoint])
def test_what_wants_the_name_waits_for_room(
    small: Pool, full_disk: FullDisk, act: Callable[[Volume], object]
) -> None:
    volume = written(small)
    cut_off(volume)
    full_disk.fill()
    with pytest.raises(StorageFailed, match="No space left on device"):
        act(volume)
    assert volume.state is State.DIRTY
    full_disk.make_room()
    act(volume)
    if volume.look().running:
        assert seen_by_vm(volume) == disk(b"guest", size=SIZE)
        volume.stop()
    assert seen(volume) == disk(b"guest", size=SIZE)
