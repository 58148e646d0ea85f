"""A record that cannot be read, or is lost: the ways back, and what is known without it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import Pool, State
from support.crash_injection import Stopped, stopping_at
from support.damaged_volumes import AT, ID, beside, files_of, with_an_unreadable_record
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.pools import NewPool


@pytest.fixture
def pool(new_xfs_pool: NewPool) -> Pool:
    return new_xfs_pool(keep="all")


# ---------------------------------------------------------------- a record that cannot be read

UNREADABLE = [b"", b"{", b"\xff\xfe\x00", b"[]", b'{"format": 1}', b'{"format": -1}', b"\0" * 4096]


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_revert_leads_back_to_what_is_current(pool: Pool, content: bytes) -> None:
    volume = with_an_unreadable_record(pool, content)
    with freeze_time(AT):
        volume.revert()

    assert (volume.state, volume.current) == (State.REVERTED, 3)
    assert seen(volume) == disk(b"three")
    assert [seen(volume, number) for number in numbers(volume)] == [disk(b"one"), disk(b"two")]
    assert beside(volume, ".json.damaged@2026-01-02T03:04:05Z").read_bytes() == content
    assert cycle(volume, b"four") == 4


@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_a_revert_leads_back_to_any_revision(pool: Pool, to: int) -> None:
    volume = with_an_unreadable_record(pool, b"{")
    volume.revert(to)

    assert (volume.state, volume.current) == (State.REVERTED, to)
    assert seen(volume) == disk([b"", b"one", b"two", b"three"][to])
    volume.revert(3)
    assert seen(volume) == disk(b"three")
    assert cycle(volume, b"four") == 4


@pytest.mark.parametrize("running", [False, True])
def test_an_import_leads_back(pool: Pool, running: bool) -> None:
    volume = with_an_unreadable_record(pool, b"{", running=running)
    outside = Path(f"{pool.path}.outside")
    outside.write_bytes(disk(b"outside"))

    volume.import_from(outside)

    assert volume.state is State.COMMITTED
    assert seen(volume) == disk(b"outside")
    assert {seen(volume, number) for number in numbers(volume)} >= {
        disk(b"one"),
        disk(b"two"),
        disk(b"three"),
    }
    assert [name for name in files_of(volume) if name.startswith("root.json.damaged@")]
    used = {0, volume.current, *numbers(volume)}
    assert cycle(volume, b"again") not in used


@pytest.mark.parametrize("to", [None, 0, 1])
def test_the_working_image_is_kept_as_a_revision(pool: Pool, to: int | None) -> None:
    volume = with_an_unreadable_record(pool, b"{", running=True)

    volume.revert(to)

    kept = [one.number for one in volume.revisions if one.cause == "crash"]
    assert len(kept) == 1
    assert seen(volume, kept[0]) == disk(b"four!")
    assert not os.path.exists(volume.path)
    assert seen(volume) == disk({None: b"three", 0: b"", 1: b"one"}[to])


@pytest.mark.parametrize("lead_back", ["revert", "import"])
def test_the_way_back_can_be_cut_off_anywhere(new_xfs_pool: NewPool, lead_back: str) -> None:
    """And then be gone again: no content is lost, and no number given twice."""
    for change in range(1, 60):
        pool = new_xfs_pool(keep="all")
        volume = with_an_unreadable_record(pool, b"{", running=True)
        outside = Path(f"{pool.path}.outside")
        outside.write_bytes(disk(b"outside"))
        act = (
            volume.revert
            if lead_back == "revert"
            else functools.partial(volume.import_from, outside)
        )
        ended = True
        try:
            with stopping_at(change):
                act()
        except Stopped:
            ended = False
        if volume.state is State.DAMAGED:
            act()
        held = {seen(volume), *(seen(volume, number) for number in numbers(volume))}
        if volume.look().running:
            held.add(disk(b"four!") if Path(volume.path).read_bytes() == disk(b"four!") else b"")
        expected = {disk(mark) for mark in (b"one", b"two", b"three", b"four!")}
        assert held >= expected, f"cut off at change {change}"
        if ended:
            return
    pytest.fail("the way back never ended")


def test_a_working_image_that_is_no_file_does_not_bar_the_way(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    os.symlink("/dev/null", volume.path)
    assert volume.state is State.DAMAGED

    change = volume.revert()

    assert volume.state is change.dest is State.REVERTED
    assert seen(volume) == disk(b"one")


def test_a_current_image_that_was_cut_short(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    os.truncate(beside(volume, ".img"), 0)
    assert volume.state is State.DAMAGED

    volume.revert()

    assert (volume.state, volume.current) == (State.REVERTED, 1)
    assert seen(volume) == disk(b"one")
    assert cycle(volume, b"three") == 3


# ---------------------------------------------------------------- a record that is lost


@pytest.mark.parametrize("committed", [0, 1, 3])
@pytest.mark.parametrize("kept", ["all", "last 0"])
def test_numbers_are_known_without_the_record(
    new_xfs_pool: NewPool, committed: int, kept: str
) -> None:
    volume = new_xfs_pool(keep=kept).create_volume(ID, SIZE)
    for number in range(committed):
        cycle(volume, b"%d" % number)
    held = seen(volume)
    beside(volume, ".json").unlink()

    assert volume.state is State.COMMITTED
    assert seen(volume) == held
    assert volume.current == max(committed, 1)
    assert cycle(volume, b"next") == max(committed, 1) + 1


def test_no_number_is_used_twice_though_the_record_was_lost_after_a_revert(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    volume.revert(1)
    beside(volume, ".json").unlink()

    assert (volume.state, volume.current) == (State.REVERTED, 1)
    assert cycle(volume, b"four") == 4
    assert [seen(volume, one) for one in numbers(volume)] == [
        disk(mark) for mark in (b"one", b"two", b"three")
    ]


def test_what_runs_goes_on_though_the_record_was_lost(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    volume.start()
    beside(volume, ".json").unlink()
    assert volume.state is State.STARTED
    draw(volume, b"two")
    assert volume.stop().revision == 2
    assert seen(volume, 1) == disk(b"one")
