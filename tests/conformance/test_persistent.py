"""The life of a persistent volume: born empty, written, kept, found again."""

from datetime import UTC, datetime

import pytest
from freezegun import freeze_time

from lifecycle import Event, InvalidSize, Kind, Pool, Refused, State, Volume
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen, seen_by_vm

MONDAY = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 1, 6, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


def test_a_volume_is_born_empty_as_number_0(volume: Volume) -> None:
    assert volume.state is State.CREATED
    assert volume.kind is Kind.PERSISTENT
    assert volume.current == 0
    assert volume.size == SIZE
    assert volume.revisions == ()
    assert volume.source is None
    assert not volume.outdated
    assert not volume.left_over
    assert seen(volume) == disk()


def test_the_vm_starts_from_the_current_image(volume: Volume) -> None:
    cycle(volume, b"first")
    change = volume.start()

    assert (change.event, change.source, change.dest) == ("start", "committed", "started")
    assert change.revision == 1
    assert volume.state is State.STARTED
    assert volume.size == SIZE
    assert seen_by_vm(volume) == disk(b"first")


def test_a_start_copies_only_where_blocks_cannot_be_shared(pool: Pool, volume: Volume) -> None:
    """A copy tells its progress; sharing takes no time."""
    cycle(volume, b"first")
    told = []
    pool.on_progress = lambda what, done, total: told.append((volume.id in what, done, total))
    volume.start()

    assert told[-1:] == ([] if pool.capacity().reflinks else [(True, SIZE, SIZE)])


def test_what_the_vm_writes_shows_as_dirty(volume: Volume) -> None:
    volume.start()
    draw(volume, b"first", at=SIZE - 5)

    assert volume.state is State.DIRTY
    assert Event.COMMIT in volume.allowed
    assert Event.RELEASE not in volume.allowed


def test_a_write_of_what_was_there_before_is_a_write(volume: Volume) -> None:
    volume.start()
    draw(volume, b"\0")

    assert volume.state is State.DIRTY


def test_a_stop_keeps_what_was_written(volume: Volume) -> None:
    volume.start()
    draw(volume, b"first")
    change = volume.stop()

    assert (change.event, change.source, change.dest) == ("commit", "dirty", "committed")
    assert change.revision == 1
    assert volume.state is State.COMMITTED
    assert volume.current == 1
    assert seen(volume) == disk(b"first")


def test_what_was_current_becomes_a_revision(volume: Volume) -> None:
    with freeze_time(MONDAY):
        cycle(volume, b"first")
    with freeze_time(TUESDAY):
        cycle(volume, b"second")

    (revision,) = volume.revisions
    assert revision.number == 1
    assert revision.at == MONDAY
    assert revision.cause == "commit"
    assert revision.size == SIZE
    assert not revision.pinned
    assert not revision.current
    assert revision.label is None
    assert volume.current == 2
    assert seen(volume, 1) == disk(b"first")
    assert seen(volume, 2) == seen(volume) == disk(b"second")


def test_each_cycle_goes_on_from_the_one_before(volume: Volume) -> None:
    for number, mark in enumerate((b"a", b"b", b"c")):
        cycle(volume, mark, at=number)

    assert seen(volume) == disk(b"abc")
    assert seen(volume, 2) == disk(b"ab")
    assert seen(volume, 1) == disk(b"a")
    assert numbers(volume) == [1, 2]


def test_what_the_vm_writes_does_not_reach_the_current_image(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.start()
    draw(volume, b"second")

    assert seen(volume) == disk(b"first")


def test_discard_throws_away_what_was_written(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.start()
    draw(volume, b"second")
    change = volume.stop(discard=True)

    assert (change.event, change.dest) == ("revert", "reverted")
    assert volume.state is State.REVERTED
    assert volume.current == 1
    assert numbers(volume) == []
    assert seen(volume) == disk(b"first")


def test_a_pool_opened_again_shows_the_same(pool: Pool, volume: Volume) -> None:
    cycle(volume, b"first")
    cycle(volume, b"second")
    volume.start()
    again = Pool.open(pool.path)["ci-42/root"]

    assert again == volume
    assert again.look() == volume.look()
    assert again.revisions == volume.revisions
    assert again.stop().event == "release"


def test_the_marks_of_two_volumes_do_not_mix(pool: Pool) -> None:
    """Their names begin alike."""
    one, other = (pool.create_volume(f"ci/{name}", SIZE) for name in ("private", "private2"))
    cycle(one, b"one")
    cycle(other, b"other")
    cycle(other, b"again")
    one.remove()

    assert numbers(other) == [1]
    assert seen(other) == disk(b"again")


def test_there_can_be_one_volume_of_an_id(pool: Pool, volume: Volume) -> None:
    with pytest.raises(Refused) as refusal:
        pool.create_volume(volume.id, SIZE)

    assert refusal.value.event == "create"
    assert refusal.value.state == "created"


@pytest.mark.parametrize("size", [None, 0, -512, 1000, "10 sheep", True, 2**63])
def test_a_size_that_no_disk_can_have_is_refused(pool: Pool, size: object) -> None:
    with pytest.raises(InvalidSize):
        pool.create_volume("ci/root", size)  # type: ignore[arg-type]

    assert pool.volumes() == []


def test_a_size_can_be_written_as_people_do(pool: Pool) -> None:
    assert pool.create_volume("ci/root", "2M").size == 2 * MIB


def test_two_pools_have_nothing_to_do_with_each_other(pool: Pool, pool_elsewhere: Pool) -> None:
    here, there = (one.create_volume("ci/root", SIZE) for one in (pool, pool_elsewhere))
    cycle(here, b"here")

    assert here != there
    assert there.state is State.CREATED


def test_what_they_take_is_told(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", 64 * SIZE)
    empty = volume.usage
    cycle(volume, b"x" * 4 * SIZE)
    first = volume.usage
    cycle(volume, b"y" * 4 * SIZE)

    assert empty < SIZE
    assert first >= 4 * SIZE
    assert volume.usage >= first + 4 * SIZE
    capacity = pool.capacity()
    assert capacity.size is not None
    assert capacity.usage is not None
    assert 0 < capacity.usage < capacity.size


def test_a_pool_in_order_has_nothing_harmful(pool: Pool) -> None:
    for volume in (pool.create_volume(f"ci/{name}", SIZE) for name in ("root", "root2")):
        cycle(volume, b"x")
        volume.revert()
        volume.start()

    assert [finding for finding in pool.verify() if finding.harmful] == []
