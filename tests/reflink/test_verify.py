"""What `verify` finds in a pool: images that were changed, files that lie about, damaged volumes."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import LifecycleError, Pool, State
from lifecycle.model import Finding
from support.damaged_volumes import AT, FOREIGN, ID, LEFTOVERS, beside, with_an_unreadable_record
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.pools import NewPool
from support.snapshots import snapshot


@pytest.fixture
def pool(new_xfs_pool: NewPool) -> Pool:
    return new_xfs_pool(keep="all")


def verified(pool: Pool) -> dict[str, Finding]:
    return {one.path: one for one in pool.verify()}


def test_a_sound_pool_has_no_findings(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.revert()
    volume.resize(2 * SIZE)
    volume.start()
    draw(volume, b"three")
    volume.checkpoint()
    cycle(pool.create_volume("ci-42/data", SIZE), b"other")
    pool.create_volume("ci-42/new", SIZE)
    assert verified(pool) == {}


@pytest.mark.parametrize("ending", [".img", ".img.1@2026-01-02T03:04:05Z"])
def test_verify_names_an_image_that_was_changed_in_place(pool: Pool, ending: str) -> None:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(AT):
        cycle(volume, b"one")
        cycle(volume, b"two")
    with beside(volume, ending).open("r+b") as image:
        image.write(b"vandal")

    found = verified(pool)

    assert {path: one.harmful for path, one in found.items()} == {f"{ID}{ending}": True}
    assert "changed in place" in found[f"{ID}{ending}"].text


def test_verify_names_a_revision_that_was_cut_short(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(AT):
        cycle(volume, b"one")
        cycle(volume, b"two")
    os.truncate(beside(volume, ".img.1@2026-01-02T03:04:05Z"), 0)

    found = verified(pool)

    assert list(found) == [f"{ID}.img.1@2026-01-02T03:04:05Z"]
    assert all(one.harmful for one in found.values())
    with pytest.raises(LifecycleError, match="cut short"):
        volume.revert(1)
    assert seen(volume) == disk(b"two")


@pytest.mark.parametrize("name", [*LEFTOVERS, *FOREIGN])
def test_verify_names_what_lies_about(pool: Pool, name: str) -> None:
    volume = pool.create_volume(ID, SIZE)
    path = beside(volume, "").parent / name
    path.write_bytes(beside(volume, ".json").read_bytes())
    before = snapshot(pool.path)

    found = verified(pool)

    assert {one: finding.harmful for one, finding in found.items()} == {f"ci-42/{name}": False}
    assert snapshot(pool.path) == before


def test_verify_names_what_lies_beside_the_vms(pool: Pool) -> None:
    Path(pool.path, "notes.txt").touch()
    assert {path: one.harmful for path, one in verified(pool).items()} == {"notes.txt": False}


def test_verify_names_a_damaged_volume(pool: Pool) -> None:
    volume = with_an_unreadable_record(pool, b"{")
    found = verified(pool)
    assert found[ID].harmful
    assert "revert" in found[ID].text
    volume.revert()
    assert [one for one in pool.verify() if one.harmful] == []


def test_a_copied_pool_is_sound(pool: Pool, tmp_path: Path) -> None:
    """A pool can be moved with what keeps hard links, times and holes; nothing else is needed."""
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.revert()
    copy = f"{pool.path}.copy"
    assert os.system(f"cp -a '{pool.path}' '{copy}'") == 0

    there = Pool.open(copy)

    assert list(there.verify()) == []
    assert (there[ID].state, there[ID].current, numbers(there[ID])) == (State.REVERTED, 1, [1, 2])
    assert cycle(there[ID], b"three") == 3


def test_time_runs_backwards_between_commits(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    for number in range(1, 4):
        with freeze_time(AT - timedelta(days=number)):
            assert cycle(volume, b"%d" % number) == number
    assert verified(pool) == {}
    volume.revert()
    assert volume.current == 2
