"""Exports: the current image or any revision, also while the VM runs. Looking takes no lock and never waits."""

from pathlib import Path

import pytest

from lifecycle import NoSuchRevision, Pool, Volume
from support.attached_disks import attached
from support.disks import SIZE, cycle, disk, draw, read_all, seen


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A volume at number 2."""
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    cycle(volume, b"second")
    return volume


CONTENT = {None: disk(b"second"), 0: disk(), 1: disk(b"first"), 2: disk(b"second")}


@pytest.mark.parametrize("revision", CONTENT)
@pytest.mark.parametrize("running", [False, True])
def test_the_current_image_and_every_revision(
    volume: Volume, revision: int | None, running: bool, tmp_path: Path
) -> None:
    if running:
        volume.start()
        draw(volume, b"half done")
    path = tmp_path / "out.img"
    with volume.export(revision) as content:
        assert content.size == SIZE
        content.save(str(path))

    assert path.read_bytes() == CONTENT[revision]


def test_while_the_vm_holds_its_image_open(volume: Volume) -> None:
    volume.start()
    with attached(volume) as working:
        working.write(0, b"half done")
        assert seen(volume) == disk(b"second")
        assert seen(volume, 1) == disk(b"first")


def test_what_is_open_stays_readable_whatever_happens(volume: Volume) -> None:
    with volume.export() as current, volume.export(1) as first:
        cycle(volume, b"third!")
        volume.forget(1, 2)
        assert read_all(current) == disk(b"second")
        assert read_all(first) == disk(b"first")


@pytest.mark.parametrize("revision", [3, 99, -1])
def test_there_must_be_such_a_revision(volume: Volume, revision: int) -> None:
    with pytest.raises(NoSuchRevision) as error:
        volume.export(revision)

    assert error.value.available == (1,)
