"""What the tests of read-only pools ask for: a tree of images, and a pool of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle import Pool
from support.disks import disk
from support.image_trees import KERNEL, plant
from support.mounts import FileSystem, read_only


@pytest.fixture
def tree(xfs: FileSystem) -> Path:
    """A tree of images that is no pool yet."""
    tree = xfs.new_directory()
    plant(
        tree,
        {
            KERNEL: b"kernel",
            "kernels/6.1/modules.img": disk(b"modules"),
            "media/debian-12.iso": disk(b"installer"),
        },
    )
    return tree


@pytest.fixture
def pool(tree: Path) -> Pool:
    """A pool of the tree, in a directory that could be written to."""
    return Pool.create(tree, driver="directory")


@pytest.fixture
def read_only_pool(pool: Pool) -> Iterator[Pool]:
    """The pool on a mount that cannot be written to."""
    with read_only(Path(pool.path)):
        yield Pool.open(pool.path)
