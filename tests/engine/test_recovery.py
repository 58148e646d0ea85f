"""Recovery of a whole pool after a crash, and the ways back from damage."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from lifecycle import LifecycleError, Pool, State, Volume
from lifecycle.engine.recovery import Recovered
from lifecycle.model import Finding
from support import holding_open
from support.command_line import Call
from support.crash_injection import Stopped, acting_before_each_change, stopping_at
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem
from support.snapshots import snapshot

ID = "ci-42/root"
MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(xfs: FileSystem) -> MakePool:
    """Return a function that makes a pool on XFS, with settings of `Pool.create`."""
    return lambda **settings: Pool.create(xfs.new_directory(), **settings)


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    return make_pool(keep="all")


def beside(volume: Volume, ending: str) -> Path:
    """Return the path of a file of the volume."""
    return Path(f"{volume.pool.path}/{volume.id}{ending}")


def files_of(volume: Volume) -> set[str]:
    """Return the names in its VM's directory."""
    return set(os.listdir(beside(volume, "").parent))


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
    make_pool: MakePool,
    kind: str,
    policy: str,
    written: bool,
    state: State,
    event: str | None,
    said_by: str,
) -> None:
    other = "resume" if policy != "resume" else "revert"
    pool = make_pool(keep="all", on_crash=policy if said_by == "pool" else other)
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
def test_a_running_vm_is_left_alone(make_pool: MakePool, kind: str, policy: str) -> None:
    pool = make_pool(on_crash=policy)
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


def test_only_the_vms_that_are_named_are_recovered(make_pool: MakePool) -> None:
    pool = make_pool(on_crash="commit")
    one, two = (pool.create_volume(f"{vm}/root", SIZE) for vm in ("one", "two"))
    for volume in (one, two):
        volume.start()
        draw(volume, b"written")

    assert set(found_of(pool, "two")) == {"two/root"}
    assert (one.state, two.state) == (State.DIRTY, State.COMMITTED)


# ---------------------------------------------------------------- what fails stops nothing


def test_the_others_are_recovered_past_a_damaged_volume(make_pool: MakePool) -> None:
    pool = make_pool(on_crash="commit")
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


def test_the_others_are_recovered_past_a_vm_that_is_none(make_pool: MakePool) -> None:
    pool = make_pool(on_crash="commit")
    volume = pool.create_volume("b/root", SIZE)
    volume.start()
    draw(volume, b"written")
    os.symlink("b", f"{pool.path}/a")

    found = found_of(pool, "a", "b")

    assert found["a"].error is not None
    assert found["b/root"].state is State.COMMITTED


def test_the_others_are_recovered_past_a_leftover_that_cannot_be_removed(
    make_pool: MakePool,
) -> None:
    pool = make_pool(on_crash="commit")
    volumes = [pool.create_volume(f"{vm}/root", SIZE) for vm in ("a", "b")]
    for volume in volumes:
        volume.start()
        draw(volume, b"written")
    beside(volumes[0], "-import.img").mkdir()

    found = found_of(pool)

    assert found["a"].error is not None
    assert [volume.state for volume in volumes] == [State.COMMITTED] * 2


def test_the_command_line_says_what_failed_and_exits_with_1(
    make_pool: MakePool, call: Call
) -> None:
    pool = make_pool(on_crash="commit")
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


def test_the_command_line_has_nothing_to_recover(make_pool: MakePool, call: Call) -> None:
    pool = make_pool()
    pool.create_volume(ID, SIZE)
    assert call("recover", "--pool", pool.path).out == "nothing to recover\n"
    assert call("recover", "--pool", pool.path, "ci-42").out == "nothing to recover\n"


# ---------------------------------------------------------------- leftovers

LEFTOVERS = [
    "root.img~abcd1234",
    "root-dirty.img~0",
    "root.json~ffffffff",
    "root-import.img",
    "gone.json",
    "gone.img~abcd1234",
    "gone-import.img",
]
FOREIGN = [
    "notes.txt",
    "root.img.bak",
    "root.img@2018-01-02T03:04:05Z",
    "root.img.01@2026-01-02T03:04:05Z",
    ".root.img~abcd1234",
    "-root.json",
    "root",
]


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
def test_tidying_after_any_crash_loses_nothing(make_pool: MakePool, step: str, tidied: str) -> None:
    """Wherever an event is cut off: no content that could be had before tidying is gone after it."""
    for change in range(1, 50):
        pool = make_pool(keep="all")
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


# ---------------------------------------------------------------- a record that cannot be read

