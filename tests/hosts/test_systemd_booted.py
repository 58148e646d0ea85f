"""The units under a real systemd, with the VM's units that the docs show; only the VM itself is a few lines of sh."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lifecycle import Pool, State, Volume
from support import unit_commands
from support.booted_systemd import Booted
from support.command_line import SCRIPT
from support.disks import SIZE, disk, numbers, seen
from support.holding_open import by_another_process
from support.journald import Journald

DOCS = Path(__file__).parents[2] / "docs" / "hosts-systemd.md"
BOUND, _DROP_IN, TELLING = re.findall(
    r"^```ini\n(.*?)^```$", DOCS.read_text(), re.DOTALL | re.MULTILINE
)

VM = """\
exec 3<>"/var/lib/lifecycle/$1/root-dirty.img"
{}
"""
WRITE = "printf 'written' >&3\n"


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A disk that is written to; a crash commits it."""
    return xfs_pool.create_volume("work/ci-42/root", SIZE, on_crash="commit")


@pytest.fixture
def system(booted: Booted) -> Booted:
    """A system with the units."""
    called = booted.lifecycle("host", "install", "systemd")
    assert called.status == 0, called
    return booted


def add(system: Booted, unit: str, text: str, life: str, *, told: str = "") -> str:
    """Add the docs' unit, with what the VM does in its life; return its name for the VM.

    The VM has a pipe for a monitor if `told` is the program that writes to it at the unit's stop, as socat would.
    """
    script = system.units / "vm.sh"
    script.write_text(VM.format(life))
    text = re.sub(
        r"^ExecStart=.*$", f"ExecStart=/bin/sh {UNIT_SCRIPT} %I", text, flags=re.MULTILINE
    )
    if told:
        text = text.replace("socat - ", told).replace("UNIX-CONNECT:", "")
    else:
        text = re.sub(r"^ExecStop=.*\n", "", text, flags=re.MULTILINE)
    (system.units / f"{unit}@.service").write_text(text.replace("/usr/local/bin/lifecycle", SCRIPT))
    system.systemctl("daemon-reload")
    return f"{unit}@{NAME}.service"


UNIT_SCRIPT = "/etc/systemd/system/vm.sh"
NAME = unit_commands.instance("work/ci-42")
DISKS = f"lifecycle@{NAME}.service"


# ---------------------------------------------------------------- bound to lifecycle@.service


def test_a_vm_that_powers_off_has_its_disk_committed(
    system: Booted, volume: Volume, journald: Journald
) -> None:
    vm = add(system, "vm", BOUND, WRITE)
    system.systemctl("start", vm)
    assert system.wait_for(DISKS, "inactive", "failed") == "inactive"
    assert system.shown(vm, "Result") == "success"
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"written"))
    system.stop()
    told = [one for one in journald.entries() if one.get("LIFECYCLE_VM") == "work/ci-42"]
    assert [one["LIFECYCLE_EVENT"] for one in told] == ["start", "write", "commit"]
    assert {one["_TRANSPORT"] for one in told} == {"journal"}


def test_a_vm_s_disk_is_stopped_however_it_ends(system: Booted, volume: Volume) -> None:
    for life, result, state in (
        ("exit 1", "exit-code", State.CREATED),
        (WRITE + "kill -KILL $$", "signal", State.COMMITTED),
    ):
        vm = add(system, "vm", BOUND, life)
        system.systemctl("start", vm)
        assert system.wait_for(DISKS, "inactive", "failed") == "inactive"
        assert (system.shown(vm, "Result"), volume.state) == (result, state)


