"""A copy by a tool that drops times: `verify` doubts the images, and a person who knows better accepts them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, Refused
from support.command_line import Call
from support.disks import SIZE, cycle, disk, seen
from support.mounts import FileSystem


def gnu_tar(source: Path, target: Path) -> None:
    """Its default format keeps whole seconds."""
    command = f"tar -C {source} -cf - . | tar -C {target} -xpf -"
    subprocess.run(["sh", "-c", command], check=True)


def cp_without_times(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", f"{source}/.", str(target)], check=True)


def cp_with_links(source: Path, target: Path) -> None:
    command = ["cp", "-r", "--preserve=links", f"{source}/.", str(target)]
    subprocess.run(command, check=True)


def doubts(pool: Pool) -> list[str]:
    return [f"{one.path} {one.text}" for one in pool.verify() if one.harmful]


@pytest.mark.parametrize("copy", [gnu_tar, cp_without_times, cp_with_links])
def test_what_is_accepted_is_in_doubt_no_more(
    pool: Pool, file_system: FileSystem, copy: Callable[[Path, Path], None]
) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    target = file_system.new_directory()
    copy(Path(pool.path), target)
    there = Pool.open(target)["ci-42/root"]
    assert len(doubts(there.pool)) == 3 + (copy is not gnu_tar)  # 0 is a whole second by itself
    assert all("lifecycle accept ci-42/root" in one for one in doubts(there.pool))

    assert there.accept()[-3:] == (1, 2, 3)
    assert doubts(there.pool) == []
    assert there.accept() == ()
    cycle(there, b"four")
    there.revert(to=2)
    assert (seen(there), doubts(there.pool)) == (disk(b"two"), [])


def test_a_change_in_place_is_told_until_it_is_accepted(pool: Pool, call: Call) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"one")
    Path(pool.path, "ci-42/root.img").write_bytes(disk(b"changed"))
    assert "was changed in place since it became 1" in doubts(pool)[0]

    done = call("accept", "--pool", pool.path, "ci-42/root")
    assert done.out == "ci-42/root: accepted 1\n"
    assert doubts(pool) == []


def test_nothing_is_accepted_under_a_running_vm(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"one")
    volume.start()
    with pytest.raises(Refused, match="cannot accept: it is running; stop it first"):
        volume.accept()
