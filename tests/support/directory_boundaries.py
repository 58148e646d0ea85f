"""Ways in which one directory of a pool can be apart from the others, each made for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.disks import MIB
from support.mounts import FileSystem, run

Mounted = Callable[[str], FileSystem]


@contextmanager
def subvolume(directory: Path, _mounted: Mounted) -> Iterator[None]:
    """Make the directory a btrfs subvolume."""
    run("btrfs", "subvolume", "create", str(directory))
    yield


@contextmanager
def project(directory: Path, mounted: Mounted) -> Iterator[None]:
    """Make the directory, and all that is made in it, an XFS project, as for a quota."""
    directory.mkdir(mode=0o700)
    make_project(directory, mounted("xfs").path)
    yield


def make_project(directory: Path, mount: Path) -> None:
    """Make the directory and all that is in it an XFS project, which what is made there inherits."""
    run("xfs_quota", "-x", "-c", f"project -s -p {directory} 42", str(mount))


@contextmanager
def bind_mount(directory: Path, _mounted: Mounted) -> Iterator[None]:
    """Mount another directory of the same file system there."""
    elsewhere = directory.parent / f"{directory.name}-elsewhere@"
    elsewhere.mkdir()
    directory.mkdir()
    with mounted_at(directory, "--bind", str(elsewhere)):
        yield


@contextmanager
def another_xfs(directory: Path, mounted: Mounted) -> Iterator[None]:
    """Mount another XFS there."""
    with made(directory, mounted, "mkfs.xfs", "-q"):
        yield


@contextmanager
def a_btrfs(directory: Path, mounted: Mounted) -> Iterator[None]:
    """Mount a btrfs there."""
    with made(directory, mounted, "mkfs.btrfs", "-q"):
        yield


@contextmanager
def an_ext4(directory: Path, mounted: Mounted) -> Iterator[None]:
    """Mount a file system without reflinks there."""
    with made(directory, mounted, "mkfs.ext4", "-q"):
        yield


@contextmanager
def made(directory: Path, mounted: Mounted, *command: str) -> Iterator[None]:
    image = mounted("plain").path / f"{directory.name.strip('.')}.image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    try:
        run(*command, str(image))
        directory.mkdir()
        with mounted_at(directory, "-o", "loop", str(image)):
            yield
    finally:
        image.unlink()


@contextmanager
def mounted_at(directory: Path, *how: str) -> Iterator[None]:
    with ExitStack() as undone:
        run("mount", *how, str(directory))
        undone.callback(run, "umount", str(directory))
        yield
