"""The backends under test: each file of the suite runs on those that promise what it is about (promises.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from conformance.promises import PROMISES
from lifecycle import Pool
from support.image_trees import plant
from support.mounts import FileSystem, read_only
from support.pools import create_pool

Fill = Callable[[Mapping[str, bytes]], Pool]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the test on each backend that promises what its file is about."""
    if "backend" in metafunc.fixturenames:
        file = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("backend", [name for name, parts in PROMISES.items() if file in parts])


@pytest.fixture
def fill(backend: str, file_system: FileSystem) -> Iterator[Fill]:
    """Return a function that makes a pool of the backend under test, with volumes of these contents."""
    with ExitStack() as undone:
        yield lambda contents: _FILLS[backend](file_system, contents, undone)


@pytest.fixture
def pool(fill: Fill) -> Pool:
    """A new, empty pool of the backend under test."""
    return fill({})


def _fill_reflink(where: FileSystem, contents: Mapping[str, bytes], _undone: ExitStack) -> Pool:
    pool = create_pool(where)
    outside = where.new_directory() / "content"
    for volume_id, content in contents.items():
        outside.write_bytes(content)
        pool.clone(outside, volume_id)
    return pool


def _fill_directory(where: FileSystem, contents: Mapping[str, bytes], undone: ExitStack) -> Pool:
    """Make a tree of images, on a mount that cannot be written to."""
    tree = where.new_directory()
    plant(tree, {f"{volume_id}.img": content for volume_id, content in contents.items()})
    Pool.create(tree, driver="directory")
    undone.enter_context(read_only(tree))
    return Pool.open(tree)


_FILLS = {"reflink": _fill_reflink, "directory": _fill_directory}
