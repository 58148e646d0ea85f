"""What someone plants under the names of a pool's files: it is refused or does no harm, and never reaches outside.

Whatever lies there, each public call works or raises a `LifecycleError`; none waits; and nothing outside the pool is
changed or opened for writing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import LifecycleError, NotAPool, Pool, State, Volume, events
from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.linux.directories import Directory
from support.disks import SIZE, cycle, disk, seen
from support.every_call import ACTS, ID, LOOKS, MADE, at_rest, call_all, dirty
from support.mounts import FileSystem
from support.untouched_files import not_blocking, untouched


@pytest.fixture
def outside(xfs: FileSystem) -> Path:
    """A directory that is no pool's, on the same file system, so that hard links to it can be made."""
    directory = xfs.new_directory()
    (directory / "file").write_bytes(disk(b"precious"))
    (directory / "empty").touch()
    (directory / "directory").mkdir()
    (directory / "directory" / "file").write_bytes(b"precious")
    return directory


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    return Pool.create(xfs.new_directory(), keep="last 3")


# ---------------------------------------------------------------- planted files


def _socket(path: Path, _outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's path is at most 107 bytes
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "symlink to a file": lambda path, outside: path.symlink_to(outside / "file"),
    "symlink to a directory": lambda path, outside: path.symlink_to(outside / "directory"),
    "symlink to nothing": lambda path, outside: path.symlink_to(outside / "new"),
    "pipe": lambda path, outside: os.mkfifo(path),
    "device": lambda path, outside: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "device of no driver": lambda path, outside: os.mknod(
        path, stat.S_IFBLK | 0o600, os.makedev(240, 1)
    ),
    "socket": _socket,
    "directory": lambda path, outside: shutil.copytree(outside / "directory", path),
    "hard link": lambda path, outside: os.link(outside / "file", path),
    "hard link to an empty file": lambda path, outside: os.link(outside / "empty", path),
}
ENDINGS = [
    ".img",
    "-dirty.img",
    ".json",
    f".img.1@{MADE}",
    f".img.0@{MADE}",
    f".img.7@{MADE}",
    "-precache.img",
    "-import.img",
    ".img~abcd1234",
    ".json~abcd1234",
]


def plant(volume: Volume, ending: str, what: str, outside: Path) -> Path:
    """Put it where the volume's file of that name is, or would be."""
    path = Path(f"{volume.pool.path}/{volume.id}{ending}")
    path.unlink(missing_ok=True)
    PLANTS[what](path, outside)
    return path


@pytest.mark.parametrize("situation", [at_rest, dirty])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("what", PLANTS)
def test_planted_files_do_no_harm(
    pool: Pool, outside: Path, what: str, ending: str, situation: Callable[[Pool], Volume]
) -> None:
    volume = situation(pool)
    plant(volume, ending, what, outside)
    with untouched(outside), not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []
        assert call_all(volume, LOOKS) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("what", [what for what in PLANTS if what != "directory"])
def test_a_volume_is_removed_whatever_is_planted(
    pool: Pool, outside: Path, what: str, ending: str
) -> None:
    """Removing is the last resort; it takes names, never what they lead to, and no one's directory."""
    volume = at_rest(pool)
    plant(volume, ending, what, outside)
    with untouched(outside), not_blocking():
        if volume.state in {State.STARTED, State.DIRTY}:
            volume.stop(discard=True)
        volume.remove()
        assert ID not in pool
        again = pool.create_volume(ID, SIZE)
        assert (again.state, again.revisions) == (State.CREATED, ())


@pytest.mark.parametrize("act", ["stop", "commit", "resize", "shrink", "revert", "recover"])
def test_a_working_image_that_is_another_file_too_is_not_used(
    pool: Pool, outside: Path, act: str
) -> None:
    """It was not made by a start. What is done to it would be done to the foreign file."""
    volume = at_rest(pool)
    plant(volume, "-dirty.img", "hard link", outside)
    with untouched(outside):
        assert call_all(volume, {act: ACTS[act]}) == []
        assert seen(volume) == disk(b"two")


@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_working_image_is_not_resized_through_a_source(
    pool: Pool, outside: Path, what: str
) -> None:
    """A disposable has no images of its own, but the same names."""
    cycle(pool.create_volume("templates/debian", SIZE), b"debian")
    volume = pool.create_volume(ID, source="templates/debian")
    plant(volume, "-dirty.img", what, outside)
    with untouched(outside), not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []


# ---------------------------------------------------------------- planted directories


