"""Recovery of a whole pool after a crash: crash policies, what was cut off, and what is left over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, State, Volume
from lifecycle.engine.recovery import Recovered
from support import holding_open
from support.command_line import Call
from support.crash_injection import Stopped, acting_before_each_change, stopping_at
from support.damaged_volumes import FOREIGN, ID, LEFTOVERS, beside, files_of
from support.disks import SIZE, cycle, disk, draw, seen
from support.pools import NewPool
from support.snapshots import snapshot


@pytest.fixture
def pool(new_xfs_pool: NewPool) -> Pool:
    return new_xfs_pool(keep="all")


def found_of(pool: Pool, *vms: str) -> dict[str, Recovered]:
    """Recover, and return what was found by id."""
    return {one.id: one for one in pool.recover(*vms)}


# ---------------------------------------------------------------- crash policies

PERSISTENT: dict[str, Any] = {"size": SIZE}
READ_ONLY: dict[str, Any] = {"size": SIZE, "rw": False}
VOLATILE: dict[str, Any] = {"size": SIZE, "save_on_stop": False}
DISPOSABLE: dict[str, Any] = {"source": "templates/debian"}
KINDS = {
    "persistent": PERSISTENT,
    "read-only": READ_ONLY,
    "volatile": VOLATILE,
    "disposable": DISPOSABLE,
}
POLICIES = [
    # kind, policy, written: the state afterwards and the event that led there
    ("persistent", "resume", True, State.DIRTY, None),
    ("persistent", "resume", False, State.STARTED, None),
    ("persistent", "commit", True, State.COMMITTED, "commit"),
    ("persistent", "commit", False, State.CREATED, "release"),
    ("persistent", "revert", True, State.REVERTED, "revert"),
    ("persistent", "revert", False, State.CREATED, "release"),
    ("read-only", "resume", True, State.DIRTY, None),
    ("read-only", "commit", True, State.REVERTED, "revert"),
    ("read-only", "revert", True, State.REVERTED, "revert"),
    ("volatile", "resume", True, State.DIRTY, None),
    ("volatile", "commit", True, State.REVERTED, "revert"),
    ("volatile", "commit", False, State.CREATED, "release"),
    ("volatile", "revert", True, State.REVERTED, "revert"),
    ("disposable", "resume", True, State.DIRTY, None),
    ("disposable", "commit", True, State.REVERTED, "revert"),
    ("disposable", "commit", False, State.CREATED, "release"),
    ("disposable", "revert", True, State.REVERTED, "revert"),
    ("disposable", "revert", False, State.CREATED, "release"),
]


@pytest.mark.parametrize("said_by", ["pool", "volume"])
@pytest.mark.parametrize(("kind", "policy", "written", "state", "event"), POLICIES)
def test_a_left_over_image_meets_its_crash_policy(
    new_xfs_pool: NewPool,
    kind: str,
    policy: str,
    written: bool,
    state: State,
    event: str | None,
    said_by: str,
) -> None:
    other = "resume" if policy != "resume" else "revert"
    pool = new_xfs_pool(keep="all", on_crash=policy if said_by == "pool" else other)
    cycle(pool.create_volume("templates/debian", SIZE), b"debian")
    settings = KINDS[kind] | ({"on_crash": policy} if said_by == "volume" else {})
    volume = pool.create_volume(ID, **settings)
    volume.start()
    if written:
        draw(volume, b"written")

    found = found_of(pool)

    assert set(found) == {ID}
    assert found[ID].error is None
    assert found[ID].state is volume.state is state
    assert (found[ID].change and found[ID].change.event) == event
    if event is None:
        assert volume.left_over
        return
    assert files_of(volume) & {"root-dirty.img"} == set()
    if event == "commit":
        assert [(one.number, one.cause) for one in volume.history] == [(1, "crash")]
        assert seen(volume) == disk(b"written")
    assert pool.recover() == []


@pytest.mark.parametrize("policy", ["resume", "commit", "revert"])
@pytest.mark.parametrize("kind", ["persistent", "disposable"])
def test_a_running_vm_is_left_alone(new_xfs_pool: NewPool, kind: str, policy: str) -> None:
    pool = new_xfs_pool(on_crash=policy)
    cycle(pool.create_volume("templates/debian", SIZE), b"debian")
    volume = pool.create_volume(ID, **KINDS[kind])
    volume.start()
    draw(volume, b"written")
    with holding_open.by_another_process(volume.path) as holder:
        before = snapshot(pool.path)
        found = found_of(pool)
        assert snapshot(pool.path) == before

    assert found[ID].error is None
    assert found[ID].state is State.DIRTY
    assert str(holder) in found[ID].text


def test_only_the_vms_that_are_named_are_recovered(new_xfs_pool: NewPool) -> None:
    pool = new_xfs_pool(on_crash="commit")
    one, two = (pool.create_volume(f"{vm}/root", SIZE) for vm in ("one", "two"))
    for volume in (one, two):
        volume.start()
        draw(volume, b"written")

    assert set(found_of(pool, "two")) == {"two/root"}
    assert (one.state, two.state) == (State.DIRTY, State.COMMITTED)


# ---------------------------------------------------------------- what fails stops nothing


def test_the_others_are_recovered_past_a_damaged_volume(new_xfs_pool: NewPool) -> None:
    pool = new_xfs_pool(on_crash="commit")
    volumes = [pool.create_volume(f"{vm}/root", SIZE) for vm in ("a", "b", "c")]
    for volume in volumes:
        volume.start()
        draw(volume, b"written")
    beside(volumes[1], ".img").unlink()

    found = found_of(pool)

    assert [found[volume.id].state for volume in volumes] == [
        State.COMMITTED,
        State.DAMAGED,
        State.COMMITTED,
    ]
    assert [found[volume.id].error is None for volume in volumes] == [True, False, True]
    assert "b/root" in str(found["b/root"].error)
    assert found["b/root"].change is None


def test_the_others_are_recovered_past_a_vm_that_is_none(new_xfs_pool: NewPool) -> None:
    pool = new_xfs_pool(on_crash="commit")
    volume = pool.create_volume("b/root", SIZE)
    volume.start()
    draw(volume, b"written")
    os.symlink("b", f"{pool.path}/a")

    found = found_of(pool, "a", "b")

    assert found["a"].error is not None
    assert found["b/root"].state is State.COMMITTED


def test_the_others_are_recovered_past_a_leftover_that_cannot_be_removed(
    new_xfs_pool: NewPool,
) -> None:
    pool = new_xfs_pool(on_crash="commit")
    volumes = [pool.create_volume(f"{vm}/root", SIZE) for vm in ("a", "b")]
    for volume in volumes:
        volume.start()
        draw(volume, b"written")
    beside(volumes[0], "-import.img").mkdir()

    found = found_of(pool)

    assert found["a"].error is not None
    assert [volume.state for volume in volumes] == [State.COMMITTED] * 2


def test_the_command_line_says_what_failed_and_exits_with_1(
    new_xfs_pool: NewPool, call: Call
) -> None:
    pool = new_xfs_pool(on_crash="commit")
    good, bad = pool.create_volume("good/root", SIZE), pool.create_volume("bad/root", SIZE)
    good.start()
    draw(good, b"written")
    beside(bad, ".img").unlink()
    beside(bad, "-dirty.img").touch()

    called = call("recover", "--pool", pool.path, "--json", status=1)

    assert {one["id"]: (one["state"], one["failed"]) for one in called.document} == {
        "good/root": ("committed", False),
        "bad/root": ("damaged", True),
    }
    assert "Traceback" not in called.err


def test_the_command_line_has_nothing_to_recover(new_xfs_pool: NewPool, call: Call) -> None:
    pool = new_xfs_pool()
    pool.create_volume(ID, SIZE)
    assert call("recover", "--pool", pool.path).out == "nothing to recover\n"
    assert call("recover", "--pool", pool.path, "ci-42").out == "nothing to recover\n"


# ---------------------------------------------------------------- leftovers


def test_leftovers_are_removed_and_foreign_files_are_not(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    before = files_of(volume)
    for name in LEFTOVERS:
        (beside(volume, "").parent / name).write_bytes(
            beside(volume, ".json").read_bytes() if name == "gone.json" else b"left over"
        )
    for name in FOREIGN:
        (beside(volume, "").parent / name).write_text("foreign")

    assert pool.recover() == []

    assert files_of(volume) == before | set(FOREIGN)
    assert {(beside(volume, "").parent / name).read_text() for name in FOREIGN} == {"foreign"}
    assert seen(volume) == disk(b"one")


def test_a_vm_of_leftovers_alone_goes(pool: Pool) -> None:
    directory = Path(pool.path, "servers/gone")
    directory.mkdir(parents=True)
    (directory / "root.img~abcd1234").touch()

    assert pool.recover() == []

    assert os.listdir(pool.path) == ["pool.toml"]


def test_what_a_working_vm_needs_is_no_leftover(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    volume.start()
    draw(volume, b"two")
    volume.checkpoint()
    before = snapshot(pool.path)

    pool.recover()

    assert snapshot(pool.path) == before


# ---------------------------------------------------------------- whatever was cut off is finished


def lives(volume: Volume) -> list[tuple[str, Callable[[], object]]]:
    """Return a life in which each kind of event happens, as steps that can each be cut off."""
    outside = Path(f"{volume.pool.path}.outside")
    outside.write_bytes(disk(b"outside"))
    return [
        ("start", volume.start),
        ("stop", volume.stop),
        ("import", lambda: volume.import_from(outside)),
        ("resize", lambda: volume.resize(2 * SIZE)),
        ("revert to 1", lambda: volume.revert(1)),
        ("revert to 0", lambda: volume.revert(0)),
        ("resize back", lambda: volume.resize(SIZE)),
    ]


CUT = ["start", "stop", "import", "resize", "revert to 1", "revert to 0", "resize back"]


@pytest.mark.parametrize("tidied", ["recover", "tidy", "verify"])
@pytest.mark.parametrize("step", CUT)
def test_tidying_after_any_crash_loses_nothing(
    new_xfs_pool: NewPool, step: str, tidied: str
) -> None:
    """Wherever an event is cut off: no content that could be had before tidying is gone after it."""
    for change in range(1, 50):
        pool = new_xfs_pool(keep="all")
        volume = pool.create_volume(ID, SIZE)
        cycle(volume, b"one")
        for name, act in lives(volume):
            if name == step:
                break
            act()
            if name == "start":
                draw(volume, b"two")
        try:
            with stopping_at(change):
                act()
        except Stopped:
            pass
        else:
            return
        before = what_can_be_had(volume)
        if tidied == "recover":
            assert [one for one in pool.recover() if one.error] == []
        elif tidied == "tidy":
            pool.tidy("ci-42")
        else:
            promised = [f.path.rpartition("/")[2] for f in pool.verify() if "removes it" in f.text]
            for file in promised:
                (beside(volume, "").parent / file).unlink()
        assert what_can_be_had(volume) == before, f"cut off at change {change}"
    pytest.fail("the step never ended")


def what_can_be_had(volume: Volume) -> object:
    """Return state, current image and revisions, with what they hold."""
    view = volume.look()
    held = {one.number: (one.at, one.cause, seen(volume, one.number)) for one in volume.revisions}
    return view.state, view.current, view.next, seen(volume), held


# ---------------------------------------------------------------- verify


def test_acting_before_each_change_sees_changes(pool: Pool) -> None:
    """The tool of these tests counts: a stop takes several changes to files."""
    volume = pool.create_volume(ID, SIZE)
    volume.start()
    draw(volume, b"one")
    changes: list[None] = []
    with acting_before_each_change(lambda: changes.append(None)):
        volume.stop()
    assert len(changes) > 5
