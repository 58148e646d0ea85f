"""Many volumes that start and stop together: at once, or one by one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks import images
from benchmarks.images import BLOCK, Image
from benchmarks.ours import HAS_PRECACHE, new_pool, wait_until_ready
from benchmarks.places import DISK, KINDS, MEMORY, Place, Places
from benchmarks.runner import Collected, timed
from benchmarks.scale import MIB, Scale
from benchmarks.ways import START, STOP
from lifecycle import Volume
from lifecycle.engine import batch

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


WAYS: dict[str, tuple[Act, Act]] = {
    AT_ONCE: (_start_at_once, _stop_at_once),
    ONE_BY_ONE: (_start_each, _stop_each),
    ALONE: (_start_each, _stop_each_alone),
}


class Crowd:
    """So many volumes, each in a VM of its own, with an image made ahead."""

    def __init__(self, where: Path, image: Image, count: int, way: str) -> None:
        self._image = image
        self._start, self._stop = WAYS[way]
        pool = new_pool(where, precache="always")
        self._is_made_ahead = HAS_PRECACHE
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


def measure(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure in memory, where a flush costs nothing, and on the machine's disk, where it costs most."""
    for medium in (MEMORY, DISK):
        for kind in KINDS:
            _measure(places.get(kind, medium), scale, collected)


def _measure(place: Place, scale: Scale, collected: Collected) -> None:
    with place.directory() as directory:
        image = images.make(directory / "image", scale.few * 2 * BLOCK + MIB, scale.few)
        turns = {}
        for way in WAYS:
            where = directory / way
            where.mkdir()
            turns[way] = Crowd(where, image, scale.crowd, way).turn
        collected.measure(place, TOGETHER, scale.crowd, turns)
