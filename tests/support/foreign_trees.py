"""Trees of images as other drivers leave them, made by hand."""

from __future__ import annotations

import os
from pathlib import Path

from support.disks import SIZE, disk

FILES = {
    "appvms/foo/volatile-dirty.img": b"swap",
    "appvms/foo/root-dirty.img": b"root, running",
    "appvms/foo/root.img": b"root",
    "appvms/foo/private-dirty.img": b"private, running",
    "appvms/foo/private.img": b"private",
    # the clock went backwards, twice
    "appvms/foo/private.img.1@2018-03-03T03:04:05Z": b"first",
    "appvms/foo/private.img.2@2018-01-01T03:04:05Z": b"second",
    "appvms/foo/private.img.3@2018-02-02T03:04:05Z": b"third",
    "appvms/foo/private.img@2018-01-02T03:04:05Z": b"older",
    "appvms/foo/private.img@2018-01-03T03:04:05Z": b"older",
    "appvms/foo/private.img@2018-01-04T03:04:05Z": b"older",
    "vm-templates/fedora/root.img": b"fedora",
    "vm-templates/fedora/private.img": b"",
}
"""A tree of the file-reflink driver, by what each image begins with: a VM that crashed, and its template."""
OLDER = tuple(file for file in FILES if ".img@" in file)
"""Those of the naming without numbers."""

FILE_DRIVER = {
    "appvms/old/private.img": b"private",
    "appvms/old/private-cow.img": b"",
    "appvms/old/private-cow.img.old": b"changes",
    "appvms/torn/private.img": b"private",
    "appvms/torn/private-cow.img": b"changes",
    "appvms/torn/private-cow.img.old": b"changes before",
}
"""A tree of the `file` driver: a VM that was shut down, and one that was not."""


def lay(where: Path, images: dict[str, bytes]) -> Path:
    """Make the images, each a sparse file of `SIZE` bytes with a mark, as another driver would own them."""
    for file, mark in images.items():
        path = where / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mark)
        os.truncate(path, SIZE)
        path.chmod(0o660)
        os.utime(path, (1_500_000_000, 1_500_000_000))
    return where


def content(where: Path, file: str) -> bytes:
    """Return what an image of the tree should hold."""
    return disk(FILES[file])


VOLUME = '<volume name="root" pool="here" vid="{}" {}/>'


def xml(where: Path, volumes: dict[str, str], pool: str = "", more: str = "") -> str:
    """Write a qubes.xml that says this of the pool here and its volumes (attributes by vid), and return its path."""
    file = where.parent / f"{where.name}.qubes.xml"
    said = "".join(VOLUME.format(vid, attributes) for vid, attributes in volumes.items())
    file.write_text(
        f"""<?xml version="1.0"?>
<qubes version="4.2"><labels/><pools>
<pool name="other" driver="lvm_thin" volume_group="vg"/>
<pool name="here" driver="file-reflink" dir_path="{where}" {pool}/></pools>
<domains><domain id="domain-1" class="AppVM"><properties><property name="name">foo</property></properties>
<volume-config>{said}{more}</volume-config></domain></domains></qubes>
"""
    )
    return str(file)


ROOT = 'size="131072" rw="True" snap_on_start="True" source="vm-templates/fedora/root"'
PRIVATE = 'size="131072" rw="True" save_on_stop="True" revisions_to_keep="2"'
VOLATILE = 'size="262144" rw="True"'
SAID = {
    "appvms/foo/root": ROOT,
    "appvms/foo/private": PRIVATE,
    "appvms/foo/volatile": VOLATILE,
    "vm-templates/fedora/root": 'size="131072" rw="True" save_on_stop="True"',
    "vm-templates/fedora/private": 'size="131072" rw="True" save_on_stop="True"',
}
"""What a qubes.xml says of `FILES`."""
