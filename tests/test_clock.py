"""A clock that goes backwards."""

from __future__ import annotations

from datetime import UTC, datetime

from conftest import NewPool
from disks import SIZE, cycle, disk, numbers, seen
from freezegun import freeze_time


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
