"""Numbers over a long life: a thousand commits, with everything between them that could confuse the count."""

from conftest import create_pool
from disks import SIZE, cycle, draw, numbers
from mounts import FileSystem

from lifecycle import Pool, Volume

COMMITS = 1000


def forget_all(volume: Volume) -> None:
    volume.forget(*numbers(volume))


def prune_to_nothing(volume: Volume) -> None:
    volume.configure(keep="last 0")
    volume.prune()
    volume.configure(keep="all")


def revert_to_empty(volume: Volume) -> None:
    volume.revert(to=0)


def revert_and_forget_what_was_current(volume: Volume) -> None:
    """Now the highest number there was is nowhere to be seen."""
    before = volume.current
    volume.revert(to=0)
    if before:
        volume.forget(before)


def forget_a_checkpoint(volume: Volume) -> None:
    volume.start()
    number = volume.checkpoint().revision
    assert number is not None
    volume.forget(number)
    volume.stop()


def release(volume: Volume) -> None:
    volume.start()
    volume.stop()


def discard(volume: Volume) -> None:
    volume.start()
    draw(volume, b"lost")
    volume.stop(discard=True)


BETWEEN = [
    forget_all,
    prune_to_nothing,
    revert_to_empty,
    revert_and_forget_what_was_current,
    forget_a_checkpoint,
    release,
    discard,
]


def test_a_thousand_commits_never_use_a_number_twice(xfs: FileSystem) -> None:
    pool = create_pool(xfs, keep="all")
    volume = pool.create_volume("ci-42/root", SIZE)
    used = [0]

    for count in range(COMMITS):
        if count % 10 == 0:
            BETWEEN[count // 10 % len(BETWEEN)](volume)
        if count % 7 == 0:
            volume = Pool.open(pool.path)[volume.id]
        number = cycle(volume, b"%d" % count)
        assert number > used[-1]
        assert volume.current == number
        used.append(number)

    assert len(set(used)) == COMMITS + 1
    assert set(numbers(volume)) < set(used)


def test_without_anything_between_they_are_counted_through(xfs: FileSystem) -> None:
    volume = create_pool(xfs, keep="last 0").create_volume("ci-42/root", SIZE)

    assert [cycle(volume, b"x") for _ in range(50)] == list(range(1, 51))
    assert numbers(volume) == []
