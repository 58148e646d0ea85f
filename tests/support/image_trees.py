"""Trees of images that are no pool yet, or that a read-only pool is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lifecycle import Pool

KERNEL = "kernels/6.1/vmlinuz"


def ids(pool: Pool) -> list[str]:
    return [volume.id for volume in pool]


def plant(tree: Path, contents: Mapping[str, bytes]) -> None:
    """Put files of these contents into a tree."""
    for name, content in contents.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
