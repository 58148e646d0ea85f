"""How a VM ended, and what that means for its volumes."""

from __future__ import annotations

from typing import Any

import pytest

from lifecycle import Pool, Volume, events
from lifecycle.engine import batch
from lifecycle.engine.endings import ENDING, Ended, Ending, end, finish, unfinished
from lifecycle.errors import InUse, NoSuchVolume, Refused, StorageFailed
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.failing_backend import backend_fails
from support.holding_open import by_another_process

STATES = {
    # ending, crash policy, written?: the state the volume is left in, revisions made
    (Ending.STOPPED, "resume", True): ("committed", [1]),
    (Ending.STOPPED, "resume", False): ("created", []),
    (Ending.SUSPENDED, "commit", True): ("dirty", []),
    (Ending.SUSPENDED, "commit", False): ("started", []),
    (Ending.FAILED, "resume", False): ("created", []),
    (Ending.FAILED, "resume", True): ("dirty", []),
    (Ending.FAILED, "revert", True): ("reverted", []),
    (Ending.CRASHED, "resume", True): ("dirty", []),
    (Ending.CRASHED, "commit", True): ("committed", [1]),
    (Ending.CRASHED, "revert", True): ("reverted", []),
    (Ending.CRASHED, "commit", False): ("created", []),
    (Ending.DISCARDED, "commit", True): ("reverted", []),
    (Ending.DISCARDED, "commit", False): ("created", []),
}


def the_one(ended: list[Ended]) -> Ended:
    (one,) = ended
    return one


@pytest.fixture
def root(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE)


@pytest.mark.parametrize(("case", "expected"), STATES.items(), ids=str)
def test_an_ending_by_crash_policy_and_by_what_was_written(
    pool: Pool, case: tuple[Ending, str, bool], expected: tuple[str, list[int]]
) -> None:
    ending, policy, written = case
    volume = pool.create_volume("ci/root", SIZE, on_crash=policy)
    volume.start()
    if written:
        draw(volume, b"written")
    one = the_one(end([volume], ending))
    assert one.error is None
    assert (volume.state, [one.number for one in volume.history]) == expected
    assert one.state == volume.state
    if volume.state == "committed":
        assert seen(volume) == disk(b"written")
        assert volume.history[-1].cause == ("crash" if ending is Ending.CRASHED else "commit")


def test_a_volume_at_rest_is_passed_over(root: Volume) -> None:
    assert end([root], Ending.STOPPED) == []


def test_one_failure_stops_no_other(pool: Pool, root: Volume) -> None:
    other = pool.create_volume("ci/swap", SIZE)
    for volume in (root, other):
        volume.start()
        draw(volume, b"written")

    def object_to_root(_pool: Pool, *, volume: Volume, **_: object) -> None:
        if volume == root:
            raise ValueError("not now")

    with events.committing.connected_to(object_to_root, sender=pool):
        first, second = end([root, other], Ending.STOPPED)
    assert "not now" in str(first.error)
    assert (second.error, other.state) == (None, "committed")
    assert (root.state, unfinished(root)) == ("dirty", Ending.STOPPED)


def test_what_failed_is_done_by_recover(pool: Pool, root: Volume) -> None:
    root.start()
    draw(root, b"written")
    with backend_fails(pool, "commit"):
        assert the_one(end([root], Ending.STOPPED)).error is not None
    assert pool.config.on_crash == "resume"
    pool.recover()
    assert (root.state, seen(root)) == ("committed", disk(b"written"))
    assert root.history[-1].cause == "commit"


def test_what_failed_is_finished_before_the_next_start(pool: Pool, root: Volume) -> None:
    root.start()
    draw(root, b"written")
    with backend_fails(pool, "revert"):
        end([root], Ending.DISCARDED)
    assert the_one(finish([root])).state == root.state == "reverted"
    assert finish([root]) == []


def test_a_start_that_resumes_drops_the_tag(pool: Pool, root: Volume) -> None:
    root.start()
    draw(root, b"written")
    with backend_fails(pool, "commit"):
        end([root], Ending.STOPPED)
    root.start()
    assert unfinished(root) is None
    assert finish([root]) == []


@pytest.mark.parametrize("policy", ["commit", "revert"])
def test_recover_leaves_what_a_suspended_vm_waits_for(pool: Pool, policy: str) -> None:
    volume = pool.create_volume("ci/root", SIZE, on_crash=policy)
    volume.start()
    draw(volume, b"written")
    end([volume], Ending.SUSPENDED)
    pool.recover()
    assert (volume.state, unfinished(volume)) == ("dirty", Ending.SUSPENDED)
    volume.stop()
    assert seen(volume) == disk(b"written")


def test_an_image_in_use_is_not_tagged_for_its_vm_has_not_ended(root: Volume) -> None:
    root.start()
    draw(root, b"written")
    with by_another_process(root.path):
        one = the_one(end([root], Ending.STOPPED))
    assert isinstance(one.error, InUse)
    assert unfinished(root) is None