@pytest.mark.parametrize("below", ["ci-42", "servers/ci-42"])
@pytest.mark.parametrize("what", [what for what in PLANTS if what != "directory"])
def test_a_vm_that_leads_outside_is_none(
    pool: Pool, xfs: FileSystem, what: str, below: str
) -> None:
    """Also where it leads to another pool's VM, with all its files."""
    elsewhere = Pool.create(xfs.new_directory())
    at_rest(elsewhere)
    outside = Path(elsewhere.path)
    (outside / "file").touch()
    (outside / "empty").touch()
    (outside / "directory").symlink_to("ci-42")
    Path(pool.path, below).parent.mkdir(exist_ok=True)
    PLANTS[what](Path(pool.path, below), outside)
    volume = Volume(pool, f"{below}/root")
    with untouched(outside), not_blocking():
        assert pool.volumes() == []
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []
        pool.recover(*pool.backend.vms())


def test_a_directory_above_a_vm_that_leads_outside(pool: Pool, xfs: FileSystem) -> None:
    elsewhere = Pool.create(xfs.new_directory())
    at_rest(elsewhere)
    outside = Path(elsewhere.path)
    Path(pool.path, "servers").symlink_to(outside)
    volume = Volume(pool, "servers/ci-42/root")
    with untouched(outside), not_blocking():
        assert pool.volumes() == []
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []


def _remove(volume: Volume) -> None:
    volume.remove()


def _create_another(volume: Volume) -> None:
    volume.pool.create_volume(f"{volume.vm}/other/data", SIZE)


EMPTYING: dict[str, tuple[Callable[[Volume], None], str, str]] = {
    "remove": (_remove, "remove", "web"),
    "a create that is vetoed": (_create_another, "create", "web/other"),
}
"""What removes directories that it leaves empty; the event before which the way is exchanged; where that leads."""


@pytest.mark.parametrize("what", EMPTYING)
def test_a_directory_that_a_link_leads_to_is_not_removed(
    pool: Pool, outside: Path, what: str
) -> None:
    """Someone who may write above a VM puts a link in the place of the way there, while root works."""
    act, event, empty = EMPTYING[what]
    volume = pool.create_volume("servers/web/root", SIZE)
    (outside / empty).mkdir(parents=True)

    def exchange(_pool: Pool, **_about: object) -> None:
        Path(pool.path, "servers").rename(Path(pool.path, "moved"))
        Path(pool.path, "servers").symlink_to(outside)
        if event == "create":
            raise ValueError("no more volumes")

    exchanged = events.EVENTS[event].announced.connected_to(exchange, sender=pool)
    with exchanged, untouched(outside), contextlib.suppress(LifecycleError):
        act(volume)
    assert (outside / empty).is_dir()


def test_only_a_directory_that_is_reached_without_a_link_is_removed(
    pool: Pool, outside: Path
) -> None:
    (outside / "empty directory").mkdir()
    Path(pool.path, "link").symlink_to(outside)
    Path(pool.path, "own", "empty").mkdir(parents=True)
    with Directory.open(pool.path) as root:
        for path in ("link/empty directory", "link", "own", "own/none", "none/none", "pool.toml"):
            assert not root.remove_directory(path)
        assert root.remove_directory("own/empty")
        assert root.remove_directory("own")
    assert (outside / "empty directory").is_dir()


def test_a_lock_is_of_the_directory_that_the_name_leads_to_without_a_link(
    pool: Pool, outside: Path
) -> None:
    at_rest(pool)
    backend = pool.backend
    assert isinstance(backend, ReflinkBackend)
    with backend.store.directory("ci-42") as locked:
        assert backend.store._is_still("ci-42", locked)
        Path(pool.path, "ci-42").rename(outside / "ci-42")
        Path(pool.path, "ci-42").symlink_to(outside / "ci-42")
        assert not backend.store._is_still("ci-42", locked)


@pytest.mark.parametrize("what", PLANTS)
def test_a_pool_file_that_is_none(xfs: FileSystem, outside: Path, what: str) -> None:
    directory = xfs.new_directory()
    PLANTS[what](directory / "pool.toml", outside)
    with untouched(outside), not_blocking():
        with pytest.raises(LifecycleError):
            Pool.open(directory)
        with pytest.raises(LifecycleError):
            Pool.create(directory)


@pytest.mark.parametrize("what", PLANTS)
def test_a_path_that_is_no_pool(xfs: FileSystem, outside: Path, what: str) -> None:
    path = xfs.new_directory() / "pool"
    PLANTS[what](path, outside)
    with untouched(outside), not_blocking(), pytest.raises(NotAPool):
        Pool.open(path)
