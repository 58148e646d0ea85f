"""`lifecycle run` with QEMU: real guests write to their disks, crash, are killed, and see what was kept of them."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from support import guest as guests
from support.command_line import Call, begin, finish
from support.disks import MIB, numbers
from support.guest import Guest, say

pytestmark = pytest.mark.timeout(
    600
)  # a guest takes some seconds to boot, and many on a busy machine

SIZE = 8 * MIB
MARK, AT = "written by a guest", 5 * MIB + 12345


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """The volume of the VM `ci`."""
    return xfs_pool.create_volume("ci/root", SIZE)


@pytest.fixture
def monitor(tmp_path: Path) -> str:
    """The path of the socket where a QEMU will have a monitor."""
    return str(tmp_path / "qmp")


def with_monitor(path: str) -> tuple[str, ...]:
    return "-qmp", f"unix:{path},server=on,wait=off", "-device", "pvpanic-pci"


def content(volume: Volume) -> dict[int, bytes]:
    """Return what is on the volume, by offset, where it is not zeros."""
    with volume.export() as exported:
        whole = os.pread(exported.fd, SIZE, 0)
    return {found.start(): found[0] for found in re.finditer(rb"[^\0]+", whole)}


def test_the_life_of_a_guest_s_disk(call: Call, root: Volume, guest: Guest, monitor: str) -> None:
    root.configure(on_crash="revert")
    words = guest.qemu(guests.write(MARK, at=AT), disks=["{root}"], more=with_monitor(monitor))
    called = call("run", "ci", "--qmp", monitor, "--", *words)
    assert called.err.splitlines() == [
        f"lifecycle: ci/root: started, at {root.path}",
        "lifecycle: the guest's end: shut down (guest-shutdown)",
        "lifecycle: ci/root: committed as 1",
    ]
    assert content(root) == {AT: MARK.encode()}

    script = (guests.checksum(len(MARK), at=AT), guests.write("second", at=0))
    called = call("run", "ci", "--", *guest.qemu(*script, disks=["{root}"]))
    assert called.out.splitlines() == [guests.checksum_line(MARK.encode(), at=AT)]
    assert content(root) == {0: b"second", AT: MARK.encode()}

    root.revert()
    script = (guests.checksum(6), guests.checksum(len(MARK), at=AT))
    called = call("run", "ci", "--", *guest.qemu(*script, disks=["{root}"]))
    assert called.out.splitlines() == [
        guests.checksum_line(bytes(6)),
        guests.checksum_line(MARK.encode(), at=AT),
    ]
    assert "nothing was written" in called.err
    assert (root.state, root.current, numbers(root)) == ("reverted", 1, [1, 2])


def test_what_a_guest_discards_is_free_again(call: Call, root: Volume, guest: Guest) -> None:
    # in one life: what was committed before is kept as a revision, and so is not free
    script = (guests.fill(4), guests.discard(3), guests.checksum(3 * MIB))
    called = call("run", "ci", "--", *guest.qemu(*script, disks=["{root}"]))
    assert called.out.splitlines() == [guests.checksum_line(bytes(3 * MIB))]
    assert MIB <= root.usage < 2 * MIB


# ---------------------------------------------------------------- how the guest ended


def test_a_panic_meets_the_crash_policy(
    call: Call, root: Volume, guest: Guest, monitor: str
) -> None:
    root.configure(on_crash="commit")
    script = (guests.write(MARK, at=AT), guests.PANIC)
    words = guest.qemu(*script, disks=["{root}"], more=with_monitor(monitor))
    # QEMU itself exits as if nothing had been
    called = call("run", "ci", "--qmp", monitor, "--", *words)
    assert "lifecycle: the guest's end: the guest panicked\n" in called.err
    assert (root.state, root.history[-1].cause) == ("committed", "crash")
    assert content(root) == {AT: MARK.encode()}


def test_a_qemu_that_is_killed_meets_the_crash_policy(
    root: Volume, guest: Guest, monitor: str
) -> None:
    root.configure(on_crash="commit")
    script = (guests.write(MARK, at=AT), guests.write_for_ever(), say(guests.READY), guests.WAIT)
    words = guest.qemu(*script, disks=["{root}"], more=with_monitor(monitor))
    with begin("run", "ci", "--qmp", monitor, "--", *words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{guests.READY}\n"
        os.kill(pid_of_qemu(root), signal.SIGKILL)
        called = finish(process)
    assert called.status == 128 + signal.SIGKILL
    assert "it was killed, or it failed" in called.err
    assert (root.state, root.history[-1].cause) == ("committed", "crash")
    assert content(root)[AT] == MARK.encode()  # what it wrote durably is there


def pid_of_qemu(volume: Volume) -> int:
    """Return the one process of QEMU's that has the working image open."""
    (pid,) = (one.pid for one in volume.in_use_by if one.name.startswith("qemu"))
    assert pid is not None
    return pid


# ---------------------------------------------------------------- in the background


def test_the_volumes_of_a_qemu_in_the_background_run_until_it_has_ended(
    root: Volume, guest: Guest, monitor: str, tmp_path: Path
) -> None:
    written = "is written"
    script = (say(guests.READY), "read line", guests.write(MARK, at=AT), say(written), guests.WAIT)
    words = guest.qemu(
        *script,
        disks=["{root}"],
        more=(*with_monitor(monitor), "-daemonize"),
        serial=f"unix:{tmp_path}/serial",
    )
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/serial")
        listening.listen()
        with begin("run", "ci", "--qmp", monitor, "--", *words) as process:
            connection, _ = listening.accept()
            with connection, connection.makefile() as serial:
                assert serial.readline() == f"{guests.READY}\n"
                assert process.stderr is not None
                assert "started" in process.stderr.readline()
                pid = pid_of_qemu(root)
                waiting = process.stderr.readline()
                assert waiting == (
                    "lifecycle: qemu-system-x86_64 has ended;"
                    f" waiting for qemu-system-x86 (pid {pid})\n"
                )
                assert root.state == "started"
                connection.sendall(b"go on\n")
                assert serial.readline() == f"{written}\n"
                process.terminate()
            called = finish(process)
    assert called.status == 0
    assert called.err.splitlines() == [
        "lifecycle: the guest's end: shut down (host-signal)",
        "lifecycle: ci/root: committed as 1",
    ]
    assert content(root) == {AT: MARK.encode()}