def test_a_tag_leaves_the_image_as_it_is(root: Volume) -> None:
    root.start()
    root.tag("anything", "grün")
    assert (root.state, root.tagged("anything")) == ("started", "grün")
    root.stop()
    assert (root.state, root.tagged("anything")) == ("created", None)
    cycle(root, b"one")
    root.start()
    assert root.tagged("anything") is None
    root.tag(ENDING, "no such ending")
    assert unfinished(root) is None
    for _twice in range(2):
        root.tag(ENDING, None)
        assert root.tagged(ENDING) is None


# ---------------------------------------------------------------- who started it


def test_what_another_has_started_is_refused_though_no_one_holds_it_yet(root: Volume) -> None:
    batch.start([root], by="domain a")
    with pytest.raises(Refused, match="domain a has started it"):
        batch.start([root], by="domain b")
    batch.start([root], by="domain a")
    root.stop()
    batch.start([root], by="domain b")
    assert batch.started_by(root) == "domain b"


def test_who_started_it_before_the_host_s_boot_does_not_count(
    root: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch.start([root], by="domain a")
    draw(root, b"written")
    monkeypatch.setattr(batch, "_boot", lambda: "another")
    assert batch.started_by(root) is None
    batch.start([root], by="domain b")
    assert (root.state, batch.started_by(root)) == ("dirty", "domain b")


def test_volumes_of_several_pools_start_together_or_not_at_all(
    pool: Pool, pool_elsewhere: Pool
) -> None:
    volumes = [one.create_volume("ci/root", SIZE) for one in (pool, pool_elsewhere)]
    batch.start(volumes)
    assert [one.state for one in volumes] == ["started", "started"]
    batch.stop(volumes)
    volumes[1].start()
    with by_another_process(volumes[1].path), pytest.raises(InUse):
        batch.start(volumes)
    assert [one.state for one in volumes] == ["created", "started"]
    assert numbers(volumes[0]) == []


def test_what_cannot_be_thrown_away_is_kept(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=False)
    volume.start()
    draw(volume, b"one")
    assert the_one(end([volume], Ending.DISCARDED)).error is None
    assert (volume.state, seen(volume)) == ("committed", disk(b"one"))


# ---------------------------------------------------------------- many at once


def test_many_stops_prune_at_the_end_and_the_commits_stand(new_pool: Any) -> None:
    pool = new_pool(keep="last 0")
    volumes = [pool.create_volume(f"ci-{n}/root", SIZE) for n in range(12)]
    for volume in volumes:
        cycle(volume, b"one")
    batch.start(volumes)
    for volume in volumes:
        draw(volume, b"two")
    pruned: list[str] = []

    def object_to_one(_pool: Pool, *, volume: Volume, **_: object) -> None:
        pruned.append(volume.id)
        if volume == volumes[3]:
            raise ValueError("keep it")

    with events.pruning.connected_to(object_to_one, sender=pool):
        outcome = batch.stop(volumes)
    assert [change.event for _volume, change in outcome] == ["commit"] * 12
    assert sorted(pruned) == sorted(one.id for one in volumes)
    assert [numbers(one) for one in volumes] == [
        [1] if one == volumes[3] else [] for one in volumes
    ]
    assert {seen(one) for one in volumes} == {disk(b"two")}


def test_of_many_that_stop_only_those_that_fail_keep_running(pool: Pool) -> None:
    volumes = [pool.create_volume(f"ci-{n}/root", SIZE) for n in range(10)]
    batch.start(volumes)
    for volume in volumes:
        draw(volume, b"one")
    with backend_fails(pool, "commit", only="ci-3/root"), pytest.raises(StorageFailed):
        batch.stop(volumes)
    assert [one.id for one in volumes if one.state == "dirty"] == ["ci-3/root"]
    volumes[3].stop()
    assert {seen(one) for one in volumes} == {disk(b"one")}


def test_if_one_of_many_cannot_start_none_has(pool: Pool) -> None:
    volumes = [pool.create_volume(f"ci-{n}/root", SIZE) for n in range(10)]
    with backend_fails(pool, "start", only="ci-7/root"), pytest.raises(StorageFailed):
        batch.start(volumes)
    assert {one.state for one in volumes} == {"created"}


def test_a_pool_starts_and_stops_volumes_by_their_ids(pool: Pool) -> None:
    volumes = [pool.create_volume(f"ci-{n}/root", SIZE) for n in range(3)]
    assert len(pool.start([volumes[0], "ci-1/root", "ci-0/root"])) == 2
    assert [one.state for one in volumes] == ["started", "started", "created"]
    with pytest.raises(NoSuchVolume):
        pool.stop(["ci-0/root", "ci-9/root"])
    with pytest.raises(Refused):
        pool.stop(volumes)
    draw(volumes[0], b"one")
    pool.stop(volumes[:2], discard=True)
    assert [one.state for one in volumes] == ["reverted", "created", "created"]
