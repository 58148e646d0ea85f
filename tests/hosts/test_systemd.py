"""The systemd units: installed, looked over by systemd itself, and their commands called as it would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from lifecycle import Pool, State, events
from lifecycle.engine.endings import Ending
from lifecycle.errors import printable
from lifecycle.hosts import systemd
from lifecycle.machine import known_pools
from support import required_programs, unit_commands
from support.command_line import Call, Called
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.holding_open import by_another_process
from support.mounts import FileSystem


@pytest.fixture
def root(tmp_path: Path, call: Call) -> Path:
    """The root of a machine with the units."""
    call("host", "install", "systemd", "--root", str(tmp_path))
    return tmp_path


def installed(root: Path) -> list[str]:
    """Return the names of all files below the root, links too."""
    return sorted(
        str(Path(where, name).relative_to(root))
        for where, _directories, names in os.walk(root)
        for name in names
    )


def complaints(root: Path) -> str:
    """Return what systemd finds wrong in the units. An unknown key is only a warning to it, with exit status 0."""
    if os.geteuid() != 0 and not os.path.isdir("/run/systemd"):
        required_programs.missing("needs /run/systemd, which systemd-analyze makes as root")
    found = [str(one) for one in Path(f"{root}{systemd.DIRECTORY}").glob("lifecycle*")]
    done = subprocess.run(
        [required_programs.program("systemd-analyze", "systemd"), "verify", "--man=no", *found],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "lifecycle" in line]
    return "\n".join(ours) or (done.stderr if done.returncode else "")


# ---------------------------------------------------------------- installing

NAMES = [f"etc/systemd/system/{unit}" for unit in sorted(systemd.UNITS)]


def test_the_units_are_those_that_come_with_the_package() -> None:
    shipped = Path(systemd.__file__).parent / "units"
    assert sorted(one.name for one in shipped.iterdir()) == sorted(systemd.UNITS)


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    assert complaints(root) == ""


def test_systemd_would_find_what_is_wrong(root: Path) -> None:
    unit = Path(f"{root}{systemd.DIRECTORY}", "lifecycle@.service")
    unit.write_text(unit.read_text().replace("RemainAfterExit", "RemainAfterwards"))
    assert "RemainAfterwards" in complaints(root)


@pytest.mark.parametrize(
    "directory",
    ["plain", "with blanks", "100%", "$HOME", "Ünïcode", "-v", "a:b@c"],
)
def test_the_units_call_the_command_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, directory: str
) -> None:
    command = command_at(tmp_path / directory, monkeypatch)
    call("host", "install", "systemd", "--root", str(tmp_path / "root"))
    monkeypatch.undo()
    assert complaints(tmp_path / "root") == ""
    command.unlink()
    assert str(command) in complaints(tmp_path / "root").replace("\\x20", " ")


def command_at(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the installed command be one in this directory."""
    command = directory / "lifecycle"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(command)])
    return command


@pytest.mark.parametrize("directory", ['a "quote"', "back\\slash", "it's", "two\nlines"])
def test_a_command_that_systemd_would_not_call_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, directory: str
) -> None:
    command = command_at(tmp_path / directory, monkeypatch)
    called = call("host", "install", "systemd", "--root", str(tmp_path / "root"), status=1)
    assert printable(str(command)) in called.complaint
    assert not (tmp_path / "root").exists()


def test_without_a_command_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    called = call("host", "install", "systemd", "--root", str(tmp_path / "root"), status=1)
    assert "install the package" in called.complaint
    assert not (tmp_path / "root").exists()


def test_installing_says_what_is_left_to_do(tmp_path: Path, call: Call) -> None:
    words = ("host", "install", "systemd", "--root", str(tmp_path))
    lines = call(*words).out.splitlines()
    assert [line for line in lines if line.endswith((".service", ".timer"))] == [
        *(f"wrote {tmp_path}{systemd.DIRECTORY}/{unit}" for unit in systemd.UNITS),
        "to recover when the host boots: systemctl enable lifecycle-recover.service",
        "to prune every day: systemctl enable --now lifecycle-prune.timer",
    ]
    assert installed(tmp_path) == NAMES
    document = call(*words, "--json").document
    assert (document["written"], len(document["advice"])) == ([], 2)


