"""Sizes of disks: read as people write them, checked, and shown."""

from __future__ import annotations

import re

from lifecycle.errors import InvalidSize

SECTOR = 512
"""Bytes. A disk is a whole number of these."""
MAX_SIZE = 2**63 - SECTOR
"""Bytes. The most a file's length can say; the file system's own limit is met when the image is made."""

_UNITS: dict[str, int] = {
    "": 1,
    **{unit: 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}
_SIZE = r"(?ai)(?P<count>[0-9]{1,20})(?:(?P<unit>[KMGTPE])(?:i?B)?|B)?"


def parse_size(size: int | str) -> int:
    """Return a disk's size in bytes, from a number of bytes or a text like `10G`, `512M`, `1073741824`.

    K, M, G, T, P, E are powers of 1024; `GiB` and `GB` mean the same as `G`.

    Raises:
        InvalidSize: it is none, with the reason.
    """
    if isinstance(size, str):
        match = re.fullmatch(_SIZE, size.strip())
        if match is None:
            raise InvalidSize(
                size, "write a number of bytes, or one with a unit, as in 512M or 10G"
            )
        wanted = int(match["count"]) * _UNITS[(match["unit"] or "").upper()]
    elif isinstance(size, int) and not isinstance(size, bool):
        wanted = size
    else:
        raise InvalidSize(size, "it is neither a whole number of bytes nor a text like 10G")
    if wanted <= 0:
        raise InvalidSize(size, "a disk holds at least one sector of 512 bytes")
    if wanted % SECTOR:
        raise InvalidSize(size, "it is not a whole number of sectors of 512 bytes")
    if wanted > MAX_SIZE:
        raise InvalidSize(size, "it is more than a file can hold (8 EiB)")
    return wanted


def format_size(size: int) -> str:
    """Return the size for people: `10 GiB`, `1.5 MiB`, `512 B`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:  # noqa: PLR2004 - the step between units
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"  # noqa: PLR2004
        value /= 1024
    return f"{value:.3g} EiB"


def round_up(size: int) -> int:
    """Return the size in bytes rounded up to whole sectors."""
    return -(-size // SECTOR) * SECTOR
