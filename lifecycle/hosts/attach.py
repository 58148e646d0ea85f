"""How a hypervisor is given a volume: its command line, its configuration, or a loop device.

How this works. A `Disk` is what a hypervisor must know of a volume; each entry of `FRAGMENTS` is a pure function from
it to that hypervisor's own words. They agree in this: the image is raw and said to be (guessed from its content, a
guest could make it something else), what the guest discards is given back, its flushes reach the disk, and a
read-only volume is read-only. A file or block device is given by its path; a network disk by its protocol, to those
that speak it.

The host's cache is passed by (`direct`) on file systems where that is sound: then what a VM wrote is nearly all on
disk when a commit syncs it, and no page is kept twice. Not on btrfs: a guest may change a page while it is written, and
the checksum, taken before, would be that of another content.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle.errors import InUse, Refused, Unsupported
from lifecycle.linux.child_processes import ends_told
from lifecycle.model import Attached, Attachment

if TYPE_CHECKING:
    from xml.etree import ElementTree as xml  # noqa: N813

    from lifecycle.engine.volume import Volume

SBIN = ":/usr/sbin:/sbin"
"""Where administrators' programs are, which may be missing in the path of others."""
DIRECT = frozenset({"xfs", "ext4"})
"""File systems that write what they are given as it is, without a checksum of it."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A volume as a hypervisor sees it.

    Attributes:
        attachment: the working image, as hypervisors are given it.
        name: the volume's NAME.
        place: its place among the volumes of its VM, from 0.
        rw: whether the VM may write.
        direct: whether the host's cache is to be passed by.
    """

    attachment: Attachment
    name: str
    place: int = 0
    rw: bool = True
    direct: bool = False

    @property
    def path(self) -> str:
        """The path of the file or block device.

        Raises:
            Unsupported: it is a network disk.
        """
        if self.attachment.kind is Attached.NETWORK:
            raise Unsupported(
                f"{self.attachment} is a network disk, and this can only be given a file or a block device; QEMU and"
                " libvirt take network disks"
            )
        return self.attachment.name


def disk_of(volume: Volume) -> Disk:
    """Return what a hypervisor must know of the volume, started or not.

    Raises:
        NoSuchVolume: there is none.
    """
    view = volume.require(volume.look())
    siblings = [one.name for one in volume.pool.volumes(volume.vm)]
    attachment = volume.attachment
    place = siblings.index(volume.name)
    return Disk(attachment, volume.name, place, view.config.rw, _is_direct(attachment))


def _is_direct(attachment: Attachment) -> bool:
    """Tell whether the host's cache can be passed by: a network disk has none, a block device needs none."""
    if attachment.kind is not Attached.FILE:
        return attachment.kind is Attached.BLOCK
    device = os.stat(os.path.dirname(attachment.name)).st_dev
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return file_system_on(device, mounts.read()) in DIRECT


def file_system_on(device: int, mountinfo: str) -> str | None:
    """Return the kind of file system mounted from a device (`st_dev`), as proc(5) lists them; None if unknown.

    btrfs is never found: its files bear devices that are not in the list.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.split()[0]
    return None


# ---------------------------------------------------------------- in each one's words


def for_qemu(disk: Disk) -> list[str]:
    """Return arguments: the image as a block device of that name, and a virtio disk of it.

    Raises:
        Unsupported: it is a network disk of a protocol of which is not known here how QEMU is given it.
    """
    node = identifier(disk.name, marks="._-", longest=31)
    options = {
        "driver": "raw",
        "node-name": node,
        "read-only": _on(not disk.rw),
        **({"discard": "unmap", "detect-zeroes": "unmap"} if disk.rw else {}),
        "cache.direct": _on(disk.direct),
        **{f"file.{key}": value for key, value in _qemu_protocol(disk.attachment)},
    }
    blockdev = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in options.items())
    return ["-blockdev", blockdev, "-device", f"virtio-blk-pci,drive={node},id=disk-{node}"]


def _qemu_protocol(attachment: Attachment) -> Iterator[tuple[str, str]]:
    """Yield the options of QEMU's block driver by which it reaches the image."""
    if attachment.kind is not Attached.NETWORK:
        yield "driver", "file" if attachment.kind is Attached.FILE else "host_device"
        yield "filename", attachment.name
    elif attachment.protocol == "nbd":
        yield "driver", "nbd"
        for host in attachment.hosts[:1]:
            if host.startswith("/"):
                yield from (("server.type", "unix"), ("server.path", host))
            else:
                name, port = _host_and_port(host)
                yield from (("server.type", "inet"), ("server.host", name))
                yield "server.port", port or _NBD_PORT
        yield "export", attachment.name
        yield from attachment.options
    elif attachment.protocol == "rbd":
        pool, *namespace, image = attachment.name.split("/", 2)
        yield from (("driver", "rbd"), ("pool", pool))
        yield from (("namespace", one) for one in namespace)
        yield "image", image
        for number, (name, port) in enumerate(map(_host_and_port, attachment.hosts)):
            yield f"server.{number}.host", name
            yield f"server.{number}.port", port or _CEPH_PORT
        for key, value in attachment.options:
            if key != _SECRET:
                yield "user" if key == "id" else key, value
    else:
        raise _unknown(attachment, "QEMU")