def test_what_is_enabled_is_pulled_in_at_boot(root: Path, call: Call) -> None:
    required_programs.program("systemctl", "systemd")
    words = ("--root", str(root))
    assert call("host", "install", "systemd", "--enable", *words).out == (
        "systemd: all was in place\n"
    )
    assert sorted(set(installed(root)) - set(NAMES)) == [
        "etc/systemd/system/multi-user.target.wants/lifecycle-recover.service",
        "etc/systemd/system/timers.target.wants/lifecycle-prune.timer",
    ]
    assert call("host", "install", "systemd", "--json", *words).document["advice"] == []
    said = [str(one["text"]).endswith(", enabled") for one in statuses(call, root, status=1)]
    assert said.count(True) == 2
    call("host", "uninstall", "systemd", *words)
    assert installed(root) == []


def test_enabling_without_systemctl_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ("host", "install", "systemd", "--enable", "--root", str(tmp_path / "root"))
    assert "systemctl is not installed" in call(*words, status=1).err


@pytest.mark.parametrize("unit", systemd.UNITS)
def test_what_is_someone_else_s_stays(tmp_path: Path, call: Call, unit: str) -> None:
    foreign = Path(f"{tmp_path}{systemd.DIRECTORY}", unit)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Unit]\n")
    words = ("systemd", "--root", str(tmp_path))
    assert str(foreign) in call("host", "install", *words, status=1).complaint
    call("host", "uninstall", *words)
    assert installed(tmp_path) == [f"etc/systemd/system/{unit}"]
    assert foreign.read_text() == "[Unit]\n"


def statuses(call: Call, root: Path, status: int = 0) -> list[dict[str, object]]:
    found = call("host", "status", "--root", str(root), "--json", status=status).document
    return [one for one in found if one["host"] == "systemd"]


def test_the_status_tells_what_works(root: Path, call: Call) -> None:
    assert statuses(call, root / "elsewhere") == []
    (found, *others) = statuses(call, root, status=1)
    assert found["path"] == f"{root}{systemd.DIRECTORY}/lifecycle@.service"
    assert found["text"] == f"version 0.1.0, {command_in(root)} is not there; install again"
    assert not found["works"]
    assert len(others) == len(systemd.UNITS) - 1

    there = Path(f"{root}{command_in(root)}")
    there.parent.mkdir(parents=True)
    there.touch(mode=0o755)
    found = statuses(call, root)
    assert all(one["works"] for one in found)
    assert [one["text"] for one in found] == [
        "version 0.1.0, works",
        "version 0.1.0, works, not enabled",
        "version 0.1.0, works",
        "version 0.1.0, works, not enabled",
    ]


def command_in(root: Path) -> str:
    text = Path(f"{root}{systemd.DIRECTORY}", "lifecycle@.service").read_text()
    return unit_commands.commands(text, "ExecStart", "x")[0][0]


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


# ---------------------------------------------------------------- what the docs show

DOCS = (Path(__file__).parents[2] / "docs" / "hosts-systemd.md").read_text()


def test_systemd_finds_nothing_wrong_with_the_units_in_the_docs(root: Path) -> None:
    shown = re.findall(r"^```ini\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    services = [one for one in shown if "ExecStart=" in one]
    assert len(services) == 2
    directory = Path(f"{root}{systemd.DIRECTORY}")
    for number, text in enumerate(services):
        # whether there is a QEMU on this machine is not the question
        here = re.sub("/usr/(local/)?bin/(qemu-system-x86_64|lifecycle)", "/bin/true", text)
        (directory / f"lifecycle-vm-{number}@.service").write_text(here)
    assert complaints(root) == ""


def test_the_docs_tell_what_every_result_means() -> None:
    rows = re.findall(
        r"^\| (`success`.*?|`exit-code`.*?|`timeout`.*?) \| `(\w+)` \|", DOCS, re.MULTILINE
    )
    told = {result: ending for results, ending in rows for result in re.findall("`(.+?)`", results)}
    assert told == systemd.ENDINGS


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
