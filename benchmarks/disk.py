"""One disk: start, stop, revert and the whole cycle, against its extents, its size and its revisions."""

from __future__ import annotations

from benchmarks import images
from benchmarks.floor import Floor, FloorCloning
from benchmarks.ours import Command, Library, LibraryCloning, LibraryPruning
from benchmarks.places import KINDS, Place, Places
from benchmarks.rivals import InternalSnapshots, Overlay, Script, Subvolumes
from benchmarks.runner import BYTES, COUNT, Collected, Result
from benchmarks.scale import Scale
from benchmarks.ways import WRITTEN, Way

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
        image = images.make(directory / "image", size, extents)
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
