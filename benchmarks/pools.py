"""Many volumes: a pool of them, of which one is used and all are listed; and a crowd that starts and stops together."""

from __future__ import annotations

import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measuring import MIB, Collected, Scale, timed
from benchmarks.ours import SCRIPT, new_pool, wait_until_ready
from benchmarks.places import BLOCK, DISK, KINDS, MEMORY, Image, Place, Places, make_image
from benchmarks.results import BYTES, SECONDS, Result
from benchmarks.ways import START, STOP
from lifecycle import Pool, Volume
from lifecycle.engine import batch

VOLUMES = "volumes"
OPEN, LIST, COLD_LIST, LIST_MEMORY, COMMAND = (
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
    collected.add(Result(place.name, VOLUMES, count, WAY, LIST_MEMORY, each, BYTES))


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


# ---------------------------------------------------------------- volumes that start and stop together

TOGETHER = "volumes together"
AT_ONCE, ONE_BY_ONE, ALONE = "at once", "one by one", "one by one, nothing else"
BOTH = "start and stop"

Act = Callable[[list[Volume]], float]
"""Starts or stops volumes and returns the seconds."""


def _start_at_once(volumes: list[Volume]) -> float:
    return timed(lambda: batch.start(volumes))


def _stop_at_once(volumes: list[Volume]) -> float:
    return timed(lambda: batch.stop(volumes))


def _start_each(volumes: list[Volume]) -> float:
    return sum(timed(volume.start) for volume in volumes)


def _stop_each(volumes: list[Volume]) -> float:
    return sum(timed(volume.stop) for volume in volumes)


def _stop_each_alone(volumes: list[Volume]) -> float:
    """Wait, without counting it, until the process is gone that makes the next image of one, before the next stop."""
    seconds = 0.0
    for volume in volumes:
        seconds += timed(volume.stop)
        wait_until_ready(volume)
    return seconds


CROWD_WAYS: dict[str, tuple[Act, Act]] = {
    AT_ONCE: (_start_at_once, _stop_at_once),
    ONE_BY_ONE: (_start_each, _stop_each),
    ALONE: (_start_each, _stop_each_alone),
}


class Crowd:
    """So many volumes, each in a VM of its own, with an image made ahead."""

    def __init__(self, where: Path, image: Image, count: int, way: str) -> None:
        self._image = image
        self._start, self._stop = CROWD_WAYS[way]
        pool = new_pool(where, precache="always")
        self._is_made_ahead = True
        self._volumes = [pool.clone(image.path, f"vm-{n}/root") for n in range(count)]

    def turn(self) -> dict[str, float]:
        """Start all, write to all, stop all; return the seconds."""
        start = self._start(self._volumes)
        for volume in self._volumes:
            with open(volume.path, "r+b") as file:
                file.write(os.urandom(BLOCK))
        stop = self._stop(self._volumes)
        self._is_made_ahead = self._is_made_ahead and all(map(wait_until_ready, self._volumes))
        for volume in self._volumes:
            volume.forget(*(one.number for one in volume.revisions))
        return {START: start, STOP: stop, BOTH: start + stop}


def measure_crowds(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure a crowd in memory, where a flush costs nothing, and on the machine's disk, where it costs most."""
    for medium in (MEMORY, DISK):
        for kind in KINDS:
            _measure_crowd(places.get(kind, medium), scale, collected)


def _measure_crowd(place: Place, scale: Scale, collected: Collected) -> None:
    with place.directory() as directory:
        image = make_image(directory / "image", scale.few * 2 * BLOCK + MIB, scale.few)
        turns = {}
        for way in CROWD_WAYS:
            where = directory / way
            where.mkdir()
            turns[way] = Crowd(where, image, scale.crowd, way).turn
        collected.measure(place, TOGETHER, scale.crowd, turns)
