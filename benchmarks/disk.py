"""One disk: start, stop, revert and the whole cycle, by all ways; and by the command, a process each time."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measuring import Collected, Scale, timed
from benchmarks.ours import SCRIPT, Command, Library, LibraryCloning, LibraryPruning
from benchmarks.places import KINDS, Place, Places, make_image
from benchmarks.results import BYTES, COUNT, Result
from benchmarks.rivals import InternalSnapshots, Overlay, Script, Subvolumes
from benchmarks.ways import WRITTEN, Floor, FloorCloning, Way

EXTENTS, SIZE, REVISIONS = "extents", "bytes", "revisions"

WAYS: dict[str, tuple[type[Way], ...]] = {
    EXTENTS: (
        Floor,
        Library,
        LibraryPruning,
        FloorCloning,
        LibraryCloning,
        Command,
        Script,
        Overlay,
        InternalSnapshots,
        Subvolumes,
    ),
    SIZE: (Floor, Library, LibraryCloning, Script),
    REVISIONS: (Floor, Library, LibraryPruning, Script),
}
"""What is measured against what; where the cost of a way does not hang on it, it is left out."""
_WORK_ROUNDS = 3
"""What a device is asked for hardly varies."""


def measure(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure all of it."""
    for kind in KINDS:
        place = places.get(kind)
        for extents in scale.extents:
            _measure(place, EXTENTS, extents, (scale.disk, extents, scale.kept), collected)
        for size in scale.sizes:
            _measure(place, SIZE, size, (size, scale.few, scale.kept), collected)
        for revisions in scale.revisions:
            _measure(place, REVISIONS, revisions, (scale.disk, scale.few, revisions), collected)


def _measure(
    place: Place, axis: str, x: int, disk: tuple[int, int, int], collected: Collected
) -> None:
    """Measure all ways on a disk of so many bytes, extents, revisions."""
    size, extents, kept = disk
    with place.directory() as directory:
        image = make_image(directory / "image", size, extents)
        ways: list[Way] = []
        for cls in WAYS[axis]:
            lacking = cls.lacking(place)
            if lacking:
                collected.tell(f"{place.name}: {cls.name} is left out: {lacking}")
                continue
            where = directory / str(len(ways))
            where.mkdir()
            ways.append(cls(where, image, kept))
        place.finish()
        collected.measure(place, axis, x, {way.name: way.cycle for way in ways})
        collected.measure(place, axis, x, {way.name: way.back for way in ways if way.can_revert})
        if axis == EXTENTS:
            _measure_work(place, x, ways, collected)


def _measure_work(place: Place, x: int, ways: list[Way], collected: Collected) -> None:
    """Measure what one cycle asks of the device, one way after the other."""
    results = []
    for way in ways:
        works = [way.work(place) for _round in range(min(_WORK_ROUNDS, collected.effort.most))]
        for what in works[0]:
            values = tuple(work[what] for work in works)
            unit = BYTES if what == WRITTEN else COUNT
            results.append(Result(place.name, EXTENTS, x, way.name, what, values, unit))
    collected.add(*results)


# ---------------------------------------------------------------- the command as a host calls it

PROCESSES = "processes"
PASS, IMPORT, VERSION = "python -c pass", "python -c 'import lifecycle'", "lifecycle --version"
START_PROCESS, STOP_PROCESS, REVERT_PROCESS = (
    "lifecycle start",
    "lifecycle stop",
    "lifecycle revert",
)
TOOK = "took"

_OTHERS = {
    PASS: (sys.executable, "-c", "pass"),
    IMPORT: (sys.executable, "-c", "import lifecycle"),
    VERSION: (SCRIPT, "--version"),
}


def _run(words: tuple[str, ...]) -> float:
    return timed(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))


def measure_processes(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure the command as a host calls it, beside a Python that does nothing: on an XFS, with few extents."""
    place = places.get("xfs")
    with place.directory() as directory:
        image = make_image(directory / "image", scale.disk, scale.few)
        disk = Command(directory, image, scale.kept)

        def cycle() -> dict[str, float]:
            start = timed(disk.start)
            disk.write()
            stop = timed(disk.stop)
            disk.settle()
            revert = timed(disk.revert)
            disk.trim()
            return {START_PROCESS: start, STOP_PROCESS: stop, REVERT_PROCESS: revert}

        turns = {name: (lambda words=words: {TOOK: _run(words)}) for name, words in _OTHERS.items()}
        collected.measure(place, PROCESSES, 1, {**turns, "lifecycle": cycle})
