"""Resizes: at rest the old size can be had again; online, whoever is made of the image is told."""

from collections.abc import Callable

import pytest

from lifecycle import InvalidSize, Pool, Refused, State, Volume
from lifecycle.report import documents
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.listeners import Listener


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


def test_an_empty_volume_is_empty_at_another_size(volume: Volume) -> None:
    change = volume.resize("2M")

    assert (change.event, change.source, change.dest) == ("resize", "created", "created")
    assert change.revision is None
    assert change.asked["size"] == 2 * MIB
    assert volume.state is State.CREATED
    assert volume.current == 0
    assert volume.size == 2 * MIB
    assert volume.revisions == ()
    assert seen(volume) == disk(size=2 * MIB)
    assert volume.config.size == 2 * MIB


def test_at_rest_the_old_size_stays_a_revision(volume: Volume) -> None:
    cycle(volume, b"first")
    change = volume.resize(2 * MIB)

    assert (change.source, change.dest, change.revision) == ("committed", "committed", 2)
    assert volume.state is State.COMMITTED
    assert volume.current == 2
    assert volume.size == 2 * MIB
    assert seen(volume) == disk(b"first", size=2 * MIB)
    assert [(one.number, one.size) for one in volume.revisions] == [(1, SIZE)]


def test_a_shrink_at_rest_can_be_undone(volume: Volume) -> None:
    cycle(volume, b"the end", at=SIZE - 7)
    before = seen(volume)
    volume.resize(SIZE // 2)
    assert seen(volume) == disk(size=SIZE // 2)
    volume.revert()

    assert volume.size == SIZE
    assert seen(volume) == before
    assert [(one.number, one.size) for one in volume.revisions] == [(1, SIZE), (2, SIZE // 2)]


def test_what_a_shrink_cut_off_is_gone_when_it_grows_again(volume: Volume) -> None:
    cycle(volume, b"the end", at=SIZE - 7)
    volume.resize(SIZE // 2)
    volume.resize(SIZE)

    assert seen(volume) == disk()


def test_a_reverted_volume_keeps_all_its_revisions(volume: Volume) -> None:
    cycle(volume, b"first")
    cycle(volume, b"second")
    volume.revert(to=1)
    change = volume.resize(2 * MIB)

    assert (change.source, change.dest, change.revision) == ("reverted", "committed", 3)
    assert numbers(volume) == [1, 2]
    assert seen(volume) == disk(b"first", size=2 * MIB)


def test_the_next_start_has_the_new_size(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.resize(2 * MIB)
    volume.start()

    assert seen_by_vm(volume) == disk(b"first", size=2 * MIB)


def test_the_empty_image_is_as_large_as_it_was_born(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.resize(2 * MIB)
    volume.revert(to=0)

    assert volume.size == SIZE


@pytest.mark.parametrize("written", [False, True])
def test_online_it_stays_running(volume: Volume, written: bool) -> None:
    cycle(volume, b"first")
    volume.start()
    if written:
        draw(volume, b"second")
    before = seen_by_vm(volume)
    change = volume.resize(2 * MIB)

    assert change.source is change.dest is (State.DIRTY if written else State.STARTED)
    assert change.revision is None
    assert volume.size == 2 * MIB
    assert seen_by_vm(volume) == disk(before, size=2 * MIB)
    assert seen(volume) == disk(b"first")
    assert numbers(volume) == []


def test_a_resize_online_is_kept_at_the_stop(volume: Volume) -> None:
    volume.start()
    volume.resize(2 * MIB)

    assert volume.stop().event == "commit"
    assert volume.size == 2 * MIB
    volume.revert()
    assert volume.size == SIZE


def test_a_resize_online_is_thrown_away_with_the_rest(volume: Volume) -> None:
    volume.start()
    volume.resize(2 * MIB)
    volume.stop(discard=True)

    assert volume.size == SIZE


def test_online_it_shrinks_only_when_insisted_upon(volume: Volume) -> None:
    volume.start()
    draw(volume, b"the end", at=SIZE - 7)
    with pytest.raises(Refused, match="shrink"):
        volume.resize(SIZE // 2)
    assert volume.size == SIZE

    volume.resize(SIZE // 2, shrink=True)
    assert volume.size == SIZE // 2
    assert seen_by_vm(volume) == disk(size=SIZE // 2)


@pytest.mark.parametrize("size", [0, -512, 1000, "large", 2**63])
@pytest.mark.parametrize("running", [False, True])
def test_no_disk_can_have_that_size(volume: Volume, size: object, running: bool) -> None:
    if running:
        volume.start()
    before = volume.look()
    with pytest.raises(InvalidSize):
        volume.resize(size)  # type: ignore[arg-type]

    assert volume.look() == before


def test_a_size_beyond_the_file_systems_own_limit(volume: Volume) -> None:
    """Those that can hold it (btrfs, XFS nearly) may take it."""
    cycle(volume, b"first")
    before = volume.look()
    try:
        volume.resize(2**63 - 512)
    except InvalidSize:
        assert volume.look() == before


def test_a_disposable_is_resized_down_to_its_source(pool: Pool, volume: Volume) -> None:
    cycle(volume, b"first")
    disposable = pool.create_volume("ci/root", source=volume)
    change = disposable.resize(2 * MIB)

    assert change.revision is None
    assert disposable.size == 2 * MIB
    disposable.start()
    assert seen_by_vm(disposable) == disk(b"first", size=2 * MIB)
    disposable.stop()
    with pytest.raises(InvalidSize, match="source"):
        disposable.resize(SIZE // 2)
    disposable.resize(SIZE)
    assert disposable.size == SIZE


def stopped(volume: Volume) -> None:
    volume.start()
    draw(volume, b"first")
    volume.stop()


def started(volume: Volume) -> None:
    stopped(volume)
    volume.start()


def dirty(volume: Volume) -> None:
    started(volume)
    draw(volume, b"second")


def discarded(volume: Volume) -> None:
    volume.start()
    draw(volume, b"first")
    volume.stop(discard=True)


@pytest.mark.parametrize(
    "get_there",
    [
        lambda _volume: None,
        stopped,
        discarded,
        lambda volume: volume.start(),
        started,
        dirty,
    ],
    ids=["empty", "stopped", "discarded", "started empty", "started", "dirty"],
)
@pytest.mark.parametrize("kind", ["persistent", "volatile", "disposable"])
def test_of_that_size_already_nothing_is_done(
    pool: Pool, get_there: Callable[[Volume], object], kind: str
) -> None:
    base = pool.create_volume("base/root", SIZE // 2)
    cycle(base, b"base")
    volume = {
        "persistent": lambda: pool.create_volume("ci-42/root", SIZE),
        "volatile": lambda: pool.create_volume("ci-42/root", SIZE, save_on_stop=False),
        "disposable": lambda: pool.create_volume("ci-42/root", SIZE, source=base),
    }[kind]()
    get_there(volume)
    listener = Listener(pool)
    before = (documents.of_volume(volume), volume.history)

    assert volume.size == SIZE
    assert volume.resize(SIZE) is None
    assert volume.resize(f"{SIZE >> 10}K", shrink=True) is None
    assert (documents.of_volume(volume), volume.history) == before
    assert listener.take() == []


def test_of_that_size_already_and_unwritten_no_revision_is_spent(volume: Volume) -> None:
    started(volume)
    volume.resize(SIZE)

    assert volume.stop().event == "release"
    assert numbers(volume) == []


def test_what_may_not_be_resized_is_refused_at_the_same_size_too(volume: Volume) -> None:
    volume.remove()
    with pytest.raises(Refused):
        volume.resize(SIZE)
