"""A clock that goes backwards."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import Pool, times
from lifecycle.reflink import record
from support.command_line import Call
from support.disks import SIZE, cycle, disk, numbers, seen
from support.pools import NewPool


def test_a_clock_that_goes_backwards_changes_no_order(new_pool: NewPool) -> None:
    volume = new_pool().create_volume("ci-42/root", SIZE, keep="last 2")
    moments = ["2026-03-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]
    with freeze_time(moments[0]) as clock:
        cycle(volume, b"first")
        clock.move_to(moments[1])
        cycle(volume, b"second")
        clock.move_to(moments[2])
        cycle(volume, b"third!")

        assert [(one.number, one.at) for one in volume.revisions] == [
            (1, datetime(2026, 3, 1, tzinfo=UTC)),
            (2, datetime(2025, 1, 1, tzinfo=UTC)),
        ]
        assert volume.current == 3
        assert volume.revert().revision == 2
        assert seen(volume) == disk(b"second")
        assert volume.revert().revision == 1
        assert seen(volume) == disk(b"first")


def test_a_revision_from_the_future_is_kept_and_takes_no_place(new_pool: NewPool) -> None:
    volume = new_pool().create_volume("ci-42/root", SIZE, keep="last 1")
    with freeze_time("2026-03-01T00:00:00Z") as clock:
        cycle(volume, b"from the future")
        clock.move_to("2026-01-01T00:00:00Z")
        for _ in range(3):
            cycle(volume, b"now")
        assert numbers(volume) == [1, 3]
        clock.move_to("2026-04-01T00:00:00Z")
        cycle(volume, b"later")

    assert numbers(volume) == [4]


ODD_CLOCKS = [
    "0001-01-01",
    "1901-01-01",
    "1969-12-31T23:59:59",
    "1970-01-01",
    "2039-01-01",
    "2500-01-01",
    "9999-12-31T23:59:59",
]


@pytest.mark.parametrize("clock", ODD_CLOCKS)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati"])
def test_whatever_the_clock_says_all_goes_on(new_pool: NewPool, clock: str, zone: str) -> None:
    pool = new_pool(timezone=zone, keep="3 daily, 2 hourly, last 3")
    with freeze_time(clock, tick=False):
        volume = pool.create_volume("ci-42/root", SIZE)
        for mark in (b"one", b"two", b"three"):
            cycle(volume, mark)
        assert volume.state == "committed"
        assert numbers(volume) == [1, 2]
        volume.revert(1)
        assert seen(volume) == disk(b"one")
        volume.start()
        assert volume.stop().event == "release"
        volume.pool.recover()
        volume.prune()
        volume.label(1, "kept")
        content = Path(pool.path, "ci-42", "root.json").read_bytes()
        assert record.read("root.json", content).current == 1
    assert [one.harmful for one in pool.verify()] == []
    assert volume.state == "reverted"
    cycle(volume, b"four")
    assert (volume.current, seen(volume), seen(volume, 3)) == (4, disk(b"four"), disk(b"three"))


@pytest.mark.parametrize(
    "seconds", [-(1 << 62), -1, 0, 1, 1 << 31, 1 << 33, 253_402_300_799, 253_402_300_800, 1 << 62]
)
def test_an_image_of_any_age_becomes_a_volume(xfs_pool: Pool, call: Call, seconds: int) -> None:
    vm = Path(xfs_pool.path, "old")
    vm.mkdir()
    (vm / "root.img").write_bytes(disk(b"old"))
    try:
        os.utime(vm / "root.img", ns=(0, seconds * 10**9))
    except OverflowError:
        os.utime(vm / "root.img", ns=(0, (1 << 63) - 1 if seconds > 0 else -(1 << 63)))
    volume = xfs_pool["old/root"]
    call("list")
    call("log", "old/root")
    cycle(volume, b"new")
    content = (vm / "root.json").read_bytes()
    assert record.read("root.json", content).current == 2
    assert (seen(volume), seen(volume, 1)) == (disk(b"new"), disk(b"old"))
    assert volume.revert().revision == 1


def test_a_clock_beyond_the_calendar_is_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Beyond(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Beyond:  # type: ignore[override]
            raise ValueError("year 10000 is out of range")

    monkeypatch.setattr(times, "datetime", Beyond)
    assert times.now() == times.LATEST
