"""VMs of a real libvirtd, by real QEMU that is not root, with the hook installed as a person installs it.

Where a guest is needed it is booted. Elsewhere the VM is started paused, and the test writes to the disk for it.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import uuid
from pathlib import Path

import pytest

from hosts.libvirt.conftest import Define, Machine
from lifecycle import Pool, Volume
from lifecycle.machine import known_pools
from support.disks import MIB, cycle, disk, draw, numbers, seen, seen_by_vm
from support.holding_open import by_loop_device
from support.libvirtd import Libvirt
from support.mounts import run

SIZE = 8 * MIB

pytestmark = pytest.mark.timeout(900)
"""Seconds: a busy machine may take its time to boot a guest without the help of its processor."""


def kill_qemu(volume: Volume, machine: Machine) -> None:
    """Kill the process that holds the volume, and return when the hooks have run."""
    machine.daemon.forget_steps()
    (holder,) = volume.in_use_by
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    machine.daemon.wait_for(machine.name, "release end")


def pattern(word: str, size: int) -> bytes:
    return f"{word}\n".encode() * (size // (len(word) + 1) + 1)


# ---------------------------------------------------------------- with a guest


def test_what_guests_write_is_committed_taken_back_and_freed(
    vm_pool: Pool, define: Define, tmp_path: Path
) -> None:
    root = vm_pool.create_volume("ci/root", SIZE, on_crash="commit")
    full = tmp_path / "full"
    full.write_bytes(b"x" * SIZE)
    data = vm_pool.clone(str(full), "ci/data")
    empty = tmp_path / "ext4"
    empty.touch()
    os.truncate(empty, 4 * SIZE)
    run("mkfs.ext4", "-q", str(empty))
    files = vm_pool.clone(str(empty), "ci/files")
    ci = define("ci", root, data, files)

    ci.boot()
    ci.console.do(f"yes first | head -c {MIB} | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null")
    ci.console.do(f"blkdiscard -o 0 -l {SIZE // 2} /dev/vdb")
    ci.console.do("mount -t ext4 /dev/vdc /mnt")
    ci.console.do(f"yes much | head -c {SIZE} >/mnt/much && sync")
    written = os.stat(files.path).st_blocks * 512
    ci.console.do("rm /mnt/much && sync && fstrim /mnt && umount /mnt")
    assert os.stat(files.path).st_blocks * 512 < written - SIZE // 2
    ci.power_off()

    first = disk(pattern("first", MIB)[:MIB], size=SIZE)
    assert (root.state, seen(root)) == ("committed", first)
    assert (data.state, seen(data)) == ("committed", bytes(SIZE // 2) + b"x" * (SIZE // 2))
    assert files.state == "committed"
    before = root.current

    ci.boot()
    assert ci.console.do("head -n 1 /dev/vda") == "first"
    ci.console.tell("while :; do echo second; done | dd of=/dev/vda bs=4096 conv=notrunc &")
    ci.console.tell(
        "while ! head -n 1 /dev/vda | grep second; do sync; done; sync; echo guest: writes"
    )
    ci.console.read_until("guest: writes")
    ci.destroy()
    assert (root.state, seen(root)[:7]) == ("committed", b"second\n")
    assert data.state == files.state == "committed"
    root.revert(to=before)

    ci.boot()
    assert ci.console.do("head -n 1 /dev/vda") == "first"
    ci.console.do("echo third | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null")
    kill_qemu(root, ci)
    assert (root.state, seen(root)[:6]) == ("committed", b"third\n")
    assert root.history[-1].cause == "crash"
    assert data.state == "started"  # its crash policy keeps it for the next start


def test_a_guest_outlives_its_saving_and_the_daemon(
    vm_pool: Pool, define: Define, daemon: Libvirt
) -> None:
    root = vm_pool.create_volume("ci/root", SIZE, on_crash="revert")
    ci = define("ci", root)
    ci.boot()
    ci.console.do("memory=kept; echo before | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null")

    saved = str(daemon.place / f"{ci.name}.save")
    daemon.virsh("save", ci.name, saved)
    assert (root.state, root.in_use_by, numbers(root)) == ("dirty", (), [])
    vm_pool.recover()  # as at the boot of the host
    assert (root.state, seen_by_vm(root)[:7]) == ("dirty", b"before\n")
    daemon.virsh("restore", saved)
    ci.console.connect()
    assert ci.console.do("echo $memory; head -n 1 /dev/vda") == "kept\nbefore"

    daemon.kill()
    assert ci.console.do("echo still here") == "still here"
    daemon.start()
    assert daemon.virsh("domstate", ci.name) == "running"
    assert root.state == "dirty"
    ci.console.do("echo after | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null")
    ci.power_off()
    assert (root.state, seen(root)[:7]) == ("committed", b"after\n\n")

    complaint = daemon.refused("restore", saved)
    assert re.search(
        r"ci/root is committed: cannot restore: .* that is no more; boot it", complaint
    )
    assert root.state == "committed"


# ---------------------------------------------------------------- without


def test_a_start_that_cannot_be_is_refused_by_virsh_with_the_reason(
    vm_pool: Pool, define: Define
) -> None:
    volumes = [vm_pool.create_volume(f"ci/{name}", SIZE) for name in ("root", "home", "swap")]
    ci = define("ci", *volumes)
    volumes[2].start()
    with by_loop_device(volumes[2].path) as holder:
        complaint = ci.daemon.refused("start", ci.name)
        assert "lifecycle: ci/swap is started: cannot start: " in complaint
        assert f"in use by {holder}" in complaint
        assert "Traceback" not in complaint
        assert [one.state for one in volumes] == ["created", "created", "started"]
    volumes[2].stop()
    ci.start_paused()
    assert [one.state for one in volumes] == ["started"] * 3
    ci.destroy()
    assert [one.state for one in volumes] == ["created"] * 3


def test_a_disk_that_another_vm_has_is_refused_by_its_name(vm_pool: Pool, define: Define) -> None:
    root = vm_pool.create_volume("ci/root", SIZE)
    one, two = define("one", root), define("two", root)
    one.start_paused()
    draw(root, b"of one")
    assert f"libvirt's VM {one.name} (" in two.daemon.refused("start", two.name)
    assert (root.state, len(root.in_use_by)) == ("dirty", 1)
    one.destroy()
    assert (root.state, seen(root)[:6]) == ("committed", b"of one")
    two.start_paused()
    two.destroy()
    assert root.state == "committed"


def test_a_disposable_of_a_template_that_commits_meanwhile(vm_pool: Pool, define: Define) -> None:
    template = vm_pool.create_volume("template/root", SIZE)
    cycle(template, b"old")
    volume = vm_pool.create_volume("ci/root", source=template)
    ci = define("ci", volume)
    ci.start_paused()
    cycle(template, b"new")
    draw(volume, b"dirt", at=MIB)
    assert (seen_by_vm(volume)[:3], volume.outdated) == (b"old", True)
    ci.destroy()
    assert (volume.state, numbers(volume)) == ("reverted", [])
    ci.start_paused()
    assert seen_by_vm(volume) == disk(b"new", size=SIZE)
    ci.destroy()


def test_volumes_of_several_pools(vm_pool: Pool, define: Define, daemon: Libvirt) -> None:
    other = Pool.create(daemon.place / f"other-{uuid.uuid4().hex}")
    known = known_pools.enter(other.path)
    volumes = [vm_pool.create_volume("ci/root", SIZE), other.create_volume("ci/root", SIZE)]
    ci = define("ci", *volumes)
    ci.start_paused()
    for volume in volumes:
        draw(volume, b"written")
    ci.destroy()
    known_pools.forget(known.name)
    assert [(one.state, seen(one)[:7]) for one in volumes] == [("committed", b"written")] * 2


def test_managed_save_and_a_start_afresh(vm_pool: Pool, define: Define) -> None:
    kept = vm_pool.create_volume("ci/kept", SIZE)
    thrown = vm_pool.create_volume("ci/thrown", SIZE, on_crash="revert")
    ci = define("ci", kept, thrown)
    ci.start_paused()
    draw(kept, b"one")
    draw(thrown, b"two")
    ci.daemon.virsh("managedsave", ci.name)
    assert [kept.state, thrown.state] == ["dirty", "dirty"]
    ci.daemon.virsh("start", ci.name, "--paused")  # brings it back
    ci.console.connect()
    assert [seen_by_vm(kept)[:3], seen_by_vm(thrown)[:3]] == [b"one", b"two"]
    ci.daemon.virsh("managedsave", ci.name)
    ci.daemon.virsh("start", ci.name, "--paused", "--force-boot")
    ci.console.connect()
    assert [seen_by_vm(kept)[:3], seen_by_vm(thrown)[:3]] == [b"one", bytes(3)]
    ci.destroy()
    assert [kept.state, thrown.state] == ["committed", "reverted"]


def test_qemu_that_cannot_start_leaves_the_volumes_at_rest(vm_pool: Pool, define: Define) -> None:
    root = vm_pool.create_volume("ci/root", SIZE)
    ci = define("ci", root, "/nonexistent/disk")
    assert "/nonexistent/disk" in ci.daemon.refused("start", ci.name)
    assert (root.state, numbers(root)) == ("created", [])


def test_qemu_that_is_not_root_reaches_the_image_and_no_more(vm_pool: Pool, define: Define) -> None:
    root = vm_pool.create_volume("group/ci/root", SIZE)
    other = vm_pool.create_volume("other/root", SIZE)
    ci = define("ci", root)
    ci.start_paused()
    (qemu,) = root.in_use_by
    assert os.stat(f"/proc/{qemu.pid}").st_uid == os.stat(root.path).st_uid != 0
    modes = {
        path: stat.S_IMODE(os.stat(os.path.join(vm_pool.path, path)).st_mode)
        for path in (".", "group", "group/ci", "other")
    }
    assert modes == {".": 0o711, "group": 0o711, "group/ci": 0o711, "other": 0o700}
    draw(root, b"written")
    ci.destroy()
    other.start()
    assert {stat.S_IMODE(os.stat(one.path).st_mode) for one in (root.pool["other/root"],)} == {
        0o600
    }
    assert seen(root)[:7] == b"written"


def test_a_vm_with_none_of_our_disks_is_left_alone(
    vm_pool: Pool, define: Define, daemon: Libvirt
) -> None:
    root = vm_pool.create_volume("ci/root", SIZE)
    path = daemon.place / f"{uuid.uuid4().hex}.img"
    path.write_bytes(bytes(SIZE))
    foreign = define("foreign", str(path))
    foreign.start_paused()
    foreign.destroy()
    assert (root.state, list(vm_pool.verify())) == ("created", [])


def test_a_program_in_hooks_d_refuses_a_start_and_virsh_says_why(
    vm_pool: Pool, define: Define, daemon: Libvirt
) -> None:
    root = vm_pool.create_volume("ci/root", SIZE)
    hook = Path(vm_pool.path, "hooks.d", "pre-start")
    hook.parent.mkdir(mode=0o755)
    hook.write_text("#!/bin/sh\necho 'no more starts this week' >&2\nexit 1\n")
    hook.chmod(0o755)
    ci = define("ci", root)
    assert "no more starts this week" in daemon.refused("start", ci.name)
    assert root.state == "created"
    hook.unlink()
    ci.start_paused()
    assert root.state == "started"
    ci.destroy()
