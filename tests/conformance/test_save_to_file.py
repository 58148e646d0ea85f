"""What a volume holds, saved to a file or device outside."""

import os
import stat
from pathlib import Path

import pytest

from conformance.conftest import Fill
from lifecycle import NoSuchRevision, NoSuchVolume, Pool, Volume
from lifecycle.errors import NotContent
from support.disks import MIB, SIZE, disk, seen
from support.holding_open import by_loop_device
from support.mounts import FileSystem


@pytest.fixture
def pool(fill: Fill) -> Pool:
    return fill(
        {
            "ci-42/root": disk(b"second"),
            "ci/large": bytes(8 * MIB) + disk(b"in the middle", size=8 * MIB),
        }
    )


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool["ci-42/root"]


def test_there_must_be_such_a_revision(volume: Volume) -> None:
    with pytest.raises(NoSuchRevision):
        volume.export(99)


def test_there_must_be_such_a_volume(pool: Pool) -> None:
    with pytest.raises(NoSuchVolume):
        Volume(pool, "ci/nowhere").export()


def test_to_a_file_on_the_same_file_system(volume: Volume, file_system: FileSystem) -> None:
    path = file_system.new_directory() / "out.img"
    with volume.export() as content:
        content.save(str(path))
    path.write_bytes(b"changed afterwards")

    assert seen(volume) == disk(b"second")


def test_a_file_is_private(volume: Volume, tmp_path: Path) -> None:
    with volume.export() as content:
        content.save(str(tmp_path / "out.img"))

    assert stat.S_IMODE(os.stat(tmp_path / "out.img").st_mode) == 0o600


def test_a_file_that_is_there_is_replaced_only_when_asked(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "out.img"
    path.write_bytes(b"precious")
    with volume.export() as content:
        with pytest.raises(FileExistsError):
            content.save(str(path))
        assert path.read_bytes() == b"precious"
        content.save(str(path), replace=True)

    assert path.read_bytes() == disk(b"second")
    assert os.listdir(tmp_path) == ["out.img"]


def test_a_copy_is_sparse_and_tells_its_progress(pool: Pool, other_file_system: FileSystem) -> None:
    volume = pool["ci/large"]
    path = other_file_system.new_directory() / "out.img"
    told = []
    with volume.export() as content:
        content.save(str(path), progress=lambda done, total: told.append((done, total)))

    assert path.read_bytes() == seen(volume)
    assert path.stat().st_blocks * 512 < 2 * MIB
    assert told[-1] == (16 * MIB, 16 * MIB)


def test_to_a_block_device(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "device.img"
    path.write_bytes(b"y" * MIB)
    with by_loop_device(str(path)) as device, volume.export() as content:
        content.save(device.name)

    assert path.read_bytes() == disk(b"second") + b"y" * (MIB - SIZE)


def test_a_block_device_must_be_large_enough(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "device.img"
    path.write_bytes(b"y" * (SIZE // 2))
    with (
        by_loop_device(str(path)) as device,
        volume.export() as content,
        pytest.raises(NotContent, match="fewer"),
    ):
        content.save(device.name)

    assert path.read_bytes() == b"y" * (SIZE // 2)


def test_a_directory_is_no_place_for_a_disk(volume: Volume, tmp_path: Path) -> None:
    with volume.export() as content, pytest.raises(NotContent):
        content.save(str(tmp_path))
