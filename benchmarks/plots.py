"""The plots: time against extents, revisions and volumes, both logarithmic, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import pools
from benchmarks.bars import Found
from benchmarks.disk import EXTENTS, REVISIONS
from benchmarks.floor import Floor
from benchmarks.ours import Library, LibraryCloning
from benchmarks.rivals import InternalSnapshots, Overlay, Script, Subvolumes
from benchmarks.runner import SECONDS, Result
from benchmarks.ways import CYCLE, START, STOP

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_COLOURS = {
    Floor.name: "#888888",
    Library.name: "#0b5fa5",
    LibraryCloning.name: "#6baed6",
    Script.name: "#d95f02",
    Overlay.name: "#7a5195",
    InternalSnapshots.name: "#c51b8a",
    Subvolumes.name: "#1b9e77",
}
"""Of the ways that are drawn."""
_LEAST_STEP = 2
"""Points that make a line."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A file with one picture for each file system and operation.

    Attributes:
        file: its name.
        axis: what lies along it.
        whats: the operations, a row of pictures each; none for all of them in one picture.
    """

    file: str
    axis: str
    whats: tuple[str, ...]


PLOTS = (
    Plot("performance-extents.svg", EXTENTS, (START, STOP, CYCLE)),
    Plot("performance-revisions.svg", REVISIONS, (START, STOP)),
    Plot("performance-volumes.svg", pools.VOLUMES, ()),
)


def draw(results: Iterable[Result], into: Path) -> list[Path]:
    """Draw what there are results for, and return the files written: the same for the same results."""
    from matplotlib import use  # noqa: PLC0415 - slow to load, and of the group `bench`

    use("svg")
    found = Found(results)
    return [_draw(plot, found, into / plot.file) for plot in PLOTS if found.places(plot.axis)]


def _draw(plot: Plot, found: Found, file: Path) -> Path:
    from matplotlib import pyplot, rc_context  # noqa: PLC0415 - as above

    places = found.places(plot.axis)
    rows = plot.whats or ("",)
    style: Any = {"svg.hashsalt": file.name, "svg.fonttype": "none", "font.size": 9}
    with rc_context(style):
        figure, pictures = pyplot.subplots(
            len(rows),
            len(places),
            figsize=(4 * len(places) + 2, 2.6 * len(rows) + 0.4),
            squeeze=False,
            sharex=True,
            sharey=True,
            layout="constrained",
        )
        for pictures_of_row, what in zip(pictures, rows, strict=True):
            for picture, place in zip(pictures_of_row, places, strict=True):
                _picture(picture, found, plot, what, place)
        for picture in pictures[-1]:
            picture.set_xlabel(f"{plot.axis}{' in the pool' if not plot.whats else ''}")
        for picture in pictures[:, 0]:
            picture.set_ylabel("milliseconds")
        lines = {name: line for one in pictures.flat for line, name in _legend(one)}
        figure.legend(lines.values(), lines.keys(), loc="outside right upper", frameon=False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)
    return file


def _legend(picture: Axes) -> list[tuple[Artist, str]]:
    lines, names = picture.get_legend_handles_labels()
    return list(zip(lines, names, strict=True))


def _picture(picture: Axes, found: Found, plot: Plot, what: str, place: str) -> None:
    """Draw one operation, a line for each way; or all operations, a line each."""
    wanted = {"place": place, "axis": plot.axis, "unit": SECONDS}
    if what:
        wanted["what"] = what
    lines: dict[str, list[Result]] = {}
    for one in found.all(**wanted):
        if not what or one.way in _COLOURS:
            lines.setdefault(one.way if what else one.what, []).append(one)
    for name, results in lines.items():
        if len(results) >= _LEAST_STEP:
            _line(picture, name, results)
    picture.set_xscale("log")
    picture.set_yscale("log")
    picture.minorticks_off()
    picture.set_title(f"{place}: {what}" if what else place)
    picture.grid(visible=True, which="major", color="#dddddd")


def _line(picture: Axes, name: str, results: Sequence[Result]) -> None:
    """Draw the medians, with the quartiles as a band."""
    xs = [one.x for one in results]
    (line,) = picture.plot(
        xs,
        [1000 * one.median for one in results],
        marker="o",
        markersize=3,
        label=name,
        color=_COLOURS.get(name),
    )
    low, high = zip(*(one.quartiles for one in results), strict=True)
    picture.fill_between(
        xs,
        [1000 * one for one in low],
        [1000 * one for one in high],
        alpha=0.2,
        color=line.get_color(),
    )
