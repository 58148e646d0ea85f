"""The way back from a failed flush, whatever name the working image bears and how many: nothing is lost on it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import Pool, State, Volume
from lifecycle.errors import ForeignFile, StorageFailed
from lifecycle.linux import holders
from support.disks import SIZE, cycle, disk, draw, seen


def contents(directory: Path) -> set[bytes]:
    """Return what all files in a VM's directory hold that may be images, whatever they are called."""
    return {one.read_bytes()[:5] for one in directory.iterdir() if ".json" not in one.name}


@pytest.mark.parametrize("recovering", [False, True], ids=["at once", "after recover"])
@pytest.mark.parametrize("second_name", [False, True], ids=["one name", "a second name"])
@pytest.mark.parametrize("cut_off", [False, True], ids=["its own name", "withdrawn"])
@pytest.mark.parametrize("snapshots", [True, False])
def test_what_the_disk_holds_is_kept(
    pool: Pool, snapshots: bool, cut_off: bool, second_name: bool, recovering: bool
) -> None:
    volume = pool.create_volume("ci/root", SIZE, snapshots=snapshots)
    cycle(volume, b"first")
    volume.start()
    draw(volume, b"guest")
    os.chmod(volume.path, 0o1600)
    backup = Path(pool.path, "backup")
    if second_name:
        os.link(volume.path, backup)
    if cut_off:
        os.rename(volume.path, f"{volume.path}@withdrawn")
    before = contents(Path(volume.path).parent)
    if recovering:
        pool.recover()
    if second_name and not snapshots:
        refuse_to_change_the_second_name(volume)
        os.unlink(backup)
        second_name = False
    volume.revert()
    assert volume.state in {State.REVERTED, State.COMMITTED}
    assert not list(Path(volume.path).parent.glob("root-dirty.img@withdrawn"))
    assert contents(Path(volume.path).parent) == before
    assert seen(volume) == disk(b"first" if snapshots else b"guest")
    if snapshots and not second_name:
        assert seen(volume, volume.revisions[-1].number) == disk(b"guest")
    if second_name:
        assert backup.read_bytes() == disk(b"guest")
        assert os.stat(backup).st_mode & 0o7777 == 0o1600
    cycle(volume, b"later")
    assert seen(volume) == disk(b"later")
    assert not [one for one in pool.verify() if one.harmful]


def test_what_someone_reads_meanwhile_is_not_accepted_and_it_is_said_why(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"first")
    current = Path(pool.path, "ci/root.img")
    os.chmod(current, 0o1600)
    with current.open("rb") as image, mmap.mmap(image.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:5] == b"first"
        # it was opened after it was asked who has it
        with (
            mock.patch.object(holders, "users", return_value=()),
            pytest.raises(StorageFailed, match="try again when nothing has it open"),
        ):
            volume.revert()
    volume.revert()
    assert seen(volume) == disk(b"first")


def refuse_to_change_the_second_name(volume: Volume) -> None:
    """There is no other image, so there is nothing to go back to: and the refusal changes nothing."""
    files = {one.name for one in Path(volume.path).parent.iterdir()}
    for _twice in range(2):
        with pytest.raises(ForeignFile, match="remove the other name"):
            volume.revert()
        volume.pool.recover()
    assert {one.name for one in Path(volume.path).parent.iterdir()} == files
    assert volume.state is State.DAMAGED
