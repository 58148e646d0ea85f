"""What someone wrote into an image that should be empty is never replaced unread."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, Refused, State, Volume
from support.disks import MIB, SIZE, disk, seen


def written_in_place(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"by hand")


def replaced(image: Path) -> None:
    new = image.with_name("new")
    new.write_bytes(bytes(SIZE // 2) + b"by hand".ljust(SIZE // 2, b"\0"))
    os.rename(new, image)


def written_and_given_its_time(image: Path) -> None:
    status = image.stat()
    written_in_place(image)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))


def longer(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"by hand")
        file.truncate(SIZE * 2)


def started_once(volume: Volume) -> None:
    volume.start()
    volume.stop()


def as_it_was_made(volume: Volume) -> None:
    pass


@pytest.mark.parametrize("before", [as_it_was_made, started_once])
@pytest.mark.parametrize("write", [written_in_place, replaced, written_and_given_its_time, longer])
def test_a_resize_keeps_what_was_written_to_a_created_volume(
    pool: Pool, write: Callable[[Path], None], before: Callable[[Volume], None]
) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    before(volume)
    image = Path(pool.path, "ci/root.img")
    write(image)
    held = image.read_bytes()
    with pytest.raises(Refused, match="lifecycle import ci/root") as caught:
        volume.resize(MIB)
    assert str(image) in caught.value.reason
    assert (volume.state, image.read_bytes()) == (State.CREATED, held)
    volume.import_from(str(image))
    volume.resize(MIB)
    assert seen(volume) == held.ljust(MIB, b"\0")
    assert disk(size=SIZE)[: SIZE // 2] == held[: SIZE // 2]


def test_one_that_was_copied_with_its_holes_filled_is_empty_all_the_same(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    image = Path(pool.path, "ci/root.img")
    status = image.stat()
    image.write_bytes(disk())
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    volume.resize(MIB)
    assert (volume.state, seen(volume)) == (State.CREATED, disk(size=MIB))


def test_an_empty_one_can_be_resized_again_and_again(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    for size in (MIB, SIZE, 2 * MIB):
        volume.resize(size)
        assert (volume.state, seen(volume)) == (State.CREATED, disk(size=size))
