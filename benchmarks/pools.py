"""A pool with many volumes: opening one of them, starting and stopping it, listing them all."""

from __future__ import annotations

import json
import os
import subprocess
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

from benchmarks.images import BLOCK
from benchmarks.ours import SCRIPT, new_pool
from benchmarks.places import KINDS, Place, Places
from benchmarks.runner import BYTES, SECONDS, Collected, Result, timed
from benchmarks.scale import MIB, Scale
from benchmarks.ways import START, STOP
from lifecycle import Pool, Volume

VOLUMES = "volumes"
OPEN, LIST, COLD_LIST, MEMORY, COMMAND = (
    "open one",
    "list",
    "list, cold",
    "memory of a list",
    "`lifecycle list --json`",
)
WAY = "lifecycle"
_NAMES = ("private", "root")
"""The volumes of each VM."""
_WEIGHED = "xfs"
"""Memory does not depend on the file system, and weighing is slow."""
_COLD_ROUNDS = 3


def measure(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure all of it: the pools of one file system in turns."""
    for kind in KINDS:
        place = places.get(kind)
        with ExitStack() as made:
            pools = {}
            for count in scale.volumes:
                pools[count] = new_pool(made.enter_context(place.directory()))
                populate(pools[count], count)
                collected.tell(f"{place.name}: a pool of {count}")
            _use_one(place, pools, collected)
            for count, pool in pools.items():
                _list(place, count, pool, collected)
                if count <= scale.listed_by_command:
                    _list_by_command(place, count, pool, collected)
            if kind == _WEIGHED:
                _weigh(place, max(pools), pools[max(pools)], collected)


def populate(pool: Pool, count: int) -> None:
    """Put so many volumes in a pool, a few in each VM, all as the first one is left by `create_volume`.

    But without its syncs, which would take most of the time.
    """
    first = pool.create_volume(_id(0), 64 * MIB)
    with os.scandir(f"{pool.path}/{first.vm}") as found:
        parts = [_part(entry, first.name) for entry in found if entry.name.startswith(first.name)]
    for number in range(1, count):
        volume_id = _id(number)
        if volume_id.endswith(_NAMES[0]):
            os.mkdir(f"{pool.path}/{volume_id.rpartition('/')[0]}", 0o700)
        for ending, content, size, time in parts:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            fd = os.open(f"{pool.path}/{volume_id}{ending}", flags, 0o600)
            os.write(fd, content)
            os.ftruncate(fd, size)
            os.utime(fd, ns=(time, time))  # it says which image it is
            os.close(fd)


def _part(entry: os.DirEntry[str], name: str) -> tuple[str, bytes, int, int]:
    """Return what makes one file of a volume: its name's ending, its content, its size, its time."""
    status = entry.stat()
    content = Path(entry.path).read_bytes() if status.st_blocks else b""
    return entry.name.removeprefix(name), content, status.st_size, status.st_mtime_ns


def _id(number: int) -> str:
    return f"vm-{number // len(_NAMES)}/{_NAMES[number % len(_NAMES)]}"


def _use_one(place: Place, pools: dict[int, Pool], collected: Collected) -> None:
    """Open, start and stop the volume in the middle of each pool, in turns."""

    def turn(path: str, volume_id: str) -> dict[str, float]:
        took = {OPEN: timed(lambda: Pool.open(path)[volume_id])}
        volume = Pool.open(path)[volume_id]
        took[START] = timed(volume.start)
        with open(volume.path, "r+b") as file:
            file.write(os.urandom(BLOCK))
        took[STOP] = timed(volume.stop)
        volume.forget(*(one.number for one in volume.revisions))
        return took

    turns = {
        str(count): (lambda pool=pool, count=count: turn(pool.path, _id(count // 2)))
        for count, pool in pools.items()
    }
    one_place = Collected(collected.effort, collected.tell)
    one_place.measure(place, VOLUMES, max(pools), turns)
    for result in one_place.results:
        count = int(result.way)
        values, what = result.values, result.what
        collected.results.append(Result(place.name, VOLUMES, count, WAY, what, values))


def _list(place: Place, count: int, pool: Pool, collected: Collected) -> None:
    """List a pool when the kernel has it in memory, and when it has not."""
    warm, cold = [], []
    found: list[Volume] = []

    def look() -> None:
        found[:] = pool.volumes()

    for _round in range(min(_COLD_ROUNDS, collected.effort.most)):
        place.forget()
        cold.append(timed(look))
        warm.append(timed(look))
    if len(found) != count:
        raise AssertionError(f"{pool.path} has {len(found)} volumes, not {count}")
    collected.add(
        Result(place.name, VOLUMES, count, WAY, LIST, tuple(warm)),
        Result(place.name, VOLUMES, count, WAY, COLD_LIST, tuple(cold)),
    )


def _weigh(place: Place, count: int, pool: Pool, collected: Collected) -> None:
    """Measure the bytes that a listed volume takes as long as the list is kept."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        volumes = pool.volumes()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    each = (taken / len(volumes),)
    collected.add(Result(place.name, VOLUMES, count, WAY, MEMORY, each, BYTES))


def _list_by_command(place: Place, count: int, pool: Pool, collected: Collected) -> None:
    """List a pool by the command, cold, which tells of each volume all but its revisions."""
    words = [SCRIPT, "list", "--json", "--pool", pool.path]
    place.forget()
    printed = b""

    def run() -> None:
        nonlocal printed
        printed = subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout

    seconds = timed(run)
    found = len(json.loads(printed))
    if found != count:
        raise AssertionError(f"{pool.path}: the command listed {found} volumes, not {count}")
    collected.add(Result(place.name, VOLUMES, count, WAY, COMMAND, (seconds,), SECONDS))
