"""The systemd units' commands, called as systemd would: a VM's life, how its unit ended, and all pools at once."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lifecycle import Pool, State, events
from lifecycle.engine.endings import Ending
from lifecycle.hosts import systemd
from lifecycle.machine import known_pools
from support import unit_commands
from support.command_line import Call, Called
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.holding_open import by_another_process
from support.mounts import FileSystem


@pytest.fixture
def root(tmp_path: Path, call: Call) -> Path:
    """The root of a machine with the units."""
    call("host", "install", "systemd", "--root", str(tmp_path))
    return tmp_path


# ---------------------------------------------------------------- the life of a VM by lifecycle@.service


def write_as_vm(path: str, mark: bytes) -> None:
    """Write to a disk from a process of its own, as a VM does."""
    words = ["dd", f"of={path}", "conv=notrunc,fsync", "status=none"]
    subprocess.run(words, input=mark, check=True)


def killed_as_vm(path: str, mark: bytes) -> int:
    """Write to a disk from a process that is killed while it has the disk open; return its exit status."""
    script = 'exec 3<>"$0"; cat >&3; kill -KILL $$'
    done = subprocess.run(["sh", "-c", script, path], input=mark, check=False)
    return done.returncode


@pytest.mark.parametrize(
    "vm", ["ci", "ci-42", "work/private", "a/b-c/d.e_f", "with blank", "Ünïcode", "100%", "$HOME"]
)
def test_a_vm_of_any_name_lives_through_its_unit(root: Path, xfs_pool: Pool, vm: str) -> None:
    volume = xfs_pool.create_volume(f"{vm}/root", SIZE)
    assert [one.status for one in life(root, "ExecStartPre", vm)] == [0]
    assert [one.status for one in life(root, "ExecStart", vm)] == [0]
    write_as_vm(volume.path, b"first")
    assert [one.status for one in life(root, "ExecStop", vm)] == [0]
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"first"))


def life(root: Path, key: str, vm: str) -> list[Called]:
    return unit_commands.call(root, "lifecycle@.service", key, vm)


def test_a_vm_s_volumes_start_together_or_not_at_all(root: Path, xfs_pool: Pool) -> None:
    first, second = (xfs_pool.create_volume(f"ci-42/{name}", SIZE) for name in ("a", "b"))
    cycle(second, b"precious")
    current = Path(xfs_pool.path, "ci-42", "b.img")
    current.rename(current.with_name("b.lost"))
    (called,) = life(root, "ExecStart", "ci-42")
    assert called.status == 3
    assert "ci-42/b" in called.err
    assert first.state is State.CREATED


def test_a_stop_of_what_is_at_rest_is_no_failure(root: Path, xfs_pool: Pool) -> None:
    """The VM's unit may have told of its end already."""
    xfs_pool.create_volume("ci-42/root", SIZE)
    (called,) = life(root, "ExecStop", "ci-42")
    assert (called.status, called.out) == (0, "nothing was running\n")


def test_a_stop_that_finds_the_disk_in_use_fails_and_keeps_it(root: Path, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE)
    life(root, "ExecStart", "ci-42")
    with by_another_process(volume.path) as holder:
        (called,) = life(root, "ExecStop", "ci-42")
        assert called.status == 1
        assert f"in use by {holder}" in called.out
    (called,) = life(root, "ExecStop", "ci-42")
    assert called.out == "ci-42/root: release: nothing kept\n"


def test_an_instance_of_no_vm_fails_with_its_name(root: Path, xfs_pool: Pool) -> None:
    (called,) = life(root, "ExecStart", "no/such")
    assert called.status == 1
    assert "no/such: no such volume or VM" in called.err


# ---------------------------------------------------------------- how a VM's own unit ended


@pytest.mark.parametrize(
    ("result", "written", "text"),
    [
        ("success", True, "committed as 1"),
        ("success", False, "release: nothing kept"),
        ("exit-code", True, "left over: committed as 1"),
        ("exit-code", False, "release: nothing kept"),
        ("signal", True, "left over: committed as 1"),
        ("core-dump", True, "left over: committed as 1"),
        ("timeout", True, "left over: committed as 1"),
        ("oom-kill", True, "left over: committed as 1"),
        ("a word of later versions", True, "left over: committed as 1"),
    ],
)
def test_how_a_unit_ended_decides(
    call: Call,
    xfs_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    result: str,
    written: bool,
    text: str,
) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE, on_crash="commit")
    volume.start()
    if written:
        assert killed_as_vm(volume.path, b"one") == -signal.SIGKILL
    monkeypatch.setenv("SERVICE_RESULT", result)
    words = ("stop", "--ending", "service-result", "ci-42")
    assert call(*words).out == f"ci-42/root: {text}\n"
    assert call(*words).out == "nothing was running\n"
    if text.startswith("left over"):
        volume.start()
        draw(volume, b"two")
        volume.stop()
        assert volume.revisions[-1].cause == "crash"


