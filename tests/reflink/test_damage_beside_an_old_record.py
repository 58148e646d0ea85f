"""Damage of a volume whose record is behind its images, as crashes and copies leave it: no number is given twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, State, Volume
from support.disks import SIZE, cycle, disk, draw, seen

Before = dict[int, bytes]
"""What the images of a volume hold, by number; the current one's too."""


def vm(volume: Volume) -> Path:
    return Path(volume.pool.path, volume.vm)


def contents(volume: Volume) -> Before:
    """Return what can be read of each number."""
    view = volume.look()
    found = {number: seen(volume, number).rstrip(b"\0") for number in view.numbers}
    if view.current:
        found[view.current] = seen(volume).rstrip(b"\0")
    return found


# ---------------------------------------------------------------- how the record comes to be behind


def a_commit_happened(volume: Volume) -> None:
    cycle(volume, b"three")


def a_revert_happened(volume: Volume) -> None:
    volume.revert(1)


def two_commits_happened_elsewhere(volume: Volume) -> None:
    """A newer image was copied over the current one, with its times and attributes."""
    copy = Pool.create(f"{volume.pool.path}-elsewhere", setup_check=False)
    shutil.copytree(vm(volume), Path(copy.path, volume.vm), symlinks=True)
    subprocess.run(["cp", "-a", f"{vm(volume)}/.", f"{copy.path}/{volume.vm}/"], check=True)
    cycle(copy[volume.id], b"three")
    shutil.copy2(f"{copy.path}/{volume.id}.img", vm(volume) / "new")
    os.rename(vm(volume) / "new", vm(volume) / "root.img")


# ---------------------------------------------------------------- and what else is wrong


def a_stale_working_image(volume: Volume, stale: Path) -> bytes | None:
    shutil.copy2(stale, volume.path)
    return b"stale"


def a_working_image_in_doubt(volume: Volume, _stale: Path) -> bytes | None:
    record = vm(volume) / "root.json"
    behind = record.with_suffix(".behind")
    shutil.copy2(record, behind)
    volume.start()
    draw(volume, b"doubtful")
    os.chmod(volume.path, 0o1600)
    os.rename(behind, record)
    return b"doubtful"


def a_current_image_in_doubt(volume: Volume, _stale: Path) -> bytes | None:
    os.chmod(vm(volume) / "root.img", 0o1600)
    return None


def changes_beside(volume: Volume, _stale: Path) -> bytes | None:
    (vm(volume) / "root-cow.img").write_bytes(b"changes")
    return None


def two_working_images(volume: Volume, stale: Path) -> bytes | None:
    for name in (volume.path, f"{volume.path}@withdrawn"):
        shutil.copy2(stale, name)
    return b"stale"


@pytest.mark.parametrize(
    "damage",
    [
        a_stale_working_image,
        a_working_image_in_doubt,
        a_current_image_in_doubt,
        changes_beside,
        two_working_images,
    ],
)
@pytest.mark.parametrize(
    "behind", [a_commit_happened, a_revert_happened, two_commits_happened_elsewhere]
)
def test_no_number_is_given_twice(
    pool: Pool,
    tmp_path: Path,
    behind: Callable[[Volume], None],
    damage: Callable[[Volume, Path], bytes | None],
) -> None:
    volume = pool.create_volume("ci/root", SIZE, keep="all")
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.start()
    draw(volume, b"stale")
    stale = vm(volume) / "stale"
    shutil.copy2(volume.path, stale)
    volume.stop(discard=True)
    shutil.copy2(vm(volume) / "root.json", vm(volume) / "old")
    behind(volume)
    expected = contents(volume)
    current = volume.look().current
    os.rename(vm(volume) / "old", vm(volume) / "root.json")
    kept = damage(volume, stale)
    assert volume.state is State.DAMAGED
    assert volume.look().current == current
    volume.revert()
    after = contents(volume)
    assert volume.look().current == current
    assert {number: after[number] for number in expected} == expected
    if kept is not None:
        assert kept in after.values()
    for mark in (b"fourth", b"fifth!"):
        cycle(volume, mark)
    later = contents(volume)
    assert {number: later[number] for number in after} == after
    assert later[max(later)] == b"fifth!"
    assert seen(volume) == disk(b"fifth!")
    assert not [one for one in pool.verify() if one.harmful]
