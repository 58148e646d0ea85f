"""What libvirt hands to its hook."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape, quoteattr

from lifecycle import Volume

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
OTHER = "5e6b0c1c-1f2c-4bb3-8cf5-0d1f0c1b2a39"
Hook = Callable[..., str]


def xml(*disks: Volume | str, name: str = "ci", uuid: str = UUID, more: str = "") -> str:
    paths = [one.path if isinstance(one, Volume) else one for one in disks]
    sources = "".join(f"<disk><source file={quoteattr(path)}/></disk>" for path in paths)
    return (
        f"<domain><name>{escape(name)}</name><uuid>{uuid}</uuid>"
        f"<devices>{sources}</devices>{more}</domain>"
    )
