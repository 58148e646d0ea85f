"""Removing a volume with all its revisions."""

import pytest

from lifecycle import Event, NoSuchVolume, Pool, Refused, State, Volume
from support.disks import SIZE, cycle, disk, draw, numbers, seen


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


@pytest.mark.parametrize("state", [State.CREATED, State.COMMITTED, State.REVERTED])
def test_from_each_state_at_rest(pool: Pool, volume: Volume, state: State) -> None:
    if state is not State.CREATED:
        cycle(volume, b"first")
        cycle(volume, b"second")
    if state is State.REVERTED:
        volume.revert(to=1)
    change = volume.remove()

    assert (change.event, change.source, change.dest) == ("remove", state, "absent")
    assert volume.state is State.ABSENT
    assert volume.id not in pool
    assert pool.volumes() == []
    with pytest.raises(NoSuchVolume):
        pool[volume.id]


@pytest.mark.parametrize("alone", [True, False])
def test_there_is_nothing_to_see_then(pool: Pool, volume: Volume, alone: bool) -> None:
    if not alone:
        pool.create_volume("ci-42/private", SIZE)
    volume.remove()

    assert volume.allowed == (Event.CREATE,)
    assert volume.current is None
    assert volume.size is None
    assert not volume.left_over
    assert not volume.outdated
    assert volume.revisions == ()
    assert volume.usage == 0
    assert volume.in_use_by == ()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    "act",
    [
        Volume.start,
        Volume.stop,
        Volume.write,
        Volume.release,
        Volume.commit,
        Volume.checkpoint,
        Volume.revert,
        lambda volume: volume.resize(SIZE),
        lambda volume: volume.import_from(__file__),
        Volume.remove,
        Volume.export,
        Volume.prune,
        lambda volume: volume.forget(1),
        lambda volume: volume.pin(1),
        lambda volume: volume.label(1, "x"),
        lambda volume: volume.configure(keep="all"),
    ],
)
def test_nothing_can_be_done_with_it_then(
    pool: Pool, volume: Volume, alone: bool, act: object
) -> None:
    assert callable(act)
    if not alone:
        pool.create_volume("ci-42/private", SIZE)
    volume.remove()

    with pytest.raises((NoSuchVolume, Refused)):
        act(volume)
    assert volume.state is State.ABSENT


@pytest.mark.parametrize("written", [False, True])
def test_a_running_volume_stays(volume: Volume, written: bool) -> None:
    volume.start()
    if written:
        draw(volume, b"first")
    with pytest.raises(Refused) as refusal:
        volume.remove()

    assert refusal.value.allowed == tuple(map(str, volume.allowed))
    assert volume.state is (State.DIRTY if written else State.STARTED)


def test_its_neighbours_stay(pool: Pool, volume: Volume) -> None:
    neighbours = [
        pool.create_volume(one, SIZE) for one in ("ci-42/root2", "ci-42/roo", "ci-4/root", "ci/x/y")
    ]
    for one in (volume, *neighbours):
        cycle(one, one.id.encode())
        cycle(one, b"-", at=SIZE - 1)
    volume.remove()

    assert set(pool.volumes()) == set(neighbours)
    for one in neighbours:
        assert seen(one, 1) == disk(one.id.encode())


def test_one_of_the_same_name_begins_anew(pool: Pool, volume: Volume) -> None:
    cycle(volume, b"first")
    cycle(volume, b"second")
    volume.pin(1)
    volume.remove()
    again = pool.create_volume(volume.id, SIZE)

    assert again.state is State.CREATED
    assert again.current == 0
    assert seen(again) == disk()
    assert cycle(again, b"first") == 1
    assert numbers(again) == []


@pytest.mark.parametrize("kind", [{"save_on_stop": False, "size": SIZE}, {"source": "ci-42/root"}])
def test_of_the_other_kinds(pool: Pool, volume: Volume, kind: dict[str, object]) -> None:
    other = pool.create_volume("ci-43/other", **kind)  # type: ignore[arg-type]
    other.start()
    draw(other, b"x")
    other.stop()
    other.remove()

    assert pool.volumes() == [volume]


def test_a_vm_is_gone_with_its_last_volume(pool: Pool, volume: Volume) -> None:
    volume.remove()

    with pytest.raises(NoSuchVolume):
        pool.vm("ci-42").start()
    assert pool.volumes("ci-42") == []
