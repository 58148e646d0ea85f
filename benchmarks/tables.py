"""The tables: made of results, shown on a terminal or written as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks import disk, pools
from benchmarks.bars import FRAGMENTED, FROM_EXTENTS, Bar
from benchmarks.disk import EXTENTS, REVISIONS, SIZE, WAYS
from benchmarks.ours import CLONED, Library
from benchmarks.results import SECONDS, Found, Result, count, exponent, position, shown
from benchmarks.ways import CYCLE, FLUSHES, NOT_READY, REVERT, START, STOP, WRITTEN, Floor

_OPERATIONS = (START, STOP, REVERT, CYCLE)


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        columns: their names.
        rows: as many texts each as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(results: Iterable[Result], bars: Iterable[Bar]) -> Iterator[Table]:
    """Yield all tables that there are results for."""
    found = Found(results)
    rows = tuple((bar.text, bar.limit, bar.measured, bar.verdict) for bar in bars)
    yield Table("Bars", ("what", "bar", "measured", ""), rows)
    for table in _all(found):
        if table.rows:
            yield table


def _all(found: Found) -> Iterator[Table]:
    for place in found.places(EXTENTS):
        yield _ways(found, place)
        yield _ratios(found, place)
        yield _work(found, place)
    for axis in (EXTENTS, SIZE, REVISIONS):
        for place in found.places(axis):
            yield _along(found, place, axis, (Floor.name, Library.name))
    yield _growth(found)
    yield _crowds(found)
    for place in found.places(pools.VOLUMES):
        yield _pools(found, place)
    yield _processes(found)


def _fragmented(found: Found, place: str) -> int:
    """Return the number of extents to compare the ways at: the usual one, or the most that were measured."""
    measured = {one.x for one in found.all(place=place, axis=EXTENTS)}
    return FRAGMENTED if FRAGMENTED in measured else max(measured)


def _names(found: Found, place: str) -> list[str]:
    measured = {one.way for one in found.all(place=place, axis=EXTENTS)}
    return [way.name for way in WAYS[EXTENTS] if way.name in measured]


def _ways(found: Found, place: str) -> Table:
    """Return how long each way takes."""
    x = _fragmented(found, place)
    rows = []
    for way in _names(found, place):
        by_what = {one.what: one for one in found.all(place=place, axis=EXTENTS, x=x, way=way)}
        start = shown(by_what.get(START))
        if NOT_READY in by_what:
            start = f"{shown(by_what[NOT_READY])}, not ready"
        rows.append((way, start, *(shown(by_what.get(what)) for what in (STOP, REVERT, CYCLE))))
    return Table(
        f"{place}, {count(x)} extents: median (quartiles)", ("", *_OPERATIONS), tuple(rows)
    )


def _ratios(found: Found, place: str) -> Table:
    """Return how much longer each way takes than lifecycle does."""
    x = _fragmented(found, place)
    ours = {one.what: one for one in found.all(place=place, axis=EXTENTS, x=x, way=Library.name)}
    rows = []
    for way in _names(found, place):
        theirs = {one.what: one for one in found.all(place=place, axis=EXTENTS, x=x, way=way)}
        rows.append((way, *(_ratio(theirs.get(what), ours.get(what)) for what in _OPERATIONS)))
    title = f"{place}, {count(x)} extents: times as long as lifecycle"
    return Table(title, ("", *_OPERATIONS), tuple(rows))


def _ratio(theirs: Result | None, ours: Result | None) -> str:
    if theirs is None or ours is None:
        return "–"
    return f"{theirs.median / ours.median:.2g}"


def _work(found: Found, place: str) -> Table:
    """Return what a cycle asks of the device, at the fewest and at many extents."""
    least = min((one.x for one in found.all(place=place, axis=EXTENTS)), default=0)
    rows = []
    for way in _names(found, place):
        row = [way]
        for x in (least, _fragmented(found, place)):
            wanted = {"place": place, "axis": EXTENTS, "x": x, "way": way}
            row += [shown(found.one(what=what, **wanted)) for what in (WRITTEN, FLUSHES)]
        row.append(shown(found.one(what=CLONED, **wanted)))
        rows.append(tuple(row))
    many = count(_fragmented(found, place))
    columns = (
        "",
        f"written, {least} extent",
        "flushes",
        f"written, {many} extents",
        "flushes",
        "clones",
    )
    return Table(f"{place}: what one cycle asks of the device", columns, tuple(rows))


def _along(found: Found, place: str, axis: str, ways: tuple[str, ...]) -> Table:
    """Return how the operations take longer along an axis."""
    xs = sorted({one.x for one in found.all(place=place, axis=axis)})
    rows = []
    for way in ways:
        for what in (*_OPERATIONS, NOT_READY):
            by_x = {one.x: one for one in found.all(place=place, axis=axis, way=way, what=what)}
            if by_x:
                rows.append((f"{way}: {what}", *(shown(by_x.get(x)) for x in xs)))
    title = f"{place}, against {axis}"
    return Table(title, ("", *(position(axis, x) for x in xs)), tuple(rows))


def _growth(found: Found) -> Table:
    """Return the exponent of each operation along each axis."""
    rows = []
    for axis in (EXTENTS, SIZE, REVISIONS, pools.VOLUMES):
        for place in found.places(axis):
            for way, what in _grown(found, place, axis):
                results = found.all(place=place, axis=axis, way=way, what=what)
                grows = exponent(one for one in results if axis != EXTENTS or one.x >= FROM_EXTENTS)
                if grows is not None:
                    spread = f"{grows.low:.2f} to {grows.high:.2f}"
                    rows.append((axis, place, way, what, f"{grows.value:.2f}", spread))
    columns = ("against", "", "", "", "exponent", "95 %")
    return Table("Growth: time ~ x to the power of this", columns, tuple(rows))


def _grown(found: Found, place: str, axis: str) -> list[tuple[str, str]]:
    """Return what may grow along the axis, and by whom: what takes time."""
    results = found.all(place=place, axis=axis, unit=SECONDS)
    names = [way.name for way in WAYS.get(axis, ())]
    found_ways = dict.fromkeys((one.way, one.what) for one in results)
    return sorted(found_ways, key=lambda one: names.index(one[0]) if names else 0)


def _crowds(found: Found) -> Table:
    """Return how long many volumes take together."""
    rows = []
    whats = (START, STOP, pools.BOTH)
    for place in found.places(pools.TOGETHER):
        for way in pools.CROWD_WAYS:
            wanted = {"place": place, "axis": pools.TOGETHER, "way": way}
            took = [found.one(what=what, **wanted) for what in whats]
            if any(took):
                rows.append((place, way, *(shown(one) for one in took)))
    x = max((one.x for one in found.all(axis=pools.TOGETHER)), default=0)
    return Table(f"{count(x)} volumes together", ("", "", *whats), tuple(rows))


def _pools(found: Found, place: str) -> Table:
    """Return how long it takes in a pool of many volumes."""
    results = found.all(place=place, axis=pools.VOLUMES)
    xs = sorted({one.x for one in results})
    rows = []
    for what in dict.fromkeys(one.what for one in results):
        by_x = {one.x: one for one in results if one.what == what}
        rows.append((what, *(shown(by_x.get(x)) for x in xs)))
    return Table(f"{place}, against volumes in the pool", ("", *map(count, xs)), tuple(rows))


def _processes(found: Found) -> Table:
    """Return how long processes take."""
    results = found.all(axis=disk.PROCESSES)
    nothing = found.one(axis=disk.PROCESSES, way=disk.PASS)
    rows = [
        (one.way if one.what == disk.TOOK else one.what, shown(one), _ratio(one, nothing))
        for one in results
    ]
    columns = ("", "took", "times `python -c pass`")
    return Table("Processes", columns, tuple(rows))
