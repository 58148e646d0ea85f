"""Clones: a new persistent volume with the content of another, of an image file or block device."""

import os
from pathlib import Path

import pytest

from lifecycle import InvalidSize, Kind, NoSuchVolume, Pool, Refused, State, Vetoed, Volume, events
from lifecycle.transfer.content import Content
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen
from support.holding_open import by_loop_device


@pytest.fixture
def origin(pool: Pool) -> Volume:
    origin = pool.create_volume("templates/debian", SIZE)
    cycle(origin, b"debian")
    return origin


def test_it_has_the_content_and_can_go_back_to_empty(pool: Pool, origin: Volume) -> None:
    clone = pool.clone(origin, "ci-42/root")

    assert clone.kind is Kind.PERSISTENT
    assert clone.state is State.COMMITTED
    assert clone.current == 1
    assert clone.revisions == ()
    assert seen(clone) == disk(b"debian")
    clone.revert()
    assert seen(clone) == disk()
    assert clone.size == SIZE


def test_the_two_go_their_own_ways(pool: Pool, origin: Volume) -> None:
    clone = pool.clone(origin, "ci-42/root")
    cycle(clone, b"cloned")
    cycle(origin, b"trixie")

    assert seen(clone) == disk(b"cloned")
    assert seen(clone, 1) == disk(b"debian")
    assert seen(origin) == disk(b"trixie")
    clone.remove()
    assert seen(origin, 1) == disk(b"debian")


def test_within_a_pool_with_reflinks_nothing_is_copied(pool: Pool, origin: Volume) -> None:
    told: list[object] = []
    pool.on_progress = lambda *what: told.append(what)
    pool.clone(origin, "ci-42/root")

    assert bool(told) is not pool.capacity().reflinks


def test_a_running_volume_is_cloned_as_it_was_before_its_start(pool: Pool, origin: Volume) -> None:
    origin.start()
    draw(origin, b"half done")

    assert seen(pool.clone(origin, "ci-42/root")) == disk(b"debian")


def test_from_an_image_file(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "cloud.img"
    path.write_bytes(b"x" * 1000)

    assert seen(pool.clone(path, "ci-42/root")) == disk(b"x" * 1000, size=1024)


def test_from_a_block_device(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "cloud.img"
    path.write_bytes(disk(b"device", size=MIB))
    with by_loop_device(str(path)) as device:
        clone = pool.clone(device.name, "ci-42/root")

    assert seen(clone) == disk(b"device", size=MIB)


def test_from_a_pool_on_another_file_system(pool: Pool, pool_elsewhere: Pool) -> None:
    far = pool_elsewhere.create_volume("far/away", 16 * MIB)
    cycle(far, b"far", at=8 * MIB)
    told = []
    pool.on_progress = lambda what, done, total: told.append((done, total))
    clone = pool.clone(far, "ci-42/root")

    assert seen(clone) == seen(far)
    assert told[-1] == (16 * MIB, 16 * MIB)
    assert clone.usage < 2 * MIB


def test_from_a_revision(pool: Pool, origin: Volume) -> None:
    cycle(origin, b"trixie")
    with origin.export(1) as content:
        clone = pool.clone(content, "ci-42/root")

    assert seen(clone) == disk(b"debian")


def test_from_a_disposable_comes_its_sources_content(pool: Pool, origin: Volume) -> None:
    disposable = pool.create_volume("ci/root", source=origin)
    disposable.start()
    draw(disposable, b"lost")
    clone = pool.clone(disposable, "ci-42/root")

    assert clone.kind is Kind.PERSISTENT
    assert seen(clone) == disk(b"debian")


def test_it_is_set_up_as_asked(pool: Pool, origin: Volume) -> None:
    clone = pool.clone(origin, "ci-42/root", rw=False, keep="last 1", on_crash="revert")

    assert (clone.config.rw, clone.config.keep, clone.config.on_crash) == (
        False,
        "last 1",
        "revert",
    )


def test_not_over_a_volume_that_is_there(pool: Pool, origin: Volume) -> None:
    there = pool.create_volume("ci-42/root", SIZE)
    cycle(there, b"precious")
    with pytest.raises(Refused):
        pool.clone(origin, there.id)

    assert seen(there) == disk(b"precious")
    assert numbers(there) == []


def test_of_a_volume_that_is_none(pool: Pool) -> None:
    with pytest.raises(NoSuchVolume):
        pool.clone(Volume(pool, "ci/nowhere"), "ci-42/root")

    assert pool.volumes() == []


def test_an_empty_stream_is_no_disk(pool: Pool) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with Content(reading, "a pipe") as content, pytest.raises(InvalidSize, match="empty"):
        pool.clone(content, "ci-42/root")

    assert pool.volumes() == []


def test_if_the_import_fails_there_is_no_volume(pool: Pool, origin: Volume) -> None:
    def refuse(sender: Pool, **_: object) -> None:
        raise RuntimeError("not today")

    events.importing.connect(refuse, sender=pool)
    with pytest.raises(Vetoed, match="not today"):
        pool.clone(origin, "ci-42/root")

    assert pool.volumes() == [origin]
