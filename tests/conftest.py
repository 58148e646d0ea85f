"""What every test may ask for: real file systems, and pools on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from listening import Listener
from mounts import KINDS, CannotMount, FileSystem, Mounts

from lifecycle import Pool, precaching

NewPool = Callable[..., Pool]


@pytest.fixture(scope="session")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FileSystem]:
    """Return a function from `xfs`, `btrfs` or `plain` to that file system, mounted.

    Where it cannot be mounted the test is skipped; but it fails where `CI` or `LIFECYCLE_REQUIRE_MOUNTS` is set.
    """
    mounts: list[Mounts] = []

    def get(kind: str) -> FileSystem:
        try:
            if not mounts:
                mounts.append(Mounts(tmp_path_factory.mktemp("mounts")))
            return mounts[0].get(kind)
        except CannotMount as error:
            miss(f"needs a real file system ({kind}): {error}")

    return get


def miss(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; fail where nothing may be lacking."""
    if os.environ.get("CI") or os.environ.get("LIFECYCLE_REQUIRE_MOUNTS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's settings of lifecycle lie for the test, with the pools known by name: not on the machine."""
    directory = tmp_path_factory.mktemp("settings") / "lifecycle"
    monkeypatch.setenv("LIFECYCLE_CONFIG", str(directory))
    return directory


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes whose working images were to be made ahead: no test waits for the processes that would do it."""
    asked: list[str] = []
    monkeypatch.setattr(
        precaching, "begin_soon", lambda _path, *volume_ids: asked.extend(volume_ids)
    )
    return asked


@pytest.fixture
def xfs(mounted: Callable[[str], FileSystem]) -> FileSystem:
    """An XFS."""
    return mounted("xfs")


@pytest.fixture(params=KINDS)
def file_system(request: pytest.FixtureRequest, mounted: Callable[[str], FileSystem]) -> FileSystem:
    """The file system under test; a test that asks for it runs once on each kind."""
    return mounted(request.param)


@pytest.fixture
def other_file_system(file_system: FileSystem, mounted: Callable[[str], FileSystem]) -> FileSystem:
    """Another file system than the one under test, so that the two cannot share blocks."""
    return mounted("btrfs" if file_system.kind == "xfs" else "xfs")


def create_pool(where: FileSystem, **settings: Any) -> Pool:
    """Make a pool in a fresh directory of the file system."""
    return Pool.create(where.new_directory(), setup_check=where.has_reflinks, **settings)


@pytest.fixture
def new_pool(file_system: FileSystem) -> NewPool:
    """Return a function that makes a pool on the file system under test, with settings of `Pool.create`."""
    return lambda **settings: create_pool(file_system, **settings)


@pytest.fixture
def pool(new_pool: NewPool) -> Pool:
    """A new, empty pool on the file system under test. To the conformance suite this is the backend."""
    return new_pool()


@pytest.fixture
def pool_elsewhere(other_file_system: FileSystem) -> Pool:
    """A new, empty pool on another file system than `pool`."""
    return create_pool(other_file_system)


@pytest.fixture
def listener(pool: Pool) -> Iterator[Listener]:
    """One who hears everything from `pool`."""
    listener = Listener(pool)
    yield listener
    listener.close()
