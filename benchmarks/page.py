"""What is written into the docs: the tables and the machine, between the markers of performance.md; and the plots."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import pools
from benchmarks.disk import EXTENTS, REVISIONS
from benchmarks.ours import Library, LibraryCloning
from benchmarks.results import SECONDS, Found, Result
from benchmarks.rivals import InternalSnapshots, Overlay, Script, Subvolumes
from benchmarks.tables import Table
from benchmarks.ways import CYCLE, START, STOP, Floor
from support.mounts import run

PAGE = "performance.md"
_START, _END = "<!-- measured -->", "<!-- end -->"


def write(page: Path, machine: str, tables: Iterable[Table]) -> None:
    """Put the machine and the tables into the page.

    Raises:
        AssertionError: the page has no markers.
    """
    before, start, rest = page.read_text().partition(_START)
    _old, end, after = rest.partition(_END)
    if not (start and end):
        raise AssertionError(f"{page} has no markers {_START} and {_END}")
    made = "\n\n".join([machine, *(table.markdown() for table in tables)])
    page.write_text(f"{before}{start}\n{made}\n{end}{after}")


def machine(command: str, disk: str) -> str:
    """Return what it was measured on, when and by which command; `disk` is the directory that stands for a disk."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    rows = {
        "machine": f"{_processor()}, {os.cpu_count()} processors, {memory:.0f} GiB of memory",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "file systems": f"{_version('mkfs.xfs', '-V')}; {_version('mkfs.btrfs', '--version')}; defaults",
        "xfs, btrfs": "on loop devices, in files on a tmpfs",
        "… on disk": f"on loop devices, in files on {_below(disk)}",
        "rivals": f"{_version('qemu-img', '--version')}; {_version('cp', '--version')}",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"`{command}`",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows.items())])


def _below(directory: str) -> str:
    """Return what the directory lies on."""
    asked = ("--noheadings", "--output", "FSTYPE,SOURCE", "--target", directory)
    kind, source = run("findmnt", *asked).split(maxsplit=1)
    return f"the {kind} of {source.strip()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    return run(*command).splitlines()[0].strip()


# ---------------------------------------------------------------- the plots
#
# Time against extents, revisions and volumes, both logarithmic, as SVG.

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
