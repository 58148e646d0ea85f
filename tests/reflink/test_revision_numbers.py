"""Numbers over a long life: a thousand commits, with everything between them that could confuse the count."""

from lifecycle import Pool, Volume
from support.between_commits import (
    discard,
    forget_all,
    prune_to_nothing,
    release,
    revert_and_forget_what_was_current,
    revert_to_empty,
)
from support.disks import SIZE, cycle, numbers
from support.mounts import FileSystem
from support.pools import create_pool

COMMITS = 1000


def forget_a_checkpoint(volume: Volume) -> None:
    volume.start()
    number = volume.checkpoint().revision
    assert number is not None
    volume.forget(number)
    volume.stop()


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