@pytest.mark.parametrize(
    ("policy", "state", "content"),
    [
        ("resume", State.DIRTY, b"before"),
        ("commit", State.COMMITTED, b"crash!"),
        ("revert", State.REVERTED, b"before"),
    ],
)
def test_after_a_crash_the_crash_policy_decides(
    root: Path,
    call: Call,
    xfs_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    state: State,
    content: bytes,
) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE, on_crash=policy)
    cycle(volume, b"before")
    life(root, "ExecStart", "ci-42")
    killed_as_vm(volume.path, b"crash!")
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    call("stop", "--ending", "service-result", "ci-42")
    assert (volume.state, seen(volume)) == (state, disk(content))
    # and the next start is possible, whatever the policy
    assert [one.status for one in life(root, "ExecStartPre", "ci-42")] == [0]
    assert [one.status for one in life(root, "ExecStart", "ci-42")] == [0]


def test_an_end_that_cannot_take_effect_does_so_at_the_next_start(
    root: Path, call: Call, xfs_pool: Pool
) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE, on_crash="revert")
    life(root, "ExecStart", "ci-42")
    write_as_vm(volume.path, b"kept")

    def object_to(_pool: Pool, **_what: object) -> None:
        raise RuntimeError("the backup is still running")

    with events.committing.connected_to(object_to):
        called = call("stop", "--ending", "stopped", "ci-42", status=1)
    assert "the backup is still running" in called.out
    (called,) = life(root, "ExecStartPre", "ci-42")
    assert called.out == "ci-42/root: committed as 1\n"
    assert seen(volume) == disk(b"kept")


@pytest.mark.parametrize("ending", Ending)
def test_any_ending_can_be_told(call: Call, xfs_pool: Pool, ending: Ending) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE, on_crash="revert")
    volume.start()
    draw(volume, b"one")
    document = call("stop", "--ending", ending.value, "ci-42", "--json").document
    states = {Ending.STOPPED: "committed", Ending.SUSPENDED: "dirty"}
    state = states.get(ending, "reverted")
    assert document == [
        {"id": "ci-42/root", "state": state, "text": document[0]["text"], "failed": False}
    ]
    assert volume.state == state


