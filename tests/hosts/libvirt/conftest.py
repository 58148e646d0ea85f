"""What the tests of libvirt ask for: its hook, to be called; one libvirtd for all, and VMs on volumes."""

from __future__ import annotations

import io
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from lifecycle import Pool, Volume
from lifecycle.hosts.libvirt import domain_events
from lifecycle.hosts.libvirt import hook as hook_
from lifecycle.machine import known_pools
from support import required_programs
from support.console_guest import LISTEN, Console, copied
from support.disks import SIZE
from support.guest import Guest
from support.libvirt_hook import Hook
from support.libvirtd import Libvirt, libvirtd
from support.mounts import CannotMount, FileSystem

Define = Callable[..., "Machine"]


# ---------------------------------------------------------------- the hook, called by the test


@pytest.fixture
def vms(xfs: FileSystem) -> Pool:
    pool = Pool.create(xfs.new_directory())
    known_pools.enter(pool.path)
    return pool


@pytest.fixture
def root(vms: Pool) -> Volume:
    return vms.create_volume("ci/root", SIZE)


@pytest.fixture
def same_pool(vms: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The pool; the hook, which opens its own, gets this one, of which something can be made to fail."""
    monkeypatch.setattr(Pool, "open", lambda _path: vms)
    return vms


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Hook:
    """Return a function that calls the hook with XML, expects its exit status, and returns what it complains of."""

    def hook(step: str, content: str | bytes, reason: str = "-", *, status: int = 0) -> str:
        given = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(complaints := io.BytesIO()))
        phase = "end" if step in {"stopped", "release"} else "begin"
        found = hook_.run(["ci", step, phase, reason])
        assert capfdbinary.readouterr().out == b""
        sys.stderr.flush()
        said = complaints.getvalue().decode()
        assert found == status, said
        assert len(said.splitlines()) == status
        return said

    return hook


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libvirt's notes on the VM are."""
    monkeypatch.setattr(domain_events, "STATUS", f"{tmp_path}/{{name}}.xml")
    return tmp_path / "ci.xml"


# ---------------------------------------------------------------- a real libvirtd


class Machine:
    """A VM that libvirt knows.

    Attributes:
        name: its name.
        console: what its guest says.
        daemon: who runs it.
    """

    def __init__(self, daemon: Libvirt, name: str, console: Console) -> None:
        self.daemon = daemon
        self.name = name
        self.console = console

    def boot(self) -> None:
        """Start it, and return when its guest is ready."""
        self.daemon.virsh("start", self.name)
        self.console.boot()

    def start_paused(self) -> None:
        """Start it without letting its guest run: the test plays the guest."""
        self.daemon.virsh("start", self.name, "--paused")
        self.console.connect()

    def power_off(self) -> None:
        """Let the guest power itself off, and return when all hooks have run."""
        self.daemon.forget_steps()
        self.console.tell("poweroff -f")
        self.daemon.wait_for(self.name, "release end")

    def destroy(self) -> None:
        """Pull its plug, and return when all hooks have run."""
        self.daemon.virsh("destroy", self.name)


@pytest.fixture(scope="session")
def daemon(mounted: Callable[[str], FileSystem]) -> Iterator[Libvirt]:
    """A libvirtd. Where it cannot run the test is skipped; but it fails where `CI` is set."""
    on = mounted("xfs")
    with ExitStack() as held:
        try:
            running = held.enter_context(libvirtd(on))
        except CannotMount as error:
            required_programs.missing(f"needs libvirtd: {error}")
        yield running


@pytest.fixture(scope="session")
def booting(daemon: Libvirt, guest: Guest) -> Guest:
    """What libvirt's guests boot from."""
    return copied(guest, daemon.place)


@pytest.fixture
def vm_pool(daemon: Libvirt, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool that the hook knows, on the file system that QEMU can reach."""
    monkeypatch.setenv("LIFECYCLE_CONFIG", str(daemon.config))
    pool = Pool.create(daemon.place / f"pool-{uuid.uuid4().hex}")
    known = known_pools.enter(pool.path)
    yield pool
    known_pools.forget(known.name)


@pytest.fixture
def define(daemon: Libvirt, booting: Guest) -> Iterator[Define]:
    """Return a function that defines a VM with these volumes or paths as its disks; all go with the test."""
    machines: list[Machine] = []

    def define(name: str, *disks: Volume | str, more: str = "") -> Machine:
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        console = Console(daemon.place / f"{name}.console")
        machines.append(Machine(daemon, name, console))
        paths = [one.path if isinstance(one, Volume) else one for one in disks]
        file = daemon.place / f"{name}.xml"
        file.write_text(_xml(name, booting, console, paths, more))
        daemon.virsh("define", str(file))
        return machines[-1]

    yield define
    for machine in machines:
        daemon.end(machine.name)
        machine.console.close()


def _xml(name: str, booting: Guest, console: Console, paths: list[str], more: str) -> str:
    disks = "".join(
        f"""
        <disk type='file' device='disk'>
          <driver name='qemu' type='raw' discard='unmap'/>
          <source file='{escape(path)}'/>
          <target dev='vd{letter}' bus='virtio'/>
        </disk>"""
        for letter, path in zip("abcdefgh", paths, strict=False)
    )
    return f"""
    <domain type='qemu'>
      <name>{escape(name)}</name>
      <memory unit='MiB'>96</memory>
      <os>
        <type arch='x86_64' machine='q35'>hvm</type>
        <kernel>{booting.kernel}</kernel>
        <initrd>{booting.initrd}</initrd>
        <cmdline>{booting.arguments(LISTEN)} tsc=reliable</cmdline>
      </os>
      <features><acpi/></features>
      <on_reboot>destroy</on_reboot>
      <devices>
        {disks}
        <controller type='usb' model='none'/>
        <serial type='unix'><source mode='connect' path='{console.path}'/></serial>
        <memballoon model='none'/>
      </devices>
      {more}
    </domain>"""