UNREADABLE = [b"", b"{", b"\xff\xfe\x00", b"[]", b'{"format": 1}', b'{"format": -1}', b"\0" * 4096]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def with_an_unreadable_record(pool: Pool, content: bytes, *, running: bool = False) -> Volume:
    """Return a volume with the revisions 1 and 2 and the current image 3, and such a record."""
    volume = pool.create_volume(ID, SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    if running:
        volume.start()
        draw(volume, b"four!")
    beside(volume, ".json").write_bytes(content)
    assert volume.state is State.DAMAGED
    return volume


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_revert_leads_back_to_what_is_current(pool: Pool, content: bytes) -> None:
    volume = with_an_unreadable_record(pool, content)
    with freeze_time(AT):
        volume.revert()

    assert (volume.state, volume.current) == (State.REVERTED, 3)
    assert seen(volume) == disk(b"three")
    assert [seen(volume, number) for number in numbers(volume)] == [disk(b"one"), disk(b"two")]
    assert beside(volume, ".json.damaged@2026-01-02T03:04:05Z").read_bytes() == content
    assert cycle(volume, b"four") == 4


@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_a_revert_leads_back_to_any_revision(pool: Pool, to: int) -> None:
    volume = with_an_unreadable_record(pool, b"{")
    volume.revert(to)

    assert (volume.state, volume.current) == (State.REVERTED, to)
    assert seen(volume) == disk([b"", b"one", b"two", b"three"][to])
    volume.revert(3)
    assert seen(volume) == disk(b"three")
    assert cycle(volume, b"four") == 4


@pytest.mark.parametrize("running", [False, True])
def test_an_import_leads_back(pool: Pool, running: bool) -> None:
    volume = with_an_unreadable_record(pool, b"{", running=running)
    outside = Path(f"{pool.path}.outside")
    outside.write_bytes(disk(b"outside"))

    volume.import_from(outside)

    assert volume.state is State.COMMITTED
    assert seen(volume) == disk(b"outside")
    assert {seen(volume, number) for number in numbers(volume)} >= {
        disk(b"one"),
        disk(b"two"),
        disk(b"three"),
    }
    assert [name for name in files_of(volume) if name.startswith("root.json.damaged@")]
    used = {0, volume.current, *numbers(volume)}
    assert cycle(volume, b"again") not in used


@pytest.mark.parametrize("to", [None, 0, 1])
def test_the_working_image_is_kept_as_a_revision(pool: Pool, to: int | None) -> None:
    volume = with_an_unreadable_record(pool, b"{", running=True)

    volume.revert(to)

    kept = [one.number for one in volume.revisions if one.cause == "crash"]
    assert len(kept) == 1
    assert seen(volume, kept[0]) == disk(b"four!")
    assert not os.path.exists(volume.path)
    assert seen(volume) == disk({None: b"three", 0: b"", 1: b"one"}[to])


@pytest.mark.parametrize("lead_back", ["revert", "import"])
def test_the_way_back_can_be_cut_off_anywhere(make_pool: MakePool, lead_back: str) -> None:
    """And then be gone again: no content is lost, and no number given twice."""
    for change in range(1, 60):
        pool = make_pool(keep="all")
        volume = with_an_unreadable_record(pool, b"{", running=True)
        outside = Path(f"{pool.path}.outside")
        outside.write_bytes(disk(b"outside"))
        act = (
            volume.revert
            if lead_back == "revert"
            else functools.partial(volume.import_from, outside)
        )
        ended = True
        try:
            with stopping_at(change):
                act()
        except Stopped:
            ended = False
        if volume.state is State.DAMAGED:
            act()
        held = {seen(volume), *(seen(volume, number) for number in numbers(volume))}
        if volume.look().running:
            held.add(disk(b"four!") if Path(volume.path).read_bytes() == disk(b"four!") else b"")
        expected = {disk(mark) for mark in (b"one", b"two", b"three", b"four!")}
        assert held >= expected, f"cut off at change {change}"
        if ended:
            return
    pytest.fail("the way back never ended")


def test_a_working_image_that_is_no_file_does_not_bar_the_way(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    os.symlink("/dev/null", volume.path)
    assert volume.state is State.DAMAGED

    change = volume.revert()

    assert volume.state is change.dest is State.REVERTED
    assert seen(volume) == disk(b"one")


def test_a_current_image_that_was_cut_short(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    os.truncate(beside(volume, ".img"), 0)
    assert volume.state is State.DAMAGED

    volume.revert()

    assert (volume.state, volume.current) == (State.REVERTED, 1)
    assert seen(volume) == disk(b"one")
    assert cycle(volume, b"three") == 3


# ---------------------------------------------------------------- a record that is lost


@pytest.mark.parametrize("committed", [0, 1, 3])
@pytest.mark.parametrize("kept", ["all", "last 0"])
def test_numbers_are_known_without_the_record(
    make_pool: MakePool, committed: int, kept: str
) -> None:
    volume = make_pool(keep=kept).create_volume(ID, SIZE)
    for number in range(committed):
        cycle(volume, b"%d" % number)
    held = seen(volume)
    beside(volume, ".json").unlink()

    assert volume.state is State.COMMITTED
    assert seen(volume) == held
    assert volume.current == max(committed, 1)
    assert cycle(volume, b"next") == max(committed, 1) + 1


def test_no_number_is_used_twice_though_the_record_was_lost_after_a_revert(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    volume.revert(1)
    beside(volume, ".json").unlink()

    assert (volume.state, volume.current) == (State.REVERTED, 1)
    assert cycle(volume, b"four") == 4
    assert [seen(volume, one) for one in numbers(volume)] == [
        disk(mark) for mark in (b"one", b"two", b"three")
    ]


def test_what_runs_goes_on_though_the_record_was_lost(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    volume.start()
    beside(volume, ".json").unlink()
    assert volume.state is State.STARTED
    draw(volume, b"two")
    assert volume.stop().revision == 2
    assert seen(volume, 1) == disk(b"one")


# ---------------------------------------------------------------- verify


def verified(pool: Pool) -> dict[str, Finding]:
    return {one.path: one for one in pool.verify()}


def test_a_sound_pool_has_no_findings(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.revert()
    volume.resize(2 * SIZE)
    volume.start()
    draw(volume, b"three")
    volume.checkpoint()
    cycle(pool.create_volume("ci-42/data", SIZE), b"other")
    pool.create_volume("ci-42/new", SIZE)
    assert verified(pool) == {}


@pytest.mark.parametrize("ending", [".img", ".img.1@2026-01-02T03:04:05Z"])
def test_verify_names_an_image_that_was_changed_in_place(pool: Pool, ending: str) -> None:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(AT):
        cycle(volume, b"one")
        cycle(volume, b"two")
    with beside(volume, ending).open("r+b") as image:
        image.write(b"vandal")

    found = verified(pool)

    assert {path: one.harmful for path, one in found.items()} == {f"{ID}{ending}": True}
    assert "changed in place" in found[f"{ID}{ending}"].text


def test_verify_names_a_revision_that_was_cut_short(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(AT):
        cycle(volume, b"one")
        cycle(volume, b"two")
    os.truncate(beside(volume, ".img.1@2026-01-02T03:04:05Z"), 0)

    found = verified(pool)

    assert list(found) == [f"{ID}.img.1@2026-01-02T03:04:05Z"]
    assert all(one.harmful for one in found.values())
    with pytest.raises(LifecycleError, match="cut short"):
        volume.revert(1)
    assert seen(volume) == disk(b"two")


@pytest.mark.parametrize("name", [*LEFTOVERS, *FOREIGN])
def test_verify_names_what_lies_about(pool: Pool, name: str) -> None:
    volume = pool.create_volume(ID, SIZE)
    path = beside(volume, "").parent / name
    path.write_bytes(beside(volume, ".json").read_bytes())
    before = snapshot(pool.path)

    found = verified(pool)

    assert {one: finding.harmful for one, finding in found.items()} == {f"ci-42/{name}": False}
    assert snapshot(pool.path) == before


def test_verify_names_what_lies_beside_the_vms(pool: Pool) -> None:
    Path(pool.path, "notes.txt").touch()
    assert {path: one.harmful for path, one in verified(pool).items()} == {"notes.txt": False}


def test_verify_names_a_damaged_volume(pool: Pool) -> None:
    volume = with_an_unreadable_record(pool, b"{")
    found = verified(pool)
    assert found[ID].harmful
    assert "revert" in found[ID].text
    volume.revert()
    assert [one for one in pool.verify() if one.harmful] == []


def test_a_copied_pool_is_sound(pool: Pool, tmp_path: Path) -> None:
    """A pool can be moved with what keeps hard links, times and holes; nothing else is needed."""
    volume = pool.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.revert()
    copy = f"{pool.path}.copy"
    assert os.system(f"cp -a '{pool.path}' '{copy}'") == 0

    there = Pool.open(copy)

    assert list(there.verify()) == []
    assert (there[ID].state, there[ID].current, numbers(there[ID])) == (State.REVERTED, 1, [1, 2])
    assert cycle(there[ID], b"three") == 3


def test_time_runs_backwards_between_commits(pool: Pool) -> None:
    volume = pool.create_volume(ID, SIZE)
    for number in range(1, 4):
        with freeze_time(AT - timedelta(days=number)):
            assert cycle(volume, b"%d" % number) == number
    assert verified(pool) == {}
    volume.revert()
    assert volume.current == 2


def test_acting_before_each_change_sees_changes(pool: Pool) -> None:
    """The tool of these tests counts: a stop takes several changes to files."""
    volume = pool.create_volume(ID, SIZE)
    volume.start()
    draw(volume, b"one")
    changes: list[None] = []
    with acting_before_each_change(lambda: changes.append(None)):
        volume.stop()
    assert len(changes) > 5
