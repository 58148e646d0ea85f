"""Looking writes nothing: it does not wait for a file system that is frozen, nor mind one that is read-only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.linux import reflinks
from lifecycle.linux.directories import Directory
from lifecycle.machine import known_pools
from support import foreign_trees
from support.command_line import SCRIPT
from support.disks import MIB, SIZE, cycle, draw
from support.mounts import FileSystem, run

COMMANDS = [
    "list",
    "list --json",
    "list ci",
    "list ci/dirty",
    "show ci/dirty",
    "show ci/rests --json",
    "show ci/damaged",
    "show job/root",
    "log ci/rests",
    "log ci/dirty --json",
    "pool",
    "pool --json",
    "pools",
    "pools --json",
    "verify",
    "verify ci",
    "prune --dry-run",
    "prune --dry-run ci/rests",
    "prune --dry-run --all-pools",
    "attach ci/dirty --for qemu",
    "attach ci/rests --for libvirt",
    "attach job/root --for firecracker --json",
    "diagram ci/dirty",
    "export ci/rests -",
    "export ci/rests - --revision 1",
    "host status",
    "completion bash",
    "adopt ../tree",
    "adopt ../tree --json --remove-cow",
]
"""Every command that only shows something."""
FINDS_DAMAGE = {"verify", "verify ci", "prune --dry-run", "prune --dry-run --all-pools"}

_PATIENCE = 120
"""Seconds. Only for what hangs, which would else never end."""


@pytest.fixture(scope="module")
def own_xfs(
    mounted: Callable[[str], FileSystem], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An XFS that nothing else lies on, so that it can be frozen."""
    mounted("xfs")  # in a mount namespace of our own from now on
    image, place = mounted("plain").path / "frozen.image", tmp_path_factory.mktemp("frozen")
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    run("mkfs.xfs", "-q", str(image))
    run("mount", "-o", "loop", str(image), str(place))
    yield place
    run("umount", str(place))
    image.unlink()


@pytest.fixture(scope="module")
def looked_at(own_xfs: Path) -> Path:
    """A pool with volumes in all states, and a tree of another driver's beside it; their directory."""
    pool = Pool.create(own_xfs / "pool")
    for name in ("rests", "dirty", "damaged", "started"):
        volume = pool.create_volume(f"ci/{name}", SIZE, keep="all")
        for mark in (b"one", b"two", b"three"):
            cycle(volume, mark)
    pool["ci/rests"].configure(ready=1, keep="last 1")
    pool.create_volume("job/root", source="ci/rests").start()
    pool["ci/started"].start()
    pool["ci/dirty"].start()
    draw(pool["ci/dirty"], b"left over")
    os.unlink(own_xfs / "pool/ci/damaged.img")
    (own_xfs / "pool/ci/root.img~0011").write_bytes(b"left by a crash")
    (own_xfs / "pool/ci/notes").write_bytes(b"of someone else")
    assert pool.backend.make_ahead("ci/rests") > 0
    foreign_trees.lay(own_xfs / "tree", {"vm/root.img": b"root", "vm/root-cow.img": b""})
    os.sync()
    return own_xfs


@pytest.fixture
def environment(looked_at: Path, settings: Path) -> dict[str, str]:
    """What the commands are called with; the pool is one that the machine knows."""
    known_pools.enter(looked_at / "pool")
    return {**os.environ, "LIFECYCLE_POOL": f"{looked_at}/pool"}


def call(words: str, where: Path, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Call the command line from within the tree; it hangs if it does not end for a long time."""
    process = subprocess.Popen(
        [SCRIPT, *words.split()],
        cwd=where / "pool",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        run("fsfreeze", "--unfreeze", str(where))  # or it could not even be killed
        process.kill()
        process.communicate()
        pytest.fail(f"`lifecycle {words}` waits for the file system to be written to")
    # freezing and mounting anew let the file system give back room, by itself
    return process.returncode, b" ".join(_USED.sub(b"", out).split()), err


_USED = re.compile(rb'[0-9.]+ [KM]iB|(?<="usage": )[0-9]+')


def snapshot(where: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is, with all that a write would change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([where, *where.rglob("*")]):
        one = path.lstat()
        times = one.st_mtime_ns, one.st_ctime_ns
        found[str(path)] = (one.st_ino, one.st_mode, one.st_nlink, one.st_size, *times)
    return found


@pytest.mark.parametrize("words", COMMANDS)
def test_a_look_writes_nothing(looked_at: Path, environment: dict[str, str], words: str) -> None:
    """The same is said where it can be written, where it cannot, and where whoever writes has to wait."""
    before = snapshot(looked_at)
    usual = call(words, looked_at, environment)
    assert usual[0] == (1 if words in FINDS_DAMAGE else 0), usual
    assert snapshot(looked_at) == before

    run("fsfreeze", "--freeze", str(looked_at))
    try:
        frozen = call(words, looked_at, environment)
    finally:
        thaw(looked_at)
    assert frozen == usual
    assert snapshot(looked_at) == before

    run("mount", "-o", "remount,ro", str(looked_at))
    try:
        read_only = call(words, looked_at, environment)
    finally:
        run("mount", "-o", "remount,rw", str(looked_at))
    if words.startswith("adopt"):  # which tells in time that it could not be done
        assert b"cannot be made a pool: Read-only file system" in read_only[2]
    else:
        assert read_only == usual
    assert snapshot(looked_at) == before


def thaw(where: Path) -> None:
    program = shutil.which("fsfreeze", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run([str(program), "--unfreeze", str(where)], check=False, capture_output=True)


# ---------------------------------------------------------------- what the file system can do


def test_what_a_file_system_can_do_is_known_without_trying(file_system: FileSystem) -> None:
    with Directory.open(str(file_system.path)) as directory:
        assert reflinks.shares_blocks(directory) is file_system.has_reflinks
        assert reflinks.has_reflinks(directory) is file_system.has_reflinks


def test_an_xfs_may_have_been_made_without_reflinks(
    mounted: Callable[[str], FileSystem], tmp_path: Path
) -> None:
    mounted("xfs")
    image = mounted("plain").path / "old.image"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    run("mkfs.xfs", "-q", "-m", "reflink=0", str(image))
    run("mount", "-o", "loop", str(image), str(tmp_path))
    try:
        with Directory.open(str(tmp_path)) as directory:
            assert reflinks.shares_blocks(directory) is False
            assert reflinks.has_reflinks(directory) is False
    finally:
        run("umount", str(tmp_path))
        image.unlink()


def test_of_others_it_is_not_known() -> None:
    with Directory.open("/proc") as directory:
        assert reflinks.shares_blocks(directory) is None
