"""`lifecycle attach`: what it prints is given to a real QEMU and a real libvirt, which take it as it is meant."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lifecycle import Pool
from lifecycle.hosts import attach
from support import required_programs
from support.disks import MIB, SIZE, draw, seen
from support.mounts import FileSystem

# ---------------------------------------------------------------- QEMU


def qemu(arguments: list[str], *commands: tuple[str, dict[str, Any]]) -> list[Any]:
    """Start QEMU with its machine stopped, send it QMP commands, and return what each returned."""
    program = required_programs.program("qemu-system-x86_64", "qemu-system-x86")
    machine = (
        "-S -nodefaults -no-user-config -display none -accel tcg -machine q35 -m 64 -qmp stdio"
    )
    given = [
        json.dumps({"execute": name, "arguments": more})
        for name, more in (("qmp_capabilities", {}), *commands, ("quit", {}))
    ]
    done = subprocess.run(
        [program, *machine.split(), *arguments],
        input="\n".join(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # what `qemu-io` does is printed between
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert not [one for one in said if "error" in one], said
    return [one["return"] for one in said if "return" in one][1:-1]


def io(command: str) -> tuple[str, dict[str, Any]]:
    """Return the QMP command that does this to the disk as its guest would."""
    line = f'qemu-io -d disk-root/virtio-backend "{command}"'
    return "human-monitor-command", {"command-line": line}


@pytest.fixture
def awkward_pool(file_system: FileSystem) -> Pool:
    """A pool on each file system, in a directory of a name that must be quoted everywhere."""
    where = file_system.new_directory() / "p, & <q> 'ä'"
    return Pool.create(where, setup_check=file_system.has_reflinks)


def test_qemu_takes_it_as_it_is_meant(awkward_pool: Pool, file_system: FileSystem) -> None:
    root = awkward_pool.create_volume("ci/root", MIB)
    root.start()
    draw(root, b"x" * MIB)
    before = os.stat(root.path).st_blocks
    arguments = attach.for_qemu(attach.disk_of(root))
    discarded, zeroed, disks, nodes = qemu(
        arguments,
        io("discard 0 256k"),
        io("write -z 256k 256k"),
        ("query-block", {}),
        ("query-named-block-nodes", {}),
    )
    assert (discarded, zeroed) == ("", "")

    (found,) = disks
    assert found["qdev"] == "/machine/peripheral/disk-root/virtio-backend"
    inserted = found["inserted"]
    direct = file_system.kind != "btrfs"
    assert inserted["file"] == root.path
    assert (inserted["drv"], inserted["ro"], inserted["detect_zeroes"]) == ("raw", False, "unmap")
    cache = {"direct": direct, "no-flush": False, "writeback": True}
    assert [node["cache"] for node in nodes] == [cache, cache]

    # what the guest discards is given back to the pool
    with open(root.path, "rb") as image:
        os.fsync(image.fileno())
    assert os.stat(root.path).st_blocks <= before - (256 << 10) // 512
    root.stop()
    assert seen(root) == bytes(512 << 10) + b"x" * (512 << 10)


def test_qemu_does_not_write_to_what_is_read_only(awkward_pool: Pool) -> None:
    root = awkward_pool.create_volume("ci/root", MIB, rw=False)
    root.start()
    (disks,) = qemu(attach.for_qemu(attach.disk_of(root)), ("query-block", {}))
    assert disks[0]["inserted"]["ro"] is True
    assert root.stop().event == "release"


# ---------------------------------------------------------------- libvirt


def test_libvirt_takes_it_as_it_is_meant(awkward_pool: Pool, tmp_path: Path) -> None:
    virsh = required_programs.program("virsh", "libvirt-clients")
    root = awkward_pool.create_volume("ci/root", SIZE)
    awkward_pool.create_volume("ci/var-ä", SIZE, rw=False)
    disks = "".join(attach.for_libvirt(attach.disk_of(one)) for one in awkward_pool.volumes("ci"))
    domain = tmp_path / "domain.xml"
    domain.write_text(
        "<domain type='test'><name>ci</name><memory>65536</memory><os><type>hvm</type></os>"
        f"<devices>{disks}</devices></domain>"
    )
    done = subprocess.run(
        [
            virsh,
            "--quiet",
            "--connect",
            "test:///default",
            f"define --validate {domain}; dumpxml ci",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = ElementTree.fromstring(done.stdout[done.stdout.index("<domain") :]).findall(".//disk")
    drivers = [one.find("driver") for one in found]
    cache = "none" if attach.disk_of(root).direct else "writeback"
    assert [dict(one.attrib) for one in drivers if one is not None] == [
        {
            "name": "qemu",
            "type": "raw",
            "cache": cache,
            "discard": "unmap",
            "detect_zeroes": "unmap",
        },
        {"name": "qemu", "type": "raw", "cache": cache},
    ]
    sources = [one.find("source") for one in found]
    assert [one.attrib["file"] for one in sources if one is not None] == [
        one.path for one in awkward_pool.volumes("ci")
    ]
    targets = [one.find("target") for one in found]
    assert [one.attrib["dev"] for one in targets if one is not None] == ["vda", "vdb"]
    assert [one.find("readonly") is not None for one in found] == [False, True]
