"""Room: the reserve that a pool keeps free, and what happens when the disk is full nevertheless."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import InvalidConfig, LifecycleError, Pool, Refused, State, Volume, events
from lifecycle.config import POOL_FILE
from lifecycle.model import Change
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem, run

ID = "ci-42/root"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def small(
    mounted: Callable[[str], FileSystem], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A small XFS; it goes with the process's mount namespace, or with this module's tests."""
    image = mounted("xfs").path / "small.image"
    image.touch(mode=0o600)
    os.truncate(image, 300 * MIB)
    run("mkfs.xfs", "-q", str(image))
    path = tmp_path_factory.mktemp("small")
    run("mount", "-o", "loop", str(image), str(path))
    image.unlink()  # its room is free once it is mounted no more
    yield path
    run("umount", "--lazy", str(path))


@pytest.fixture
def pool(small: Path, request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A pool on the small XFS, with all revisions kept; gone after the test."""
    path = small / f"pool-{len(os.listdir(small))}"
    yield Pool.create(path, keep="all")
    if (small / "filled").exists():
        empty(small / "filled")
    run("rm", "-r", str(path))


def with_settings(pool: Pool, **settings: str) -> Pool:
    """Write settings to pool.toml as a person does, and open the pool anew."""
    path = Path(pool.path, POOL_FILE)
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    path.write_text(path.read_text() + "".join(lines))
    return Pool.open(pool.path)


def free(pool: Pool) -> int:
    found = os.statvfs(pool.path)
    return found.f_bavail * found.f_frsize


def fill(pool: Pool, leaving: int) -> Path:
    """Take all room but about this much of the pool's file system."""
    path = Path(pool.path).parent / "filled"
    with path.open("ab") as file:
        size = os.fstat(file.fileno()).st_size
        os.posix_fallocate(file.fileno(), size, max(free(pool) - leaving, 1))
    return path


@contextmanager
def full(pool: Pool) -> Iterator[None]:
    """Leave no room at all inside the block."""
    path = Path(pool.path).parent / "filled"
    for step in (16 * MIB, MIB, 1 << 16, 1 << 12):
        with path.open("ab") as file:
            while True:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    try:
        yield
    finally:
        empty(path)


def empty(path: Path) -> None:
    """Give its room back at once; that of a file that is removed comes back when the file system gets to it."""
    os.truncate(path, 0)
    path.unlink()


def commit_much(volume: Volume, mark: bytes, size: int = 8 * MIB) -> int:
    """Commit that much new content, which takes room of its own."""
    return cycle(volume, mark * (size // len(mark)))


# ---------------------------------------------------------------- the reserve

RESERVES = ["50%", "99.5%", "150M", "200MiB", "1T"]


@pytest.mark.parametrize("reserve", RESERVES)
def test_a_start_is_refused_before_the_reserve_is_touched(pool: Pool, reserve: str) -> None:
    pool = with_settings(pool, reserve=f'"{reserve}"')
    volume = pool.create_volume(ID, SIZE)
    fill(pool, leaving=100 * MIB)

    with pytest.raises(Refused) as refusal:
        volume.start()

    assert reserve in refusal.value.reason
    assert "pool.toml" in refusal.value.reason
    assert volume.state is State.CREATED
    assert not os.path.exists(volume.path)
    with pytest.raises(Refused):
        pool.vm("ci-42").start()


@pytest.mark.parametrize("reserve", ["1%", "0%", "50M", "512", ""])
def test_a_start_with_enough_room_is_not_refused(pool: Pool, reserve: str) -> None:
    pool = with_settings(pool, reserve=f'"{reserve}"')
    volume = pool.create_volume(ID, SIZE)
    fill(pool, leaving=100 * MIB)
    volume.start()
    assert volume.state is State.STARTED


def test_what_runs_is_stopped_and_resumed_without_the_reserve(pool: Pool) -> None:
    """The reserve is for this: it is asked for only by what begins."""
    volume = with_settings(pool, reserve='"50%"').create_volume(ID, SIZE)
    volume.start()
    fill(pool, leaving=100 * MIB)
    volume.start()
    draw(volume, b"one")
    assert volume.checkpoint().revision == 1
    assert volume.stop().revision == 2
    assert volume.revert().dest is State.REVERTED
    with pytest.raises(Refused):
        volume.start()


def test_the_start_succeeds_once_there_is_room(pool: Pool) -> None:
    volume = with_settings(pool, reserve='"50%"').create_volume(ID, SIZE)
    path = fill(pool, leaving=100 * MIB)
    with pytest.raises(Refused):
        volume.start()
    empty(path)
    volume.start()
    assert volume.state is State.STARTED


@pytest.mark.parametrize(
    "reserve", ["100%", "-1%", "5 %", "much", "%", "-1G", "1.5G", "5%5%", "nan%"]
)
def test_a_reserve_that_cannot_be(pool: Pool, reserve: str) -> None:
    with pytest.raises(InvalidConfig, match="reserve"):
        with_settings(pool, reserve=f'"{reserve}"')


# ---------------------------------------------------------------- making room


def two_volumes(pool: Pool) -> tuple[Volume, Volume]:
    """Return volumes whose revisions 1, 2, 3 were made by turns: one's 1 is the oldest, then two's 1, and so on."""
    one, two = (pool.create_volume(f"{vm}/root", 8 * MIB) for vm in ("one", "two"))
    for number in range(1, 5):
        for offset, volume in enumerate((one, two)):
            with freeze_time(AT + timedelta(hours=2 * number + offset)):
                assert commit_much(volume, b"%d" % number) == number
    return one, two


def lacking(pool: Pool, much: int) -> Pool:
    """Return the pool with a reserve of which it lacks this much, and that may prune."""
    return with_settings(
        pool,
        reserve=f'"{(free(pool) + much) // 512 * 512}"',
        prune_for_reserve="true",
    )


@pytest.mark.parametrize(
    ("much", "left"),
    [
        (-MIB, ([1, 2, 3], [1, 2, 3])),
        (MIB, ([2, 3], [1, 2, 3])),
        (9 * MIB, ([2, 3], [2, 3])),
        (17 * MIB, ([3], [2, 3])),
    ],
)
def test_the_oldest_revisions_go_first_across_the_pool(
    pool: Pool, much: int, left: tuple[list[int], list[int]]
) -> None:
    two_volumes(pool)
    pool = lacking(pool, much)

    pool["two/root"].start()

    assert (numbers(pool["one/root"]), numbers(pool["two/root"])) == left
    assert pool["two/root"].state is State.STARTED


def test_pinned_and_current_images_stay_whatever_is_lacking(pool: Pool) -> None:
    one, two = two_volumes(pool)
    one.pin(1)
    two.revert(2)
    held = [seen(one), seen(one, 1), seen(two), seen(two, 2)]
    pool = lacking(pool, 500 * MIB)
    one, two = pool["one/root"], pool["two/root"]

    with pytest.raises(Refused):
        two.start()

    assert (numbers(one), one.current, numbers(two), two.current) == ([1], 4, [2], 2)
    assert [seen(one), seen(one, 1), seen(two), seen(two, 2)] == held


def test_nothing_is_removed_unless_the_pool_says_so(pool: Pool) -> None:
    two_volumes(pool)
    pool = with_settings(pool, reserve=f'"{(free(pool) + MIB) // 512 * 512}"')
    with pytest.raises(Refused):
        pool["one/root"].start()
    assert numbers(pool["one/root"]) == numbers(pool["two/root"]) == [1, 2, 3]


def test_a_whole_vm_makes_room_too(pool: Pool) -> None:
    two_volumes(pool)
    pool = lacking(pool, MIB)
    pool.vm("two").start()
    assert numbers(pool["one/root"]) == [2, 3]


def test_a_vetoed_revision_stays_and_the_next_one_goes(pool: Pool) -> None:
    two_volumes(pool)
    pool = lacking(pool, MIB)
    reasons = []

    def keep_one(sender: Pool, *, volume: Volume, change: Change) -> None:
        reasons.append(change.reason)
        if volume.vm == "one":
            raise RuntimeError("not this one")

    events.pruning.connect(keep_one, sender=pool)
    pool["one/root"].start()
    assert (numbers(pool["one/root"]), numbers(pool["two/root"])) == ([1, 2, 3], [2, 3])
    assert set(reasons) == {"reserve"}


def test_a_damaged_volume_does_not_keep_others_from_starting(pool: Pool) -> None:
    one, _two = two_volumes(pool)
    Path(f"{pool.path}/one/root.img").unlink()
    held = numbers(one)
    pool = lacking(pool, MIB)
    pool["two/root"].start()
    assert pool["two/root"].state is State.STARTED
    assert numbers(pool["one/root"]) == held, "a damaged volume's revisions are the way back"


# ---------------------------------------------------------------- no room at all


def keep_two(volume: Volume) -> None:
    cycle(volume, b"one")
    cycle(volume, b"two")


def keep_two_and_write(volume: Volume) -> None:
    keep_two(volume)
    volume.start()
    draw(volume, b"three")


def stay(_volume: Volume) -> None:
    """It was born so."""


EVENTS: dict[str, tuple[Callable[[Volume], None], Callable[[Volume], object]]] = {
    "start": (keep_two, Volume.start),
    "release": (lambda volume: (keep_two(volume), volume.start())[0], Volume.release),
    "commit": (keep_two_and_write, Volume.commit),
    "stop": (keep_two_and_write, Volume.stop),
    "discard": (keep_two_and_write, lambda volume: volume.stop(discard=True)),
    "checkpoint": (keep_two_and_write, Volume.checkpoint),
    "revert": (keep_two, Volume.revert),
    "revert to 0": (keep_two, lambda volume: volume.revert(0)),
    "resize": (keep_two, lambda volume: volume.resize(2 * SIZE)),
    "resize empty": (stay, lambda volume: volume.resize(2 * SIZE)),
    "resize running": (keep_two_and_write, lambda volume: volume.resize(2 * SIZE)),
    "import": (keep_two, lambda volume: volume.import_from(f"{volume.pool.path}/content")),
    "remove": (keep_two, Volume.remove),
    "create": (Volume.remove, lambda volume: volume.pool.create_volume(ID, SIZE)),
    "clone": (keep_two, lambda volume: volume.pool.clone(volume, "ci-43/root")),
    "forget": (keep_two, lambda volume: volume.forget(1)),
    "prune": (keep_two, Volume.prune),
    "pin": (keep_two, lambda volume: volume.pin(1)),
    "label": (keep_two, lambda volume: volume.label(1, "good")),
    "configure": (keep_two, lambda volume: volume.configure(on_crash="revert")),
}


@pytest.mark.parametrize("event", EVENTS)
def test_what_fails_on_a_full_disk_works_once_there_is_room(pool: Pool, event: str) -> None:
    reach, act = EVENTS[event]
    volume = pool.create_volume(ID, SIZE)
    Path(pool.path, "content").write_bytes(disk(b"content" * 1000))
    reach(volume)
    before = what_it_is(volume)

    worked = False
    with full(pool):
        try:
            act(volume)
            worked = True
        except LifecycleError as error:
            failure = error
        if not worked:
            assert getattr(failure, "errno", None) == errno.ENOSPC
            assert what_it_is(volume) == before
    if not worked:
        act(volume)
    assert [one for one in pool.verify() if one.harmful] == []
    assert [one for one in pool.recover() if one.error] == []


def what_it_is(volume: Volume) -> object:
    """Return state and content; the next number may have been reserved, and is not part of it."""
    view = volume.look()
    if view.state is State.ABSENT:
        return view.state
    held = {number: seen(volume, number) for number in numbers(volume)}
    return view.state, view.current, view.size, seen(volume), held


def test_what_a_vm_could_not_write_for_want_of_room_loses_nothing(pool: Pool) -> None:
    volume = pool.create_volume(ID, 32 * MIB)
    commit_much(volume, b"one", 4 * MIB)
    volume.start()
    with full(pool):
        with pytest.raises(OSError, match="No space"):
            draw(volume, b"x" * (32 * MIB))
        assert volume.look().running
    held = seen(volume)
    volume.stop(discard=True)
    assert seen(volume) == held


def test_a_full_disk_can_be_freed_by_removing(pool: Pool) -> None:
    """Removing and forgetting need no room."""
    volume = pool.create_volume(ID, 8 * MIB)
    for mark in (b"1", b"2", b"3"):
        commit_much(volume, mark)
    other = pool.create_volume("ci-43/root", SIZE)
    with full(pool):
        volume.forget(1)
        assert numbers(volume) == [2]
        other.remove()
        volume.remove()
        assert pool.volumes() == []
