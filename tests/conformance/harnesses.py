"""What the suite must be told of each backend, since it differs: how a pool is filled, and what can have a disk open.

A new backend is a new line in `HARNESSES`, and one in promises.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from lifecycle import Pool, Volume
from lifecycle.errors import Holder
from support import holding_open
from support.attached_disks import attached
from support.disks import MIB
from support.holding_open import by_loop_device
from support.image_trees import plant
from support.mounts import KINDS, FileSystem, read_only
from support.pools import create_pool

Hold = Callable[[Volume], AbstractContextManager[Holder]]
Write = Callable[[Volume], None]


class Harness(NamedTuple):
    """What differs between backends.

    Attributes:
        create: makes an empty pool in a new directory of a file system, with settings of `Pool.create`.
        fill: makes a pool with volumes of these contents; what it leaves behind is undone in the end.
        holds: ways in which someone has a started volume's disk open, each telling who that is then; the first by this
            process, the second by another.
        writes: ways in which a VM changes a started volume's disk.
        file_systems: the kinds of file systems that it is tried on.
    """

    create: Callable[..., Pool]
    fill: Callable[[FileSystem, Mapping[str, bytes], ExitStack], Pool]
    holds: tuple[Hold, ...]
    writes: tuple[Write, ...]
    file_systems: tuple[str, ...] = KINDS


# ---------------------------------------------------------------- reflink


def fill_by_clones(
    create: Callable[..., Pool],
) -> Callable[[FileSystem, Mapping[str, bytes], ExitStack], Pool]:
    """Return a function that makes a pool and clones the contents into it."""

    def fill(where: FileSystem, contents: Mapping[str, bytes], _undone: ExitStack) -> Pool:
        pool = create(where)
        outside = where.new_directory() / "content"
        for volume_id, content in contents.items():
            outside.write_bytes(content)
            pool.clone(outside, volume_id)
        return pool

    return fill


def by_this_process(volume: Volume) -> AbstractContextManager[Holder]:
    return holding_open.by_this_process(volume.path)


def by_another_process(volume: Volume) -> AbstractContextManager[Holder]:
    return holding_open.by_another_process(volume.path)


def by_a_loop_device(volume: Volume) -> AbstractContextManager[Holder]:
    return by_loop_device(volume.path)


FILES: tuple[Hold, ...] = (by_this_process, by_another_process, by_a_loop_device)


def buffered(volume: Volume) -> None:
    with open(volume.path, "r+b") as image:
        image.write(b"x")


def mapped(volume: Volume) -> None:
    import mmap

    with open(volume.path, "r+b") as image, mmap.mmap(image.fileno(), 0) as memory:
        memory[0] = 120


def direct(volume: Volume) -> None:
    to = f"of={volume.path}"
    how = ["bs=64k", "count=1", "conv=notrunc", "oflag=direct"]
    subprocess.run(["dd", "if=/dev/zero", to, *how], check=True, capture_output=True)


def through_a_loop_device(volume: Volume) -> None:
    with by_loop_device(volume.path) as device, open(device.name, "r+b") as disk_file:
        disk_file.write(b"x")
        disk_file.flush()
        os.fsync(disk_file.fileno())


def discarded(volume: Volume) -> None:
    hole = ["--punch-hole", "--offset", "0", "--length", "65536"]
    subprocess.run(["fallocate", *hole, volume.path], check=True)


# ---------------------------------------------------------------- directory


def create_directory(where: FileSystem, **settings: Any) -> Pool:
    return Pool.create(where.new_directory(), driver="directory", **settings)


def fill_directory(where: FileSystem, contents: Mapping[str, bytes], undone: ExitStack) -> Pool:
    """Make a tree of images, on a mount that cannot be written to."""
    tree = where.new_directory()
    plant(tree, {f"{volume_id}.img": content for volume_id, content in contents.items()})
    Pool.create(tree, driver="directory")
    undone.enter_context(read_only(tree))
    return Pool.open(tree)


# ---------------------------------------------------------------- sqlite


def create_sqlite(where: FileSystem, **settings: Any) -> Pool:
    return Pool.create(where.new_directory(), driver="sqlite", **settings)


@contextmanager
def as_a_client(volume: Volume) -> Iterator[Holder]:
    with attached(volume), open("/proc/self/comm", encoding="utf-8") as name:
        yield Holder(name.read().strip(), os.getpid())


@contextmanager
def as_another_client(volume: Volume) -> Iterator[Holder]:
    """Have a process open the disk; it ends when its input does."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            _CLIENT,
            *(value for _key, value in volume.attachment.options),
            volume.id,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        yield Holder(name, other.pid)
        other.communicate()


_CLIENT = """
import sys
from lifecycle_sqlite import client
with client.attached(client.attachment(*sys.argv[1:]), forced=True):
    print(open("/proc/self/comm").read().strip(), flush=True)
    sys.stdin.read()
"""


def written(volume: Volume) -> None:
    with attached(volume) as opened:
        opened.write(0, b"x")


def zeroed(volume: Volume) -> None:
    with attached(volume) as opened:
        opened.write(0, bytes(65536))


def resized(volume: Volume) -> None:
    with attached(volume) as opened:
        opened.resize(2 * MIB)


HARNESSES = {
    "reflink": Harness(
        create_pool,
        fill_by_clones(create_pool),
        FILES,
        (written, buffered, mapped, direct, through_a_loop_device, discarded, resized),
    ),
    "directory": Harness(create_directory, fill_directory, FILES, ()),
    "sqlite": Harness(
        create_sqlite,
        fill_by_clones(create_sqlite),
        (as_a_client, as_another_client),
        (written, zeroed, resized),
        ("xfs",),
    ),
}
