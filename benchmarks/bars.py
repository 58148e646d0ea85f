"""The bars: what lifecycle is to reach, what was measured, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks import disk, pools
from benchmarks.disk import EXTENTS, REVISIONS, SIZE
from benchmarks.ours import CLONED, Library, LibraryCloning
from benchmarks.results import Found, Result, count, exponent, number, seconds, size
from benchmarks.ways import REVERT, START, STOP, Floor

FRAGMENTED = 16_000
"""Extents of an image that a VM has written to for a while."""
_MANY_VOLUMES, _FEW_VOLUMES = 100_000, 10
FROM_EXTENTS = 100
"""Fewer are no image of a VM's."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One of them.

    Attributes:
        text: what is to be so.
        limit: up to what, or from what on.
        measured: what was found.
        met: whether it is reached; None if it was not measured.
    """

    text: str
    limit: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return {None: "not measured", True: "met", False: "not met"}[self.met]


def bars(results: Iterable[Result]) -> Iterator[Bar]:
    """Yield all of them."""
    found = Found(results)
    for what in (START, STOP, REVERT):
        yield _near_the_floor(found, what)
    for axis, least in ((EXTENTS, FROM_EXTENTS), (SIZE, 0), (REVISIONS, 0)):
        for place in ("xfs", "btrfs"):
            yield _flat(found, place, axis, least)
    for way in (Library.name, LibraryCloning.name):
        yield _one_clone(found, way)
    for place in found.places(pools.TOGETHER) or ["xfs"]:
        yield _faster_at_once(found, place)
    for place in ("xfs", "btrfs"):
        yield _open_in_any_pool(found, place)
        yield _list_quickly(found, place)
    yield _list_lightly(found)
    yield _quick_process(found)


def _bar(
    text: str, limit: str, values: tuple[Result | None, ...], judge: Callable[..., tuple[str, bool]]
) -> Bar:
    """Judge by the medians, if all were measured."""
    if any(one is None for one in values):
        return Bar(text, limit, "", None)
    measured, met = judge(*(one.median for one in values if one is not None))
    return Bar(text, limit, measured, met)


def _near_the_floor(found: Found, what: str) -> Bar:
    wanted = {"place": "xfs", "axis": EXTENTS, "x": FRAGMENTED, "what": what}
    floor, ours = found.one(way=Floor.name, **wanted), found.one(way=Library.name, **wanted)

    def judge(floor: float, ours: float) -> tuple[str, bool]:
        limit = 1.5 * floor + 0.001
        return f"{seconds(ours)}, where that is {seconds(limit)}", ours <= limit

    text = f"{what} on xfs with {count(FRAGMENTED)} extents"
    return _bar(text, "1.5 × the floor + 1 ms", (floor, ours), judge)


def _flat(found: Found, place: str, axis: str, least: int) -> Bar:
    steepest = None
    for what in (START, STOP, REVERT):
        results = found.all(place=place, axis=axis, way=Library.name, what=what)
        grows = exponent(one for one in results if one.x >= least)
        if grows is not None:
            steepest = max(steepest or (-9.0, what), (grows.value, what))
    text = f"start, stop and revert on {place} against {axis}"
    if steepest is None:
        return Bar(text, "exponent < 0.1", "", None)
    return Bar(text, "exponent < 0.1", f"{steepest[0]:.2f} ({steepest[1]})", steepest[0] < 0.1)


def _one_clone(found: Found, way: str) -> Bar:
    results = found.all(axis=EXTENTS, way=way, what=CLONED)
    text = f"clones in a start, write and stop: {way}"
    if not results:
        return Bar(text, "1", "", None)
    counts = {value for one in results for value in one.values}
    return Bar(text, "1", ", ".join(number(one) for one in sorted(counts)), counts == {1})


def _faster_at_once(found: Found, place: str) -> Bar:
    results = found.all(place=place, axis=pools.TOGETHER, what=pools.BOTH)
    by_way = {one.way: one for one in results}
    x = results[0].x if results else 100
    return _bar(
        f"start and stop of {count(x)} volumes at once on {place}",
        "≥ 5 × as fast as one by one",
        (by_way.get(pools.AT_ONCE), by_way.get(pools.ONE_BY_ONE), by_way.get(pools.ALONE)),
        lambda at_once, each, alone: (
            f"{each / at_once:.1f} × ({alone / at_once:.1f} × where nothing else runs)",
            each / at_once >= 5,
        ),
    )


def _open_in_any_pool(found: Found, place: str) -> Bar:
    wanted = {"place": place, "axis": pools.VOLUMES, "what": pools.OPEN}
    few, many = found.one(x=_FEW_VOLUMES, **wanted), found.one(x=_MANY_VOLUMES, **wanted)
    return _bar(
        f"opening one volume of {count(_MANY_VOLUMES)} on {place}",
        f"1.2 × one of {_FEW_VOLUMES}",
        (few, many),
        lambda few, many: (f"{many / few:.2f} ×", many / few <= 1.2),
    )


def _list_quickly(found: Found, place: str) -> Bar:
    result = found.one(place=place, axis=pools.VOLUMES, x=_MANY_VOLUMES, what=pools.COLD_LIST)
    text = f"listing {count(_MANY_VOLUMES)} volumes, cold, on {place}"
    return _bar(text, "< 5 s", (result,), lambda took: (seconds(took), took < 5))


def _list_lightly(found: Found) -> Bar:
    result = found.one(axis=pools.VOLUMES, x=_MANY_VOLUMES, what=pools.LIST_MEMORY)
    text = f"memory of each of {count(_MANY_VOLUMES)} listed volumes"
    return _bar(text, "< 1 KB", (result,), lambda each: (size(each), each < 1000))


def _quick_process(found: Found) -> Bar:
    start = found.one(axis=disk.PROCESSES, what=disk.START_PROCESS)
    nothing = found.one(axis=disk.PROCESSES, way=disk.PASS)
    return _bar(
        "`lifecycle start` as a process",
        "5 × `python -c pass`",
        (start, nothing),
        lambda start, nothing: (
            f"{start / nothing:.1f} × ({seconds(start)} to {seconds(nothing)})",
            start <= 5 * nothing,
        ),
    )
