"""`lifecycle attach`: a volume in the words of each hypervisor."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import Pool, Volume
from lifecycle.errors import Unsupported
from lifecycle.hosts import attach
from lifecycle.hosts.attach import Disk, fragment, identifier, letters, text_of
from lifecycle.model import Attached, Attachment
from support.command_line import Call
from support.disks import MIB, SIZE
from support.holding_open import going_with_us
from support.mounts import FileSystem

# ---------------------------------------------------------------- the words


def disk_at(path: str, name: str = "root", **how: Any) -> Disk:
    return Disk(Attachment(Attached.FILE, path), name, **how)


PLAIN = disk_at("/p/ci/root-dirty.img", direct=True)
AWKWARD = disk_at("/p, & <q>/c i/dätá-1-dirty.img", "dätá-1", place=26, rw=False)
WORDS = {
    "qemu": (
        [
            "-blockdev",
            (
                "driver=raw,node-name=root,read-only=off,discard=unmap,detect-zeroes=unmap,"
                "cache.direct=on,file.driver=file,file.filename=/p/ci/root-dirty.img"
            ),
            "-device",
            "virtio-blk-pci,drive=root,id=disk-root",
        ],
        [
            "-blockdev",
            (
                "driver=raw,node-name=d_t__1_8f1fcda3,read-only=on,cache.direct=off,"
                "file.driver=file,file.filename=/p,, & <q>/c i/dätá-1-dirty.img"
            ),
            "-device",
            "virtio-blk-pci,drive=d_t__1_8f1fcda3,id=disk-d_t__1_8f1fcda3",
        ],
    ),
    "libvirt": (
        (
            '<disk type="file" device="disk">\n'
            '  <driver name="qemu" type="raw" cache="none" discard="unmap" detect_zeroes="unmap" />\n'
            '  <source file="/p/ci/root-dirty.img" />\n'
            '  <target dev="vda" bus="virtio" />\n'
            "</disk>"
        ),
        (
            '<disk type="file" device="disk">\n'
            '  <driver name="qemu" type="raw" cache="writeback" />\n'
            '  <source file="/p, &amp; &lt;q&gt;/c i/dätá-1-dirty.img" />\n'
            '  <target dev="vdaa" bus="virtio" />\n'
            "  <readonly />\n"
            "</disk>"
        ),
    ),
    "firecracker": (
        {
            "drive_id": "root",
            "path_on_host": "/p/ci/root-dirty.img",
            "is_root_device": False,
            "is_read_only": False,
            "cache_type": "Writeback",
        },
        {
            "drive_id": "d_t__1_8f1fcda3",
            "path_on_host": "/p, & <q>/c i/dätá-1-dirty.img",
            "is_root_device": False,
            "is_read_only": True,
            "cache_type": "Writeback",
        },
    ),
    "cloud-hypervisor": (
        ["--disk", "path=/p/ci/root-dirty.img,image_type=raw,id=root,readonly=off,direct=on"],
        [
            "--disk",
            (
                'path="/p, & <q>/c i/dätá-1-dirty.img",image_type=raw,id=d_t__1_8f1fcda3,'
                "readonly=on,direct=off"
            ),
        ],
    ),
    "xen": (
        "format=raw,vdev=xvda,access=rw,discard,direct-io-safe,target=/p/ci/root-dirty.img",
        "format=raw,vdev=xvdaa,access=ro,target=/p, & <q>/c i/dätá-1-dirty.img",
    ),
}


def test_each_hypervisor_is_known_here() -> None:
    assert set(WORDS) == set(attach.FRAGMENTS)


@pytest.mark.parametrize("kind", WORDS)
def test_the_words_of_each_hypervisor(kind: str) -> None:
    assert (fragment(kind, PLAIN), fragment(kind, AWKWARD)) == WORDS[kind]


def test_arguments_can_be_pasted_into_a_shell() -> None:
    found = fragment("qemu", disk_at("/it's $HOME/`id`, x.img"))
    script = f"printf '%s\\n' {text_of(found)}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == found


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("char", ["\n", "\0", "\x1f", "\x7f", "\udcff"])
def test_a_path_that_cannot_be_written_is_refused(kind: str, char: str) -> None:
    with pytest.raises(Unsupported, match="has a control character, or is not UTF-8"):
        fragment(kind, disk_at(f"/p{char}/root-dirty.img"))


# ---------------------------------------------------------------- block devices and network disks

DEVICE = Disk(Attachment(Attached.BLOCK, "/dev/rbd0"), "root", direct=True)
CEPH = Disk(
    Attachment(
        Attached.NETWORK,
        "vms/hosts/ci-42/root",
        "rbd",
        ("10.0.0.1:6789", "[fd00::1]:3300", "mon"),
        (("conf", "/etc/ceph/ceph.conf"), ("id", "vms"), ("secret", "4c7b")),
    ),
    "root",
)
NBD = Disk(Attachment(Attached.NETWORK, "ci-42/root", "nbd", ("host",)), "root")
SOCKET = Disk(Attachment(Attached.NETWORK, "root", "nbd", ("/run/a,b.sock",)), "root", rw=False)
STRANGE = Disk(Attachment(Attached.NETWORK, "root", "carrier-pigeon"), "root")


@pytest.mark.parametrize(
    ("disk", "protocol"),
    [
        (DEVICE, "cache.direct=on,file.driver=host_device,file.filename=/dev/rbd0"),
        (
            CEPH,
            (
                "cache.direct=off,file.driver=rbd,file.pool=vms,file.namespace=hosts,file.image=ci-42/root,"
                "file.server.0.host=10.0.0.1,file.server.0.port=6789,file.server.1.host=fd00::1,"
                "file.server.1.port=3300,file.server.2.host=mon,file.server.2.port=6789,"
                "file.conf=/etc/ceph/ceph.conf,file.user=vms"
            ),
        ),
        (
            NBD,
            (
                "cache.direct=off,file.driver=nbd,file.server.type=inet,file.server.host=host,"
                "file.server.port=10809,file.export=ci-42/root"
            ),
        ),
        (
            SOCKET,
            (
                "cache.direct=off,file.driver=nbd,file.server.type=unix,file.server.path=/run/a,,b.sock,"
                "file.export=root"
            ),
        ),
    ],
    ids=["device", "ceph", "nbd", "nbd by a socket"],
)
def test_qemu_reaches_it_by_its_protocol(disk: Disk, protocol: str) -> None:
    _option, blockdev, *_device = fragment("qemu", disk)
    assert blockdev.endswith(f",{protocol}")


@pytest.mark.parametrize(
    ("disk", "source"),
    [
        (DEVICE, '<source dev="/dev/rbd0" />'),
        (
            CEPH,
            (
                '<source protocol="rbd" name="vms/hosts/ci-42/root"><host name="10.0.0.1" port="6789" />'
                '<host name="fd00::1" port="3300" /><host name="mon" /><config file="/etc/ceph/ceph.conf" />'
                '<auth username="vms"><secret type="ceph" uuid="4c7b" /></auth></source>'
            ),
        ),
        (NBD, '<source protocol="nbd" name="ci-42/root"><host name="host" /></source>'),
        (
            SOCKET,
            '<source protocol="nbd" name="root"><host transport="unix" socket="/run/a,b.sock" /></source>',
        ),
    ],
    ids=["device", "ceph", "nbd", "nbd by a socket"],
)
def test_libvirt_reaches_it_by_its_protocol(disk: Disk, source: str) -> None:
    text = "".join(line.strip() for line in fragment("libvirt", disk).splitlines())
    assert text.startswith(f'<disk type="{disk.attachment.kind}" device="disk">')
    assert source in text


@pytest.mark.parametrize("kind", ["firecracker", "cloud-hypervisor", "xen"])
def test_what_takes_no_network_disk_says_so(kind: str) -> None:
    assert "/dev/rbd0" in str(fragment(kind, DEVICE))
    with pytest.raises(Unsupported, match="nbd://host/ci-42/root is a network disk, and this can"):
        fragment(kind, NBD)


@pytest.mark.parametrize("kind", ["qemu", "libvirt"])
def test_a_protocol_that_is_not_known_is_named(kind: str) -> None:
    with pytest.raises(Unsupported, match=r"the protocol carrier-pigeon.*known are nbd and rbd"):
        fragment(kind, STRANGE)


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        (PLAIN, "/p/ci/root-dirty.img"),
        (DEVICE, "/dev/rbd0"),
        (
            CEPH,
            (
                "rbd:vms/hosts/ci-42/root:conf=/etc/ceph/ceph.conf:id=vms"
                r":mon_host=10.0.0.1\:6789\;[fd00\:\:1]\:3300\;mon"
            ),
        ),
        (NBD, "nbd://host/ci-42/root"),
        (SOCKET, "nbd+unix:///root?socket=/run/a%2Cb.sock"),
    ],
    ids=["file", "device", "ceph", "nbd", "nbd by a socket"],
)
def test_in_one_word(disk: Disk, text: str) -> None:
    assert str(disk.attachment) == text


@pytest.mark.parametrize("char", '"[]')
def test_cloud_hypervisor_takes_no_quotes_and_brackets_in_a_path(char: str) -> None:
    with pytest.raises(Unsupported, match="cloud-hypervisor cannot be given a path with"):
        fragment("cloud-hypervisor", disk_at(f"/p{char}/root-dirty.img"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [(0, "a"), (1, "b"), (25, "z"), (26, "aa"), (27, "ab"), (701, "zz"), (702, "aaa")],
)
def test_letters_count_as_device_names_do(place: int, expected: str) -> None:
    assert letters(place) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("root", "root"),
        ("Data.1_x-y", "Data.1_x-y"),
        ("x" * 31, "x" * 31),
        ("x" * 32, "x" * 22 + "_dc30a5ab"),
        ("1st", "st_c13cab9a"),
        ("ä", "disk_fe5cc31e"),
        ("a b", "a_b_3f2ba9f8"),
    ],
)
def test_an_identifier_is_the_name_where_it_can_be(name: str, expected: str) -> None:
    found = identifier(name, marks="._-", longest=31)
    assert re.sub(r"_[0-9a-f]{8}$", "_", found) == re.sub(r"_[0-9a-f]{8}$", "_", expected)


@given(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=50))
def test_identifiers_can_be_used_and_tell_names_apart(one: str, other: str) -> None:
    found = identifier(one, longest=20), identifier(other, longest=20)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,19}", each) for each in found)
    assert (found[0] == found[1]) is (one == other)


# ---------------------------------------------------------------- of a volume


def test_the_cache_is_passed_by_where_nothing_is_checksummed(
    pool: Pool, file_system: FileSystem
) -> None:
    root = pool.create_volume("ci/root", SIZE)
    expected = {"xfs": True, "plain": True, "btrfs": False}
    assert attach.disk_of(root).direct is expected[file_system.kind]


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 /sub /srv rw shared:9 master:1 - btrfs /dev/vdb rw,subvol=/sub
41 22 7:3 / /a\\040b rw - xfs /dev/loop3 rw
not a mount
"""


