"""A number is never used twice."""

import pytest

from lifecycle import Pool, StorageFailed, Volume
from support.between_commits import (
    discard,
    forget_all,
    prune_to_nothing,
    release,
    revert_and_forget_everything,
    revert_and_forget_what_was_current,
    revert_to_empty,
)
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.failing_backend import backend_fails


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A volume at number 3, with revisions 1 and 2."""
    volume = pool.create_volume("ci-42/root", SIZE, keep="all")
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    return volume


def open_again(volume: Volume) -> None:
    assert Pool.open(volume.pool.path)[volume.id].current == volume.current


@pytest.mark.parametrize(
    "happen",
    [
        forget_all,
        prune_to_nothing,
        revert_to_empty,
        revert_and_forget_what_was_current,
        revert_and_forget_everything,
        release,
        discard,
        open_again,
    ],
)
@pytest.mark.parametrize("make", ["commit", "checkpoint", "import", "resize"])
def test_the_next_is_above_all_before(
    pool: Pool, volume: Volume, happen: object, make: str
) -> None:
    assert callable(happen)
    happen(volume)
    volume = Pool.open(pool.path)[volume.id]

    match make:
        case "commit":
            assert cycle(volume, b"next") == 4
        case "checkpoint":
            volume.start()
            assert volume.checkpoint().revision == 4
            volume.stop()
        case "import":
            origin = pool.create_volume("ci/origin", SIZE)
            assert volume.import_from(origin).revision == 4
        case "resize":
            assert volume.resize(2 * SIZE).revision == 4
    happen(volume)
    assert cycle(volume, b"after") == 5


def test_a_number_that_was_announced_and_failed_may_be_given_to_the_next(
    pool: Pool, volume: Volume
) -> None:
    """Nothing ever bore it."""
    volume.start()
    draw(volume, b"four")
    with backend_fails(pool, "commit"), pytest.raises(StorageFailed):
        volume.stop()
    volume.stop()

    assert volume.current == 4
    assert numbers(volume) == [1, 2, 3]


def test_checkpoints_and_forgetting_them_leave_gaps(volume: Volume) -> None:
    volume.start()
    for _ in range(3):
        volume.checkpoint()
    volume.forget(4, 5, 6)
    draw(volume, b"seven")

    assert volume.stop().revision == 7
    assert numbers(volume) == [1, 2, 3]


def test_content_goes_with_its_number(volume: Volume) -> None:
    volume.revert(to=1)
    cycle(volume, b"four")
    volume.forget(2)
    volume.revert(to=3)
    cycle(volume, b"FIVE")

    assert seen(volume, 4) == disk(b"four")
    assert numbers(volume) == [1, 3, 4]
    assert volume.current == 5