def _unknown(attachment: Attachment, whom: str) -> Unsupported:
    return Unsupported(
        f"{attachment} is a network disk of the protocol {attachment.protocol}, and how {whom} is given one of those is"
        " not known here; known are nbd and rbd"
    )


_SECRET = "secret"  # noqa: S105 - the name of an option
"""The option that names libvirt's secret with the user's key; QEMU finds that by its configuration."""
_NBD_PORT = "10809"
_CEPH_PORT = "6789"


def _host_and_port(host: str) -> tuple[str, str]:
    """Return the parts of HOST:PORT, the port empty if none is said; an IPv6 address stands in brackets."""
    name, _, port = host.rpartition(":") if re.search(r":[0-9]+$", host) else (host, "", "")
    return name.strip("[]"), port


def for_libvirt(disk: Disk) -> str:
    """Return a <disk> for the <devices> of a domain.

    Raises:
        Unsupported: it is a network disk of a protocol of which is not known here how libvirt is given it.
    """
    from xml.etree import ElementTree as xml  # noqa: N813, PLC0415 - only here

    element = xml.Element("disk", type=disk.attachment.kind, device="disk")
    freed = {"discard": "unmap", "detect_zeroes": "unmap"} if disk.rw else {}
    cache = "none" if disk.direct else "writeback"
    xml.SubElement(element, "driver", {"name": "qemu", "type": "raw", "cache": cache, **freed})
    _add_source(element, disk.attachment)
    xml.SubElement(element, "target", dev=f"vd{letters(disk.place)}", bus="virtio")
    if not disk.rw:
        xml.SubElement(element, "readonly")
    xml.indent(element)
    return xml.tostring(element, encoding="unicode")


def _add_source(element: xml.Element, attachment: Attachment) -> None:
    """Add where libvirt finds the image: a <source>, and for Ceph an <auth> if a user is said."""
    from xml.etree import ElementTree as xml  # noqa: N813, PLC0415 - only here

    if attachment.kind is not Attached.NETWORK:
        key = "file" if attachment.kind is Attached.FILE else "dev"
        xml.SubElement(element, "source", {key: attachment.name})
        return
    if attachment.protocol not in {"nbd", "rbd"}:
        raise _unknown(attachment, "libvirt")
    options = dict(attachment.options)
    source = xml.SubElement(element, "source", protocol=attachment.protocol, name=attachment.name)
    for host in attachment.hosts:
        if host.startswith("/"):
            xml.SubElement(source, "host", transport="unix", socket=host)
        else:
            name, port = _host_and_port(host)
            xml.SubElement(source, "host", {"name": name, **({"port": port} if port else {})})
    if "conf" in options:
        xml.SubElement(source, "config", file=options["conf"])
    if "id" in options and _SECRET in options:
        auth = xml.SubElement(source, "auth", username=options["id"])
        xml.SubElement(auth, "secret", type="ceph", uuid=options[_SECRET])


def for_firecracker(disk: Disk) -> dict[str, Any]:
    """Return the body of `PUT /drives/DRIVE_ID`, or an entry of `drives` in a configuration file."""
    return {
        "drive_id": identifier(disk.name, longest=64),
        "path_on_host": disk.path,
        "is_root_device": False,
        "is_read_only": not disk.rw,
        "cache_type": "Writeback",
    }