@pytest.mark.parametrize(
    ("device", "expected"),
    [((254, 0), "ext4"), ((7, 3), "xfs"), ((0, 35), "btrfs"), ((0, 36), None), ((25, 4), None)],
)
def test_the_kind_of_a_file_system(device: tuple[int, int], expected: str | None) -> None:
    assert attach.file_system_on(os.makedev(*device), MOUNTS) == expected


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """The third volume of its VM, in the order of names."""
    xfs_pool.create_volume("ci/a", SIZE)
    xfs_pool.create_volume("ci/b", SIZE)
    xfs_pool.create_volume("ci-2/a", SIZE)
    return xfs_pool.create_volume("ci/root", MIB)


@pytest.mark.parametrize("kind", WORDS)
def test_the_command_prints_the_words(call: Call, root: Volume, kind: str) -> None:
    root.start()
    expected = fragment(kind, disk_at(root.path, place=2, direct=True))
    called = call("attach", "ci/root", "--for", kind)
    assert (called.out, called.err) == (text_of(expected) + "\n", "")
    assert call("attach", "ci/root", "--for", kind, "--json").document == {
        "id": "ci/root",
        "for": kind,
        "path": root.path,
        "started": True,
        "fragment": expected,
    }


def test_of_a_volume_at_rest_it_says_so_too(call: Call, root: Volume) -> None:
    called = call("attach", "ci/root", "--for", "xen")
    assert called.out.endswith(f",target={root.path}\n")
    assert called.err == "lifecycle: ci/root is created: this path is there once it is started\n"
    assert call("attach", "ci/root", "--for", "xen", "--json").document["started"] is False


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("ci/root", "--for", "bhyve"), 2, "'bhyve' is not one of 'qemu', 'libvirt'"),
        (("ci/root",), 2, "Missing option '--for'"),
        (("ci", "--for", "qemu"), 2, "a volume's id is VM/NAME"),
        (("ci/none", "--for", "qemu"), 1, "no such volume"),
        (("ci/none", "--for", "loop"), 1, "no such volume"),
        (("ci/root", "--for", "loop"), 3, "ci/root is created: cannot attach: a loop device is"),
    ],
)
def test_what_cannot_be_attached(
    call: Call, root: Volume, words: tuple[str, ...], status: int, complaint: str
) -> None:
    assert complaint in call("attach", *words, status=status).err