@pytest.mark.parametrize(
    "words",
    [
        ("stop", "--ending", "service-result", "ci-42"),
        ("stop", "--ending", "stopped", "--discard", "ci-42"),
        ("stop", "--ending", "exploded", "ci-42"),
        ("recover", "--all-pools", "ci-42"),
        ("prune", "--all-pools", "ci-42"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(
    call: Call, xfs_pool: Pool, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("SERVICE_RESULT", raising=False)
    volume = xfs_pool.create_volume("ci-42/root", SIZE)
    volume.start()
    assert call(*words, status=2).complaint
    assert volume.state is State.STARTED


# ---------------------------------------------------------------- all pools


@pytest.fixture
def pools(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    """Two pools that the machine knows, one that it does not, and one at the usual place that it does not."""
    found = [Pool.create(xfs.new_directory(), keep="all") for _ in range(4)]
    known_pools.enter(found[0].path, "alpha")
    known_pools.enter(found[1].path, "beta")
    monkeypatch.setattr("lifecycle.cli.session.default_pool", lambda: found[3].path)
    return found


def test_recovery_at_boot_goes_through_all_pools(root: Path, pools: list[Pool], call: Call) -> None:
    volumes = [pool.create_volume("ci/root", SIZE, on_crash="commit") for pool in pools]
    for volume in volumes:
        volume.start()
        draw(volume, b"one")
    assert call("recover", "--all-pools").out.splitlines() == [
        "alpha:ci/root: left over: committed as 1",
        "beta:ci/root: left over: committed as 1",
        f"{pools[3].path}:ci/root: left over: committed as 1",
    ]
    assert [volume.state for volume in volumes] == ["committed", "committed", "dirty", "committed"]
    assert call("recover", "--all-pools").out == "nothing to recover\n"


def test_a_pool_that_is_gone_does_not_keep_the_others_from_recovery(
    pools: list[Pool], call: Call
) -> None:
    Path(pools[0].path, "pool.toml").unlink()
    draw_started(pools[1])
    (gone, recovered) = call("recover", "--all-pools", "--json", status=1).document
    assert (gone["id"], gone["state"], gone["failed"]) == ("alpha", None, True)
    assert "not mounted" in gone["text"]
    assert (recovered["id"], recovered["failed"]) == ("beta:ci/root", False)


def draw_started(pool: Pool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    volume.start()
    draw(volume, b"one")


def test_the_daily_prune_goes_through_all_pools(pools: list[Pool], call: Call) -> None:
    volumes = [pool.create_volume("ci/root", SIZE) for pool in pools]
    for volume in volumes:
        for mark in (b"1", b"2", b"3"):
            cycle(volume, mark)
        volume.configure(keep="last 1")
    called = call("prune", "--all-pools", "--dry-run")
    assert called.out.splitlines()[0] == "alpha:ci/root: would remove 1, keeps 1"
    assert [numbers(volume) for volume in volumes] == [[1, 2]] * 4
    assert call("prune", "--all-pools").out.splitlines() == [
        "alpha:ci/root: removed 1, keeps 1",
        "beta:ci/root: removed 1, keeps 1",
        f"{pools[3].path}:ci/root: removed 1, keeps 1",
    ]
    assert [numbers(volume) for volume in volumes] == [[2], [2], [1, 2], [2]]


def test_what_cannot_be_pruned_does_not_keep_the_rest(pools: list[Pool], call: Call) -> None:
    Path(pools[0].path, "pool.toml").unlink()
    damaged, whole = (pools[1].create_volume(f"ci/{name}", SIZE) for name in ("a", "b"))
    cycle(damaged, b"1")
    Path(pools[1].path, "ci", "a.img").unlink()
    gone, refused, pruned = call("prune", "--all-pools", "--json", status=1).document
    assert "not mounted" in gone["error"]
    assert (refused["id"], "damaged" in refused["error"]) == ("beta:ci/a", True)
    assert (pruned["id"], pruned["revisions"]) == ("beta:ci/b", [])
    assert whole.state is State.CREATED


@pytest.mark.parametrize("unit", ["lifecycle-recover.service", "lifecycle-prune.service"])
def test_the_unit_calls_for_all_pools(root: Path, pools: list[Pool], unit: str) -> None:
    Path(pools[0].path, "pool.toml").unlink()
    (called,) = unit_commands.call(root, unit, "ExecStart")
    assert called.status == 1
    assert "alpha: " in called.out
    assert "not mounted" in called.out


def test_what_a_unit_cannot_prune_is_said_where_the_journal_hears_it(
    root: Path, pools: list[Pool]
) -> None:
    Path(pools[0].path, "pool.toml").unlink()
    cycle(pools[1].create_volume("ci/root", SIZE), b"1")
    Path(pools[1].path, "ci", "root.img").unlink()
    text = Path(f"{root}{systemd.DIRECTORY}", "lifecycle-prune.service").read_text()
    assert ("StandardOutput=null" in text, "StandardError=journal" in text) == (True, True)
    (called,) = unit_commands.call(root, "lifecycle-prune.service", "ExecStart")
    assert called.status == 1
    gone, damaged = called.err.splitlines()
    assert gone.startswith(f"lifecycle: alpha: {pools[0].path}")
    assert damaged.startswith("lifecycle: beta:ci/root: ci/root is damaged")


def test_a_unit_is_skipped_where_there_is_no_pool(root: Path) -> None:
    """Its conditions name what `init` makes: a pool at the usual place, or settings with a pool."""
    for unit in ("lifecycle-recover.service", "lifecycle-prune.service"):
        text = Path(f"{root}{systemd.DIRECTORY}", unit).read_text()
        assert "ConditionPathExists=|/var/lib/lifecycle/pool.toml\n" in text
        assert f"ConditionDirectoryNotEmpty=|{usual_settings()}/pools.d\n" in text


def usual_settings() -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("LIFECYCLE_CONFIG")
        patched.setattr(os, "geteuid", lambda: 0)
        return known_pools.config_directory()
