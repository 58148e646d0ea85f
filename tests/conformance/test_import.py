"""Imports: content from outside becomes current; what was current becomes a revision."""

import os
import subprocess
from pathlib import Path

import pytest

from lifecycle import InvalidSize, NoSuchVolume, Pool, State, Volume
from lifecycle.errors import NotContent
from lifecycle.transfer.content import Content
from support.attached_disks import attached
from support.disks import MIB, SIZE, cycle, disk, numbers, seen
from support.holding_open import by_loop_device
from support.mounts import FileSystem


@pytest.fixture
def volume(pool: Pool) -> Volume:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    return volume


def image(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_what_was_current_becomes_a_revision(volume: Volume, tmp_path: Path) -> None:
    change = volume.import_from(image(tmp_path / "x.img", disk(b"outside", size=2 * MIB)))

    assert (change.event, change.source, change.dest) == ("import", "committed", "committed")
    assert change.revision == 2
    assert volume.state is State.COMMITTED
    assert volume.current == 2
    assert volume.size == 2 * MIB
    assert seen(volume) == disk(b"outside", size=2 * MIB)
    assert seen(volume, 1) == disk(b"first")
    assert numbers(volume) == [1]


@pytest.mark.parametrize("state", [State.CREATED, State.COMMITTED, State.REVERTED])
def test_from_each_state_at_rest_and_back(pool: Pool, tmp_path: Path, state: State) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    if state is not State.CREATED:
        cycle(volume, b"first")
    if state is State.REVERTED:
        volume.revert()
    assert volume.state is state
    before = seen(volume)
    volume.import_from(image(tmp_path / "x.img", disk(b"outside")))
    assert seen(volume) == disk(b"outside")
    if state is State.COMMITTED:
        volume.revert()
    else:
        volume.revert(to=0)

    assert seen(volume) == before


def test_from_a_file_on_the_same_file_system(volume: Volume, file_system: FileSystem) -> None:
    path = image(file_system.new_directory() / "x.img", disk(b"outside"))
    volume.import_from(path)
    assert seen(volume) == disk(b"outside")
    path.write_bytes(b"changed afterwards")

    assert seen(volume) == disk(b"outside")


def test_from_a_block_device(volume: Volume, tmp_path: Path) -> None:
    path = image(tmp_path / "x.img", disk(b"device", size=2 * MIB))
    with by_loop_device(str(path)) as device:
        volume.import_from(device.name)

    assert seen(volume) == disk(b"device", size=2 * MIB)


def test_from_a_pipe(volume: Volume, tmp_path: Path) -> None:
    path = image(tmp_path / "x.img", disk(b"piped", size=3 * MIB))
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        volume.import_from(Content(process.stdout.fileno(), "a pipe"))

    assert seen(volume) == disk(b"piped", size=3 * MIB)


def test_from_a_pipe_by_its_path(volume: Volume) -> None:
    reading, writing = os.pipe()
    os.write(writing, disk(b"piped", size=4096))
    os.close(writing)
    volume.import_from(f"/dev/fd/{reading}")
    os.close(reading)

    assert seen(volume) == disk(b"piped", size=4096)


def test_from_another_volume(pool: Pool, volume: Volume) -> None:
    other = pool.create_volume("ci/other", SIZE)
    cycle(other, b"other")
    volume.import_from(other)
    cycle(other, b"later")

    assert seen(volume) == disk(b"other")


def test_from_a_running_volume_comes_the_state_before_its_start(pool: Pool, volume: Volume) -> None:
    other = pool.create_volume("ci/other", SIZE)
    volume.start()
    with attached(volume) as working:
        working.write(0, b"half done")
        other.import_from(volume)

    assert seen(other) == disk(b"first")


def test_from_a_pool_on_another_file_system(volume: Volume, pool_elsewhere: Pool) -> None:
    other = pool_elsewhere.create_volume("far/away", 2 * MIB)
    cycle(other, b"far", at=MIB)
    volume.import_from(other)

    assert seen(volume) == seen(other)
    assert volume.size == 2 * MIB


def test_from_an_older_revision(volume: Volume) -> None:
    cycle(volume, b"second")
    with volume.export(1) as content:
        change = volume.import_from(content)

    assert change.revision == 3
    assert seen(volume) == disk(b"first")
    assert numbers(volume) == [1, 2]


def test_a_copy_tells_its_progress(volume: Volume, pool_elsewhere: Pool) -> None:
    other = pool_elsewhere.create_volume("far/away", 3 * MIB)
    cycle(other, b"x" * 3 * MIB)
    told = []
    volume.pool.on_progress = lambda what, done, total: told.append((what, done, total))
    volume.import_from(other)

    assert all(volume.id in what for what, _, _ in told)
    assert {total for _, _, total in told} == {3 * MIB}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert len(done) > 1
    assert done[-1] == 3 * MIB


def test_a_copy_is_sparse(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "sparse.img"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(bytes(4 * MIB) + b"in the middle")
    before = volume.usage
    volume.import_from(path)

    assert volume.size == 1 << 30
    assert volume.usage < before + 2 * MIB


def test_a_length_that_is_no_whole_number_of_sectors_is_rounded_up(
    volume: Volume, tmp_path: Path
) -> None:
    volume.import_from(image(tmp_path / "x.img", b"x" * 1000))

    assert seen(volume) == disk(b"x" * 1000, size=1024)


def test_what_is_empty_is_no_disk(volume: Volume, tmp_path: Path) -> None:
    before = volume.look(), volume.revisions
    with pytest.raises(InvalidSize):
        volume.import_from(image(tmp_path / "x.img", b""))

    assert (volume.look(), volume.revisions) == before


@pytest.mark.parametrize(
    ("path", "error"),
    [("/nowhere/at/all", FileNotFoundError), ("/", NotContent), ("/dev/zero", NotContent)],
)
def test_what_cannot_be_read_changes_nothing(volume: Volume, path: str, error: type) -> None:
    before = volume.look(), volume.revisions
    with pytest.raises(error):
        volume.import_from(path)

    assert (volume.look(), volume.revisions) == before


def test_from_a_volume_that_is_none(pool: Pool, volume: Volume) -> None:
    with pytest.raises(NoSuchVolume):
        volume.import_from(Volume(pool, "ci/nowhere"))