def test_a_vm_that_is_told_to_stop_keeps_its_disk_until_it_has(
    system: Booted, volume: Volume
) -> None:
    vm = add(system, "vm", BOUND, WRITE + "exec sleep infinity")
    system.systemctl("start", vm)
    assert system.shown(DISKS, "ActiveState") == "active"
    # the units are needed as long as the VM runs
    refused = system.lifecycle("host", "uninstall", "systemd")
    assert refused.status == 1
    assert DISKS in refused.complaint
    system.systemctl("stop", vm)
    assert system.wait_for(DISKS, "inactive", "failed") == "inactive"
    assert volume.state in {State.COMMITTED, State.CREATED}
    assert system.lifecycle("host", "uninstall", "systemd").status == 0
    assert not list(system.units.glob("lifecycle*"))


def test_a_vm_powers_off_itself_when_its_unit_stops(system: Booted, volume: Volume) -> None:
    life = WRITE + 'exec 4<>"/run/qemu/$1/monitor"\nread told <&4\nprintf "$told" >&3\n'
    vm = add(system, "vm", BOUND, "mkfifo /run/qemu/$1/monitor\n" + life, told="tee ")
    system.systemctl("start", vm)
    monitor = Path(f"{system.run}/qemu/work/ci-42/monitor")
    while not monitor.exists():
        os.sched_yield()
    system.systemctl("stop", vm)
    assert system.wait_for(DISKS, "inactive", "failed") == "inactive"
    assert system.shown(vm, "Result") == "success"
    assert seen(volume) == disk(b"writtensystem_powerdown")


def test_a_vm_whose_disks_cannot_start_does_not_start(system: Booted, volume: Volume) -> None:
    vm = add(system, "vm", BOUND, WRITE)
    volume.start()
    with by_another_process(volume.path):
        system.systemctl("start", vm, status=1)
        assert system.shown(DISKS, "ActiveState") == "failed"
        assert system.shown(vm, "ExecMainPID") == "0"
    assert volume.state is State.STARTED


# ---------------------------------------------------------------- telling how it ended


@pytest.mark.parametrize(
    ("life", "result", "state", "cause"),
    [
        (WRITE, "success", State.COMMITTED, "commit"),
        (WRITE + "kill -SEGV $$", "core-dump|signal", State.COMMITTED, "crash"),
        (WRITE + "exit 1", "exit-code", State.COMMITTED, "crash"),
        ("exit 1", "exit-code", State.CREATED, None),
    ],
    ids=["off", "crash", "error", "failed start"],
)
def test_a_unit_that_tells_how_it_ended_decides(
    system: Booted, volume: Volume, life: str, result: str, state: State, cause: str | None
) -> None:
    vm = add(system, "telling", TELLING, life)
    system.systemctl("start", vm)
    system.wait_for(vm, "inactive", "failed")
    assert re.fullmatch(result, system.shown(vm, "Result"))
    assert volume.state is state
    if cause is not None:
        assert seen(volume) == disk(b"written")
        volume.revert(0)
        assert [one.cause for one in volume.revisions if one.number == 1] == [cause]


def test_a_start_that_is_refused_leaves_another_s_disk_alone(
    system: Booted, volume: Volume
) -> None:
    vm = add(system, "telling", TELLING, WRITE)
    volume.start()
    with by_another_process(volume.path):
        system.systemctl("start", vm, status=1)
        assert volume.state is State.STARTED
    assert numbers(volume) == []


# ---------------------------------------------------------------- enabled


def test_what_is_enabled_recovers_at_boot_and_prunes_daily(booted: Booted, volume: Volume) -> None:
    assert booted.lifecycle("host", "install", "systemd", "--enable").status == 0
    volume.start()
    with open(volume.path, "r+b") as image:
        image.write(b"left over")
    assert booted.shown("lifecycle-prune.timer", "ActiveState") == "active"
    assert volume.state is State.DIRTY
    booted.systemctl("start", "multi-user.target")
    assert booted.wait_for("lifecycle-recover.service", "active", "failed") == "active"
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"left over"))
    booted.systemctl("start", "lifecycle-prune.service")
    assert booted.lifecycle("host", "uninstall", "systemd").status == 0
    assert booted.shown("lifecycle-prune.timer", "LoadState") == "not-found"