# ---------------------------------------------------------------- those that are not packaged: their grammar

TYPES: dict[str, Callable[[Any], bool]] = {
    "drive_id": lambda value: re.fullmatch(r"[A-Za-z0-9_]{1,64}", value) is not None,
    "path_on_host": lambda value: isinstance(value, str),
    "is_root_device": lambda value: isinstance(value, bool),
    "is_read_only": lambda value: isinstance(value, bool),
    "cache_type": lambda value: value in {"Unsafe", "Writeback"},
}
"""Firecracker's `Drive`, as its API describes it."""


@pytest.mark.parametrize("disk", [PLAIN, AWKWARD])
def test_firecracker_could_take_it(disk: Disk) -> None:
    found = fragment("firecracker", disk)
    assert set(found) == set(TYPES)
    assert all(fits(found[key]) for key, fits in TYPES.items())
    assert found == json.loads(text_of(found))


@pytest.mark.parametrize("disk", [PLAIN, AWKWARD])
def test_cloud_hypervisor_could_take_it(disk: Disk) -> None:
    """Options are parted by commas, but for those in double quotes, which are dropped."""
    option, value = shlex.split(text_of(fragment("cloud-hypervisor", disk)))
    parts = re.findall(r'((?:"[^"]*"|[^",])*)(?:,|$)', value)
    options = dict(part.replace('"', "").split("=", 1) for part in parts if part)
    assert option == "--disk"
    assert options["path"] == disk.path
    assert options["image_type"] == "raw"
    assert {options["readonly"], options["direct"]} <= {"on", "off"}
    assert (options["readonly"] == "on") is (not disk.rw)


