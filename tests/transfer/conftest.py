"""What the tests of content that comes in ask for: qemu-img, images that it makes, a volume to import into."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from support import required_programs
from support.disks import SIZE, cycle
from support.foreign_images import DISK, IMAGES, Make


@pytest.fixture
def qemu_img() -> Callable[..., None]:
    """Return a function that runs qemu-img; without it the test is skipped, but fails where CI is set."""
    required_programs.program("qemu-img", "qemu-utils")

    def run(*words: str | Path) -> None:
        subprocess.run(("qemu-img", *words), check=True, capture_output=True)

    return run


@pytest.fixture
def image(tmp_path: Path, qemu_img: Callable[..., None]) -> Make:
    """Return a function that makes an image of a kind of `IMAGES`, of a disk."""

    def make(kind: str, content: bytes = DISK) -> Path:
        (tmp_path / "disk").write_bytes(content)
        qemu_img("convert", "-f", "raw", "-O", *IMAGES[kind], tmp_path / "disk", tmp_path / kind)
        return tmp_path / kind

    return make


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """The volume ci/root, which has been written to once."""
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"as it was")
    return volume
