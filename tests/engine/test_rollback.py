"""What is made, and taken back when the next step fails: nothing of anyone else's goes with it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import Pool, events, times
from lifecycle.adopt import plan as planning
from lifecycle.adopt import tree as tree_
from lifecycle.engine import batch, content, recovery, registry
from lifecycle.errors import LifecycleError, NotAPool, StorageFailed, Unsupported, Vetoed
from lifecycle.linux import embedded_xfs
from lifecycle.linux.directories import Directory
from lifecycle.linux.fork_safety import Lock
from support.command_line import Call, call_apart
from support.disks import MIB, SIZE, cycle, disk, draw, seen
from support.failing_backend import backend_fails, no_space
from support.mounts import FileSystem, run


@pytest.fixture
def impatient(xfs_pool: Pool) -> Pool:
    """A pool in which no process waits for another."""
    settings = Path(xfs_pool.path, "pool.toml")
    settings.write_text(settings.read_text() + "lock_timeout = 0\n")
    return Pool.open(xfs_pool.path)


class Outsider:
    """Another process that tries to use a volume before each call of a function, and finds it locked."""

    def __init__(self, volume_id: str, owner: Any, name: str) -> None:
        self.tried: list[str] = []
        real = getattr(owner, name)

        def call(*words: Any, **named: Any) -> Any:
            self.tried += [call_apart(one, volume_id).err for one in ("start", "stop")]
            return real(*words, **named)

        self._patch = mock.patch.object(owner, name, call)

    def __enter__(self) -> Outsider:
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
        assert self.tried
        assert all("is locked by" in said for said in self.tried)


# ---------------------------------------------------------------- clone


@pytest.mark.parametrize("fails", ["import", "veto", "nothing"])
def test_no_one_can_use_a_clone_before_it_is_filled(impatient: Pool, fails: str) -> None:
    origin = impatient.create_volume("ci/root", SIZE)
    cycle(origin, b"origin")

    def veto(_pool: Pool, **_: object) -> None:
        raise LifecycleError("no")

    if fails == "veto":
        events.importing.connect(veto, sender=impatient)
    with Outsider("new/root", content, "import_into"):
        if fails == "nothing":
            impatient.clone(origin, "new/root")
        elif fails == "veto":
            with pytest.raises(Vetoed):
                impatient.clone(origin, "new/root")
        else:
            with backend_fails(impatient, "import"), pytest.raises(StorageFailed):
                impatient.clone(origin, "new/root")
    assert ("new/root" in impatient) is (fails == "nothing")
    assert os.path.exists(f"{impatient.path}/new") is (fails == "nothing")


def test_why_a_clone_failed_is_said_though_it_cannot_be_removed_again(
    impatient: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    origin = impatient.create_volume("ci/root", SIZE)
    cycle(origin, b"origin")

    def veto(_pool: Pool, **_: object) -> None:
        raise LifecycleError("volumes stay")

    events.removing.connect(veto, sender=impatient)
    with (
        backend_fails(impatient, "import", error=no_space),
        pytest.raises(StorageFailed, match="import failed: No space left"),
    ):
        impatient.clone(origin, "new/root")
    assert "new/root: it stays, empty: it could not be removed again" in caplog.text
    assert impatient["new/root"].state == "created"


# ---------------------------------------------------------------- recover


def test_no_one_can_use_a_left_over_volume_while_its_crash_policy_is_applied(
    impatient: Pool,
) -> None:
    volume = impatient.create_volume("ci/root", SIZE, on_crash="revert")
    volume.start()
    draw(volume, b"left over")
    with Outsider("ci/root", recovery, "carry_out"):
        impatient.recover()
    assert volume.state == "reverted"


# ---------------------------------------------------------------- start


def test_a_start_that_cannot_be_noted_is_taken_back_under_the_lock(
    impatient: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = impatient.create_volume("ci/root", SIZE)
    monkeypatch.setattr(batch, "started_by", lambda _volume: None)  # the tag did not stay
    with (
        Outsider("ci/root", batch, "_take_back"),
        pytest.raises(Unsupported, match="no extended attributes"),
    ):
        batch.start([volume], by="a domain")
    assert volume.state == "created"


# ---------------------------------------------------------------- adopt


@pytest.fixture
def tree(xfs: FileSystem) -> Path:
    """A tree with a volatile volume without an image, and one that has an image but no record."""
    tree = xfs.new_directory()
    (tree / "vm").mkdir()
    (tree / "vm/private.img").write_bytes(disk(b"private"))
    return tree


TakenBack = Callable[[Path], None]


def nothing(_file: Path) -> None:
    """The file stays as it was added."""


def write(file: Path) -> None:
    file.write_bytes(disk(b"someone's"))


def replace(file: Path) -> None:
    file.with_name("new").write_bytes(disk(b"someone's"))
    file.with_name("new").rename(file)


@pytest.mark.parametrize("other", [nothing, write, replace])
def test_adopt_takes_back_only_what_is_as_it_was_added(tree: Path, other: TakenBack) -> None:
    """Whatever driver the tree is of goes on using it."""
    plan = planning.plan(tree_.find(str(tree)), times.now(), None)
    empty = replaced(plan.volumes[0], id="vm/volatile", record=None, empty=SIZE)
    plan = replaced(plan, volumes=(empty,))
    file = tree / "vm/volatile.img"

    def fail(*_words: object, **_named: object) -> None:
        other(file)
        raise NotAPool(str(tree), "cannot be made a pool: no")

    with mock.patch.object(Pool, "create", fail), pytest.raises(NotAPool):
        tree_.carry_out(plan)
    left = {"private.img"} if other is nothing else {"private.img", "volatile.img"}
    assert set(os.listdir(tree / "vm")) == left
    if other is not nothing:
        assert file.read_bytes() == disk(b"someone's")


def test_adopt_leaves_what_someone_has_open(tree: Path) -> None:
    plan = planning.plan(tree_.find(str(tree)), times.now(), None)
    empty = replaced(plan.volumes[0], id="vm/volatile", record=None, empty=SIZE)
    plan = replaced(plan, volumes=(empty,))
    file = tree / "vm/volatile.img"
    opened: list[int] = []

    def fail(*_words: object, **_named: object) -> None:
        opened.append(os.open(file, os.O_RDWR))
        raise NotAPool(str(tree), "cannot be made a pool: no")

    with mock.patch.object(Pool, "create", fail), pytest.raises(NotAPool):
        tree_.carry_out(plan)
    assert os.path.samestat(os.fstat(opened[0]), file.stat())
    os.close(opened[0])


# ---------------------------------------------------------------- init


def test_of_two_that_make_a_pool_at_once_the_first_one_s_settings_stay(xfs: FileSystem) -> None:
    place = xfs.new_directory() / "pool"
    real = registry.backend_of

    def another_comes_first(path: str, config: Any) -> Any:
        if config.keep == "last 1":
            Pool.create(place, keep="all")
        return real(path, config)

    place.mkdir()
    with (
        mock.patch.object(registry, "backend_of", another_comes_first),
        pytest.raises(NotAPool, match="was made a pool meanwhile"),
    ):
        Pool.create(place, keep="last 1")
    assert Pool.open(place).config.keep == "all"


def test_init_removes_no_directory_that_it_did_not_make(xfs: FileSystem) -> None:
    """Someone makes it in the moment before, to put something there."""
    place = xfs.new_directory() / "pool"
    real = os.makedirs

    def makedirs(*words: Any, **named: Any) -> None:
        real(*words, **named)
        place.mkdir(exist_ok=True)

    failure = mock.Mock(side_effect=OSError(errno.EIO, "no"))
    with (
        mock.patch.object(os, "makedirs", makedirs),
        mock.patch.object(registry, "set_up", failure),
        pytest.raises(OSError, match="no"),
    ):
        Pool.create(place)
    assert place.is_dir()


@pytest.fixture
def plain(mounted: Callable[[str], FileSystem]) -> Iterator[Path]:
    """An empty directory without reflinks; what is mounted there goes at the end."""
    place = mounted("plain").new_directory()
    yield place
    while os.path.ismount(place):
        run("umount", str(place))
    for file in place.iterdir():
        file.unlink()


def _is_free(directory: int) -> bool:
    with Lock(directory) as lock:
        return lock.take(0)


@pytest.mark.parametrize("fails", [False, True])
def test_no_one_mounts_an_embedded_pool_that_is_half_made(
    plain: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    locked: list[bool] = []
    real = embedded_xfs._run

    def run_and_look(*command: str) -> None:
        with Directory.open(str(plain)) as directory:
            locked.append(not _is_free(directory.fd))
        if fails:
            raise Unsupported("mkfs.xfs failed: no")
        real(*command)

    monkeypatch.setattr(embedded_xfs, "_run", run_and_look)
    if fails:
        with pytest.raises(Unsupported):
            Pool.create(plain, loop=300 * MIB)
        assert os.listdir(plain) == []
    else:
        Pool.create(plain, loop=300 * MIB)
    assert locked
    assert all(locked)


def test_an_embedded_file_system_is_not_taken_back_once_others_can_use_it(
    plain: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Directory.draft

    def draft(directory: Directory, name: str) -> Any:
        if name == "pool.toml":
            raise no_space()
        return real(directory, name)

    with monkeypatch.context() as failing:
        failing.setattr(Directory, "draft", draft)
        complaint = call("init", str(plain), "--loop", "300M", status=1).complaint
    assert "No space left" in complaint
    assert "its XFS is made and mounted; repeat `lifecycle init` without --loop" in complaint
    call("init", str(plain))


# ---------------------------------------------------------------- attach


def test_a_loop_device_is_made_under_the_lock(
    impatient: Pool, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = impatient.create_volume("ci/root", SIZE)
    volume.start()
    with Outsider("ci/root", subprocess, "run"):
        device = call("attach", "ci/root", "--for", "loop", "--pool", impatient.path).out.strip()
    run("losetup", "--detach", device)
    assert seen(volume) == disk()
