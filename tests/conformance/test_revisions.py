"""What is known of revisions and done to single ones: cause, time, pin, label, forget, prune."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import InvalidConfig, InvalidPolicy, NoSuchRevision, Pool, Refused, Vetoed, Volume
from lifecycle import events as signals
from support.disks import SIZE, cycle, disk, draw, numbers, seen

MONDAY = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A volume at number 4, with revisions 1, 2 and 3."""
    volume = pool.create_volume("ci-42/root", SIZE, keep="all")
    for mark in (b"one", b"two", b"three", b"four"):
        cycle(volume, mark)
    return volume


# ---------------------------------------------------------------- causes and times


def commit(volume: Volume, _tmp_path: Path) -> None:
    cycle(volume, b"x")


def stop_with_a_reason(volume: Volume, _tmp_path: Path) -> None:
    volume.start()
    draw(volume, b"x")
    volume.stop(reason="crash")


def commit_with_a_reason(volume: Volume, _tmp_path: Path) -> None:
    volume.start()
    draw(volume, b"x")
    volume.write()
    volume.commit(reason="migrated")


def checkpoint(volume: Volume, _tmp_path: Path) -> None:
    volume.start()
    volume.checkpoint()
    volume.stop()


def resize(volume: Volume, _tmp_path: Path) -> None:
    volume.resize(SIZE * 2)


def import_a_file(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "x.img").write_bytes(disk(b"x"))
    volume.import_from(tmp_path / "x.img")


def import_a_volume(volume: Volume, _tmp_path: Path) -> None:
    volume.import_from(volume.pool.create_volume("ci/other", SIZE))


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (commit, "commit"),
        (stop_with_a_reason, "crash"),
        (commit_with_a_reason, "migrated"),
        (checkpoint, "checkpoint"),
        (resize, "resize"),
        (import_a_file, "import"),
        (import_a_volume, "clone"),
    ],
)
def test_a_revision_tells_what_made_it_and_when(
    volume: Volume, tmp_path: Path, make: object, cause: str
) -> None:
    assert callable(make)
    with freeze_time(MONDAY):
        make(volume, tmp_path)
    with freeze_time(MONDAY + timedelta(days=1)):
        cycle(volume, b"next")

    revision = volume.revisions[-1]
    assert revision.number == 5
    assert revision.cause == cause
    assert revision.at == MONDAY


def test_of_a_clone_the_first_revision_says_so(pool: Pool, volume: Volume) -> None:
    clone = pool.clone(volume, "ci/clone")
    clone.revert()

    assert [(one.number, one.cause) for one in clone.revisions] == [(1, "clone")]


# ---------------------------------------------------------------- pins and labels


def test_a_pin_is_kept_until_it_is_taken_back(volume: Volume) -> None:
    volume.pin(2)
    assert [one.number for one in volume.revisions if one.pinned] == [2]
    volume.unpin(2)
    assert [one.number for one in volume.revisions if one.pinned] == []


def test_a_pinned_revision_is_not_forgotten(volume: Volume) -> None:
    volume.pin(2)
    with pytest.raises(Refused, match="pinned"):
        volume.forget(1, 2)
    assert numbers(volume) == [1, 2, 3]
    volume.unpin(2)
    volume.forget(1, 2)
    assert numbers(volume) == [3]


def test_a_pinned_revision_is_not_pruned(volume: Volume) -> None:
    volume.pin(2)
    volume.configure(keep="last 0")
    volume.prune()
    cycle(volume, b"five")

    assert numbers(volume) == [2]


def test_the_current_image_can_be_pinned_and_labelled_before_it_is_a_revision(
    volume: Volume,
) -> None:
    volume.pin(4)
    volume.label(4, "before the upgrade")
    volume.configure(keep="last 0")
    cycle(volume, b"five")

    (revision,) = volume.revisions
    assert (revision.number, revision.pinned, revision.label) == (4, True, "before the upgrade")


def test_a_label_is_a_persons_words(volume: Volume) -> None:
    volume.label(2, "vor dem Größerwerden 🐘")
    volume.label(2, "before the upgrade")
    volume.label(3, "after it")
    volume.label(3, None)

    assert [one.label for one in volume.revisions] == [None, "before the upgrade", None]


@pytest.mark.parametrize("text", ["x" * 201, "two\nlines", "\x1b[31mred"])
def test_a_label_is_one_line(volume: Volume, text: str) -> None:
    with pytest.raises(InvalidConfig):
        volume.label(2, text)

    assert volume.revisions[1].label is None


def test_notes_outlive_all_that_happens_to_the_volume(volume: Volume) -> None:
    volume.pin(2)
    volume.label(2, "the good one")
    volume.revert(to=2)
    cycle(volume, b"five")
    volume.start()
    volume.checkpoint()
    volume.stop()
    volume.resize(SIZE * 2)

    again = {one.number: one for one in Pool.open(volume.pool.path)[volume.id].revisions}
    assert (again[2].pinned, again[2].label, again[2].cause) == (True, "the good one", "commit")