@pytest.mark.parametrize("disk", [PLAIN, AWKWARD])
def test_xl_could_take_it(disk: Disk) -> None:
    """Parameters and flags are parted by commas; `target=` is the last and takes the rest of the line."""
    before, _, target = fragment("xen", disk).partition("target=")
    words = before.rstrip(",").split(",")
    keys = dict(word.split("=") for word in words if "=" in word)
    flags = {word for word in words if "=" not in word}
    assert target == disk.path
    assert keys["format"] == "raw"
    assert keys["access"] == ("rw" if disk.rw else "ro")
    assert re.fullmatch(r"xvd[a-z]+", keys["vdev"])
    assert flags <= {"discard", "direct-io-safe"}


# ---------------------------------------------------------------- the page about it


def test_the_page_shows_what_is_printed(call: Call, xfs_pool: Pool) -> None:
    page = (Path(__file__).parents[2] / "docs" / "hosts-attach.md").read_text()
    root = xfs_pool.create_volume("ci-42/root", SIZE)
    root.start()
    shown = re.findall(r"^\$ lifecycle (attach .* --for (?!loop).*)\n([^$`]*)", page, re.MULTILINE)
    assert [words.split()[-1] for words, _ in shown] == list(attach.FRAGMENTS)
    for words, output in shown:
        assert output == call(*words.split()).out.replace(xfs_pool.path, "/srv/vms")
    device = attach.attach_loop(root)
    with going_with_us(device, root.path):
        complaint = call("stop", "ci-42/root", status=3).complaint
    assert complaint.replace(device, "/dev/loop0") in page
