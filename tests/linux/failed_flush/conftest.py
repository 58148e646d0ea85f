"""What the tests of flushes that fail ask for: a disk that refuses content, and a pool on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from lifecycle import Pool
from support.mounts import KINDS, FileSystem
from support.thin_disk import ThinDisk


@pytest.fixture(scope="module", params=KINDS)
def disk(
    request: pytest.FixtureRequest, mounted: Callable[[str], FileSystem]
) -> Iterator[ThinDisk]:
    """The disk of this module, of each kind."""
    disk = ThinDisk(mounted(request.param).new_directory(), request.param)
    yield disk
    disk.close()


@pytest.fixture
def pool(
    disk: ThinDisk, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pool]:
    """A new pool on the disk."""
    path = disk.path / os.path.basename(tmp_path)
    made = Pool.create(path, setup_check=disk.kind != "plain")
    monkeypatch.setenv("LIFECYCLE_POOL", made.path)
    yield made
    disk.take()
    shutil.rmtree(path)
    disk.reboot()