def for_cloud_hypervisor(disk: Disk) -> list[str]:
    """Return arguments."""
    if re.search(r'["\[\]]', disk.path):
        raise Unsupported(f'{disk.path}: cloud-hypervisor cannot be given a path with " or [ or ]')
    path = f'"{disk.path}"' if "," in disk.path else disk.path
    options = {
        "path": path,
        "image_type": "raw",
        "id": identifier(disk.name, marks="._-", longest=31),
        "readonly": _on(not disk.rw),
        "direct": _on(disk.direct),
    }
    return ["--disk", ",".join(f"{key}={value}" for key, value in options.items())]


def for_xen(disk: Disk) -> str:
    """Return a disk specification, as in `disk = [ '…' ]` and `xl block-attach`."""
    words = ["format=raw", f"vdev=xvd{letters(disk.place)}", f"access={'rw' if disk.rw else 'ro'}"]
    words += ["discard"] if disk.rw else []
    words += ["direct-io-safe"] if disk.direct else []
    return ",".join([*words, f"target={disk.path}"])  # to the end of the line, commas and all


FRAGMENTS: dict[str, Callable[[Disk], Any]] = {
    "qemu": for_qemu,
    "libvirt": for_libvirt,
    "firecracker": for_firecracker,
    "cloud-hypervisor": for_cloud_hypervisor,
    "xen": for_xen,
}
"""The words by hypervisor: a list of arguments, a text, or a JSON object."""


def fragment(kind: str, disk: Disk) -> Any:
    """Return how the hypervisor of this kind is given the disk.

    Raises:
        Unsupported: the image cannot be written in its words, or is of a kind that it cannot use.
    """
    name = disk.attachment.name
    if any(ord(char) < ord(" ") or "\ud800" <= char <= "\udfff" or char == "\x7f" for char in name):
        raise Unsupported(
            f"{name!r} cannot be written for {kind}: it has a control character, or is not UTF-8"
        )
    return FRAGMENTS[kind](disk)


def text_of(found: Any) -> str:
    """Return a fragment as it is pasted: arguments quoted for the shell, an object as JSON, a text as it is."""
    if isinstance(found, list):
        return shlex.join(found)
    return found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False)


def identifier(name: str, *, marks: str = "_", longest: int) -> str:
    """Return the name if a hypervisor takes it as an identifier, else one made of it.

    That is: a letter, then letters, digits and these marks. Two different names never become the same.
    """
    allowed_marks = re.escape(marks)
    if re.fullmatch(rf"[A-Za-z][A-Za-z0-9{allowed_marks}]*", name) and len(name) <= longest:
        return name
    told_apart = f"_{zlib.crc32(name.encode()):08x}"
    plain = re.sub(r"[^A-Za-z0-9]", "_", name).lstrip("_0123456789") or "disk"
    return plain[: longest - len(told_apart)] + told_apart


def letters(place: int) -> str:
    """Return the letters by which device names count: a, b, …, z, aa, ab and so on."""
    text = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        text = chr(ord("a") + letter) + text
    return text


def _on(value: bool) -> str:
    return "on" if value else "off"


# ---------------------------------------------------------------- a loop device


def attach_loop(volume: Volume) -> str:
    """Make a loop device of the working image and return its path; `losetup --detach` takes it away again.

    It stays when this process ends. As long as it is there the volume cannot be stopped.

    Raises:
        Refused: the volume is not started.
        InUse: the VM may write, and someone has the image open already.
        Unsupported: this user or machine cannot make one, or it is a network disk.
    """
    with volume.pool.changing(volume):
        view = volume.require(volume.look())
        if not view.may_run:
            reason = "a loop device is made of the working image, which a start makes"
            raise Refused(volume.id, view.state, "attach", reason, view.allowed)
        disk = disk_of(volume)
        path = disk.path
        if disk.rw and (holders := volume.in_use_by):
            raise InUse(volume.id, view.state, "attach", holders)
        return _losetup(disk, path)


def _losetup(disk: Disk, path: str) -> str:
    import subprocess  # noqa: PLC0415 - only here

    words = ["losetup", "--find", "--show"]
    words += [] if disk.rw else ["--read-only"]
    words += ["--direct-io=on"] if disk.direct else []
    env = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + SBIN}
    try:
        with ends_told():
            done = subprocess.run(
                [*words, path], capture_output=True, text=True, check=False, env=env
            )
    except FileNotFoundError:
        raise Unsupported("losetup is not installed; install the package mount") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Unsupported(f"{said}; a loop device takes root")
    return done.stdout.strip()
