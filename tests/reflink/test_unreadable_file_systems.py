"""File systems that really refuse to let something be read: damaged ones, and another user's."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.errors import StorageFailed
from lifecycle.machine import known_pools
from support import required_programs
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem, run
from support.snapshots import snapshot

GOOD = ("aa/root", "zz/root")
_IMAGE_SIZE = 400 << 20


def furnish(pool: Pool) -> None:
    """Make the volumes, the good ones of which are left over; the directory of `bad` takes blocks of its own."""
    for volume_id in (*GOOD, "bad/root"):
        volume = pool.create_volume(volume_id, SIZE, keep="all", on_crash="commit")
        for mark in (b"1st", b"2nd"):
            cycle(volume, mark)
    for number in range(200):
        Path(
            pool.path, "bad", f"a file of someone else's with a long name, number {number}"
        ).touch()
    for volume_id in GOOD:
        pool[volume_id].start()
        draw(pool[volume_id], b"3rd")


def check_that_the_others_go_on(call: Call, pool: Pool) -> None:
    """Check with each command that goes through a pool."""
    known_pools.enter(pool.path, "here")
    listed = {one["id"]: one for one in call("list", "--json", status=None).document}
    assert {one: listed[one]["state"] for one in GOOD} == dict.fromkeys(GOOD, "dirty")
    (bad,) = [one for name, one in listed.items() if name not in GOOD]
    assert (bad["vm"], bad["state"]) == ("bad", "damaged")
    assert "cannot be" in bad["damage"]
    assert "bad" in call("list", status=None).out
    assert any(one["harmful"] for one in call("verify", "--json", status=1).document)
    recovered = {one["id"]: one for one in call("recover", "--json", status=1).document}
    assert {one: recovered[one]["state"] for one in GOOD} == dict.fromkeys(GOOD, "committed")
    assert any(one["failed"] for name, one in recovered.items() if name.startswith("bad"))
    assert "bad" in call("prune", status=1).out
    assert "here:bad" in call("recover", "--all-pools", status=1).out
    assert "here:zz/root: removed 0" in call("prune", "--all-pools", status=1).out
    call("pool")
    call("pools")
    call("start", "zz")
    call("stop", "zz")


@contextmanager
def mounted_again(
    xfs: FileSystem, kind: str, options: str, spoil: Callable[[Path, Pool], Callable[[Path], None]]
) -> Iterator[Pool]:
    """Make a file system with a pool in it, spoil it while it is not mounted, and mount it again."""
    below = xfs.new_directory()
    image, point = below / "image", below / "point"
    point.mkdir()
    image.touch()
    os.truncate(image, _IMAGE_SIZE)
    run(f"mkfs.{kind}", "-q", str(image))
    run("mount", "-o", f"loop,{options}", str(image), str(point))
    try:
        (point / "pool").mkdir()
        pool = Pool.create(point / "pool")
        furnish(pool)
        spoil_it = spoil(image, pool)
        os.sync()
    finally:
        run("umount", str(point))
    spoil_it(image)
    run("mount", "-o", f"loop,{options}", str(image), str(point))
    try:
        yield Pool.open(point / "pool")
    finally:
        run("umount", "--lazy", str(point))


def _xfs_db(*commands: str) -> Callable[[Path], None]:
    program = required_programs.program("xfs_db", "xfsprogs")

    def spoil(image: Path) -> None:
        words = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(
            [program, "-x", *words, str(image)], capture_output=True, text=True, check=True
        )
        assert "=" in done.stdout, done

    return spoil


def _directory_block(_image: Path, pool: Pool) -> Callable[[Path], None]:
    inode = Path(pool.path, "bad").stat().st_ino
    return _xfs_db(f"inode {inode}", "dblock 0", "write -c dhdr.hdr.owner 7")


def _inode_of(name: str) -> Callable[[Path, Pool], Callable[[Path], None]]:
    def find(_image: Path, pool: Pool) -> Callable[[Path], None]:
        inode = Path(pool.path, name).stat().st_ino
        return _xfs_db(f"inode {inode}", "write -c core.uid 7")

    return find


SPOILT = {
    "a block of a VM's directory": _directory_block,
    "the inode of a VM's directory": _inode_of("bad"),
    "the inode of a record": _inode_of("bad/root.json"),
    "the inode of a current image": _inode_of("bad/root.img"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_damaged_xfs_damages_one_vm_alone(
    xfs: FileSystem, call: Call, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted_again(xfs, "xfs", "rw", SPOILT[what]) as pool:
        monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
        check_that_the_others_go_on(call, pool)


def _record_content(image: Path, pool: Pool) -> Callable[[Path], None]:
    """Overwrite the record's content on the disk, which then is not what its checksum says: EIO."""
    record = Path(pool.path, "bad", "root.json")
    # one of so many bytes does not lie among the metadata, which would be lost with it
    pool["bad/root"].label(1, "x" * 200)
    content = record.read_bytes()
    os.sync()

    def spoil(image: Path) -> None:
        with image.open("r+b") as disk_:
            whole = disk_.read()
            for found in re.finditer(re.escape(content), whole):
                disk_.seek(found.start() + 20)
                disk_.write(b"!")

    return spoil


def test_a_record_that_rots_on_btrfs_damages_its_volume_and_a_way_leads_back(
    xfs: FileSystem, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted_again(xfs, "btrfs", "max_inline=0", _record_content) as pool:
        monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
        damage = call("show", "bad/root", "--json").document["damage"]
        assert damage == "root.json cannot be read: Input/output error"
        check_that_the_others_go_on(call, pool)
        call("revert", "bad/root")
        volume = pool["bad/root"]
        assert (volume.state, seen(volume)) == ("reverted", disk(b"2nd"))
        assert numbers(volume) == [1, 2] or numbers(volume) == [1]
        (aside,) = Path(pool.path, "bad").glob("root.json.damaged@*")
        with pytest.raises(OSError, match="Input/output error"):
            aside.read_bytes()
        cycle(volume, b"4th")


# ---------------------------------------------------------------- another user's


def _as_nobody(what: Callable[[], None]) -> None:
    """Do it as a user who is not root."""

    def child() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        what()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600, 0o400])
def test_a_directory_of_another_user_stops_no_other_vm(xfs: FileSystem, mode: int) -> None:
    directory = xfs.new_directory()
    os.chmod(xfs.path, 0o755)
    pool = Pool.create(directory)
    furnish(pool)
    for above in (*directory.parents, directory):
        if above.stat().st_mode & 0o001 == 0:
            os.chmod(above, above.stat().st_mode | 0o011)
    for path in [directory, *directory.rglob("*")]:
        os.lchown(path, 65534, 65534)
    os.chmod(directory / "bad", mode)
    before = snapshot(directory / "bad")

    def look() -> None:
        mine = Pool.open(directory)
        states = {one.id: one.view.state for one in mine.backend.survey()}
        assert {one: states[one] for one in GOOD} == dict.fromkeys(GOOD, "dirty"), states
        assert "damaged" in states.values()
        if not mode & 0o400:
            with pytest.raises(StorageFailed, match="bad: look failed"):
                list(mine)
        assert any(one.harmful for one in mine.verify())
        done = {one.id: one for one in mine.recover()}
        assert {one: done[one].state for one in GOOD} == dict.fromkeys(GOOD, "committed"), done
        assert any(one.error for name, one in done.items() if name.startswith("bad"))

    _as_nobody(look)
    assert snapshot(directory / "bad") == before