@pytest.mark.parametrize("number", [0, 5, 99, -1])
def test_only_what_is_there_can_be_noted(volume: Volume, number: int) -> None:
    for note in (volume.pin, volume.unpin, lambda n: volume.label(n, "x")):
        with pytest.raises(NoSuchRevision):
            note(number)


def test_a_running_volumes_revisions_can_be_noted(volume: Volume) -> None:
    volume.start()
    draw(volume, b"five")
    volume.pin(1)
    volume.label(1, "x")
    volume.stop()

    assert (volume.revisions[0].pinned, volume.revisions[0].label) == (True, "x")


# ---------------------------------------------------------------- forgetting


def test_one_revision_is_deleted_by_its_number(volume: Volume) -> None:
    volume.forget(2)

    assert numbers(volume) == [1, 3]
    assert [seen(volume, n) for n in (1, 3)] == [disk(b"one"), disk(b"three")]
    assert seen(volume) == disk(b"foure")
    with pytest.raises(NoSuchRevision):
        volume.export(2)
    with pytest.raises(NoSuchRevision):
        volume.revert(to=2)


def test_several_at_once_and_all(volume: Volume) -> None:
    volume.forget(3, 1, 2, 1)

    assert numbers(volume) == []
    assert seen(volume) == disk(b"foure")


def test_while_it_runs(volume: Volume) -> None:
    volume.start()
    draw(volume, b"five")
    volume.forget(1)
    volume.stop()

    assert numbers(volume) == [2, 3, 4]


@pytest.mark.parametrize("number", [0, 5, 99, -1])
def test_a_revision_that_is_none(volume: Volume, number: int) -> None:
    with pytest.raises(NoSuchRevision):
        volume.forget(1, number)

    assert numbers(volume) == [1, 2, 3]


def test_what_the_volume_holds_is_not_forgotten(volume: Volume) -> None:
    with pytest.raises(Refused, match="what the volume holds"):
        volume.forget(1, 4)
    volume.revert(to=2)
    with pytest.raises(Refused, match="what the volume holds"):
        volume.forget(1, 2)

    assert numbers(volume) == [1, 2, 3, 4]


def test_what_is_forgotten_takes_no_notes_along(volume: Volume) -> None:
    volume.label(2, "gone")
    volume.forget(2)

    assert [one.label for one in volume.revisions] == [None, None]


# ---------------------------------------------------------------- retention


def test_each_commit_prunes(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE, keep="last 2")
    for _ in range(5):
        cycle(volume, b"x")

    assert numbers(volume) == [3, 4]


def test_a_pools_policy_holds_for_volumes_without_their_own(pool: Pool) -> None:
    """`pool` has the policy that pools have by default: last 5."""
    volume = pool.create_volume("ci/root", SIZE)
    for _ in range(8):
        cycle(volume, b"x")

    assert numbers(volume) == [3, 4, 5, 6, 7]


def test_keep_nothing(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE, keep="last 0")
    for _ in range(3):
        cycle(volume, b"x")

    assert numbers(volume) == []
    assert volume.current == 3


def test_a_plan_tells_before_anything_is_removed(volume: Volume) -> None:
    volume.pin(1)
    volume.configure(keep="last 1")
    plan = volume.plan()

    assert plan.keep == (1, 3)
    assert plan.remove == (2,)
    assert all(verdict.reasons for verdict in plan.verdicts)
    assert numbers(volume) == [1, 2, 3]
    assert volume.prune() == plan
    assert numbers(volume) == [1, 3]


def test_what_a_revert_made_current_is_not_pruned(volume: Volume) -> None:
    volume.revert(to=1)
    volume.configure(keep="last 0")
    volume.prune()

    assert numbers(volume) == [1]
    assert seen(volume) == disk(b"one")


def test_a_subscriber_may_object_to_one(pool: Pool, volume: Volume) -> None:
    def spare_two(sender: Pool, *, volume: Volume, change: object) -> None:
        if getattr(change, "revision", None) == 2:
            raise RuntimeError("still being backed up")

    signals.pruning.connect(spare_two, sender=pool)
    volume.configure(keep="last 0")
    volume.prune()
    assert numbers(volume) == [2]
    with pytest.raises(Vetoed, match="still being backed up"):
        volume.forget(2)
    assert numbers(volume) == [2]


@pytest.mark.parametrize("keep", ["", "keep it", "last", "last -1", "nosuchplugin 3"])
def test_a_line_that_is_no_policy_is_refused(pool: Pool, volume: Volume, keep: str) -> None:
    with pytest.raises(InvalidPolicy):
        pool.create_volume("ci/root", SIZE, keep=keep)
    with pytest.raises(InvalidPolicy):
        volume.configure(keep=keep)

    assert "ci/root" not in pool
    assert volume.config.keep == "all"
