"""What was made ahead, or its place, cannot be used: VMs start and stop without it, and no process tries in vain."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import Pool, State, Volume
from lifecycle.linux import fork_safety
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm
from support.mounts import FileSystem, read_only, run

Obstacle = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@contextmanager
def another_file_system(path: Path) -> Iterator[None]:
    run("mount", "-t", "tmpfs", "another", str(path))
    try:
        yield
    finally:
        run("umount", "--lazy", str(path))


@contextmanager
def a_link_in_its_place(path: Path) -> Iterator[None]:
    path.rename(path.with_name(".elsewhere"))
    path.symlink_to(path.with_name(".elsewhere"))
    yield


@contextmanager
def a_file_in_its_place(path: Path) -> Iterator[None]:
    if path.exists():
        path.rename(path.with_name(".elsewhere"))
    path.write_bytes(b"something of someone's")
    yield


@contextmanager
def a_directory_in_its_place(path: Path) -> Iterator[None]:
    path.unlink()
    path.mkdir()
    yield


@pytest.fixture
def template(pool: Pool, file_system: FileSystem) -> Volume:
    """One of which an image waits for a disposable."""
    if not file_system.has_reflinks:
        pytest.skip("there all are copied")
    template = pool.create_volume("template/root", SIZE)
    cycle(template, b"one")
    template.configure(ready=1)
    assert pool.backend.make_ahead(template.id) == 1
    return template


@pytest.mark.parametrize(
    "obstacle",
    [immutable, read_only, another_file_system, a_link_in_its_place, a_file_in_its_place],
)
def test_where_images_would_wait(pool: Pool, template: Volume, obstacle: Obstacle) -> None:
    volume = pool.create_volume("ci/root", source=template)
    with obstacle(Path(pool.path, "template/.ready")):
        volume.start()
        assert (volume.state, seen_by_vm(volume)) == (State.STARTED, disk(b"one"))
        volume.stop()
        cycle(template, b"two")
        assert seen(template) == disk(b"two")
        volume.start()
        assert seen_by_vm(volume) == disk(b"two")
        volume.stop()
        assert pool.backend.wants_ahead(volume.id) is None
        assert pool.backend.wants_ahead(template.id) is None
        template.revert()
        template.configure(ready=0)
        volume.remove()
        template.remove()
    assert template.state is State.ABSENT


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
@pytest.mark.parametrize("obstacle", [immutable, a_directory_in_its_place])
def test_the_next_working_image(pool: Pool, obstacle: Obstacle, stale: bool) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    volume.configure(precache="always")
    cycle(volume, b"one")
    assert pool.backend.make_ahead(volume.id) == 1
    if stale:
        cycle_without_taking_it(volume)
    expected = seen(volume)
    with obstacle(Path(pool.path, "ci/root-precache.img")):
        volume.start()
        assert (volume.state, seen_by_vm(volume)) == (State.STARTED, expected)
        draw(volume, b"two")
        volume.stop()
        volume.configure(snapshots=False)
        volume.configure(snapshots=True)
        volume.revert()
        volume.start()
        assert volume.stop().event == "release"
        volume.remove()
    assert volume.state is State.ABSENT


def cycle_without_taking_it(volume: Volume) -> None:
    """Let another image become current while the one made ahead waits."""
    volume.import_from("/bin/sh")


# ---------------------------------------------------------------- what it costs to remove a stale one


def start(volume: Volume) -> None:
    volume.start()


def make_another(volume: Volume) -> None:
    assert volume.pool.backend.make_ahead(volume.id) == 1


@pytest.mark.parametrize("act", [start, make_another])
def test_the_blocks_of_a_stale_one_are_given_back_when_no_one_waits_for_the_vm(
    pool: Pool, act: Callable[[Volume], None]
) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    volume.configure(precache="always")
    cycle(volume, b"one")
    assert pool.backend.make_ahead(volume.id) == 1
    volume.import_from("/bin/sh")
    release = fork_safety.Lock.release
    at_the_release: list[bool] = []

    def watched(lock: fork_safety.Lock) -> None:
        release(lock)
        at_the_release.append(is_kept())

    with mock.patch.object(fork_safety.Lock, "release", watched):
        act(volume)
    assert at_the_release == [True]
    assert not is_kept()


def is_kept() -> bool:
    """Tell whether this process has a next working image that has no name any more."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return any(one.endswith("root-precache.img (deleted)") for one in links)
