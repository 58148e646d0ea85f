"""Volumes without snapshots: the VM writes to the current image itself, and stops make no revisions."""

from __future__ import annotations

import pytest

from conformance.harnesses import Hold
from lifecycle import InUse, InvalidConfig, Pool, Refused, State, Volume
from support.attached_disks import is_writable
from support.disks import SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.pools import NewPool


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("db/data", SIZE, snapshots=False)


def test_its_life(volume: Volume) -> None:
    volume.start()
    assert (volume.state, volume.current) == (State.STARTED, 0)
    draw(volume, b"one")
    assert volume.state is State.DIRTY
    change = volume.stop()
    assert (change.event, change.revision, volume.state) == ("commit", 1, State.COMMITTED)
    assert seen(volume) == disk(b"one")
    cycle(volume, b"two")
    assert (seen(volume), volume.current, numbers(volume)) == (disk(b"two"), 2, [])


def test_what_is_not_written_is_released(volume: Volume) -> None:
    cycle(volume, b"one")
    for _ in range(2):
        volume.start()
        assert seen_by_vm(volume) == disk(b"one")
        assert volume.stop().event == "release"
    assert (volume.state, volume.current) == (State.COMMITTED, 1)


@pytest.mark.parametrize("discard", [False, True])
def test_what_was_written_cannot_be_thrown_away(volume: Volume, discard: bool) -> None:
    cycle(volume, b"one")
    volume.start()
    draw(volume, b"two")
    with pytest.raises(Refused, match="no snapshots"):
        volume.stop(discard=True) if discard else volume.revert()
    assert (volume.state, seen_by_vm(volume)) == (State.DIRTY, disk(b"two"))


def test_it_cannot_be_read_while_it_runs(volume: Volume, pool: Pool) -> None:
    cycle(volume, b"one")
    volume.start()
    with pytest.raises(Refused, match="stop it first"):
        pool.clone(volume, "db/copy")
    with pytest.raises(Refused, match="stop it first"):
        volume.export()
    job = pool.create_volume("job/data", source="db/data")
    with pytest.raises(Refused, match="no snapshots and is running"):
        job.start()
    volume.stop()
    job.start()
    assert seen_by_vm(job) == disk(b"one")
    assert seen(pool.clone(volume, "db/copy")) == disk(b"one")


def test_it_does_not_start_while_someone_reads_it(volume: Volume) -> None:
    cycle(volume, b"one")
    with volume.export(), pytest.raises(InUse):
        volume.start()
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"one"))
    volume.start()


def test_at_rest_it_reverts_as_others_do_and_a_revision_is_never_written_to(volume: Volume) -> None:
    cycle(volume, b"one")
    volume.revert(0)
    assert (seen(volume), numbers(volume)) == (disk(), [1])
    volume.revert(1)
    cycle(volume, b"two")
    assert (seen(volume), seen(volume, 1)) == (disk(b"two"), disk(b"one"))
    cycle(volume, b"three")
    assert numbers(volume) == [1]


def test_a_checkpoint_is_a_revision(pool: Pool, volume: Volume) -> None:
    volume.start()
    draw(volume, b"one")
    volume.checkpoint()
    draw(volume, b"two")
    volume.stop()
    assert (seen(volume), seen(volume, 1), volume.current) == (disk(b"two"), disk(b"one"), 2)


@pytest.mark.parametrize(("policy", "state"), [("resume", "dirty"), ("commit", "committed")])
def test_after_a_crash(pool: Pool, policy: str, state: str) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=False, on_crash=policy)
    volume.start()
    draw(volume, b"one")
    pool.recover()
    assert volume.state == state
    if state == "dirty":
        volume.start()
        volume.stop()
    assert seen(volume) == disk(b"one")


def test_the_pool_s_policy_to_throw_away_is_not_for_it(new_pool: NewPool) -> None:
    pool = new_pool(on_crash="revert")
    volume = pool.create_volume("db/data", SIZE, snapshots=False)
    volume.start()
    draw(volume, b"one")
    pool.recover()
    assert (volume.state, seen_by_vm(volume)) == (State.DIRTY, disk(b"one"))


@pytest.mark.parametrize(
    "settings",
    [{"on_crash": "revert"}, {"save_on_stop": False}, {"source": "db/other"}],
    ids=lambda one: next(iter(one)),
)
def test_what_throws_away_takes_snapshots(pool: Pool, settings: dict[str, object]) -> None:
    pool.create_volume("db/other", SIZE)
    with pytest.raises(InvalidConfig, match="snapshots"):
        pool.create_volume("db/data", SIZE, snapshots=False, **settings)  # type: ignore[arg-type]


# ---------------------------------------------------------------- switching


def test_switching_there_and_back(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.configure(snapshots=False)
    cycle(volume, b"three")
    assert (numbers(volume), seen(volume)) == ([1], disk(b"three"))
    volume.configure(snapshots=True)
    cycle(volume, b"four")
    assert (numbers(volume), seen(volume, 3)) == ([1, 3], disk(b"three"))


@pytest.mark.parametrize("before", [True, False])
def test_it_is_not_switched_while_it_runs(pool: Pool, before: bool) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=before)
    volume.start()
    with pytest.raises(Refused, match="only at rest"):
        volume.configure(snapshots=not before)


def test_it_is_not_switched_while_a_disposable_of_it_runs(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE)
    job = pool.create_volume("job/data", source="db/data")
    job.start()
    with pytest.raises(Refused, match="job/data runs"):
        volume.configure(snapshots=False)
    job.stop()
    assert volume.configure(snapshots=False).snapshots is False


def test_a_read_only_one_is_never_written_to(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=False)
    cycle(volume, b"one")
    volume.configure(rw=False)
    volume.start()
    assert not is_writable(volume)
    assert seen(volume) == disk(b"one")
    assert volume.stop().event == "release"


def test_a_vm_that_cannot_start_gives_it_back(
    pool: Pool, volume: Volume, by_another_process: Hold
) -> None:
    cycle(volume, b"one")
    held = pool.create_volume("db/zlog", SIZE)
    held.start()
    with by_another_process(held), pytest.raises(InUse):
        pool.vm("db").start()
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"one"))


def test_its_online_resize_is_committed(volume: Volume) -> None:
    volume.start()
    volume.resize(2 * SIZE)
    volume.stop()
    assert (volume.size, volume.current) == (2 * SIZE, 1)


def test_verify_finds_nothing_strange(volume: Volume, pool: Pool) -> None:
    for _ in range(2):
        volume.start()
        draw(volume, b"one")
        assert list(pool.verify()) == []
        volume.stop()
        assert list(pool.verify()) == []
