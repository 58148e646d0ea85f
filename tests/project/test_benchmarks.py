"""The benchmarks run, every one of them, and what they make of their results is right. Not how long anything takes."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import disk, page, pools, results
from benchmarks.__main__ import TOPICS
from benchmarks.bars import Bar, bars
from benchmarks.disk import EXTENTS, REVISIONS, SIZE
from benchmarks.measuring import Effort, interleave
from benchmarks.ours import CLONED, Library, LibraryCloning
from benchmarks.places import BLOCK, make_image
from benchmarks.results import BYTES, COUNT, SECONDS, Found, Result, exponent, slope
from benchmarks.tables import Table, tables
from benchmarks.ways import CYCLE, NOT_READY, REVERT, START, STOP, Floor
from support.mounts import FileSystem, run

ROOT = Path(__file__).parents[2]
TITLES = {
    "processes": ["Processes"],
    "disk": [
        f"{place}{rest}"
        for place in ("xfs", "btrfs")
        for rest in (
            ", 100 extents: median (quartiles)",
            ", 100 extents: times as long as lifecycle",
            ": what one cycle asks of the device",
            ", against bytes",
            ", against revisions",
        )
    ],
    "crowds": ["3 volumes together"],
    "pools": ["xfs, against volumes in the pool", "btrfs, against volumes in the pool"],
}
"""Tables that each topic must fill."""
AXES = {
    "disk": (EXTENTS, SIZE, REVISIONS),
    "pools": (pools.VOLUMES,),
    "crowds": (),
    "processes": (),
}
"""What each topic measures against, as far as it is drawn."""
PROGRAMS = ("qemu-img", "qemu-io", "btrfs", "mkfs.xfs", "mkfs.btrfs")


def require(*programs: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [one for one in programs if shutil.which(one, path=path) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} are not installed", pytrace=False)
    if missing:
        pytest.skip(f"{missing} are not installed")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("topic", TOPICS)
def test_all_of_a_topic_runs(
    topic: str, mounted: Callable[[str], FileSystem], tmp_path: Path
) -> None:
    mounted("xfs")
    require(*PROGRAMS)
    require_matplotlib()
    shutil.copy(ROOT / "docs" / page.PAGE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", topic, "--quick", "--into", tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "left out: that takes btrfs" in done.stderr or topic != "disk"
    assert "not installed" not in done.stderr
    written = (tmp_path / page.PAGE).read_text()
    for title in ("Bars", *TITLES[topic]):
        assert f"### {title}\n" in written
        assert title in done.stdout
    drawn = {one.name for one in tmp_path.glob("*.svg")}
    assert drawn == {one.file for one in page.PLOTS if one.axis in AXES[topic]}
    # what it mounted is gone, and what it made
    assert not list(tmp_path.glob("lifecycle-benchmarks-*"))


def test_an_unknown_topic_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "disks"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no topic disks" in done.stderr


@pytest.mark.parametrize("extents", [1, 7, 500])
def test_an_image_has_as_many_extents_as_asked_for(file_system: FileSystem, extents: int) -> None:
    require("filefrag")
    image = make_image(file_system.new_directory() / "image", 2 * BLOCK * 500, extents)
    listed = re.findall(r"^ *[0-9]+: ", run("filefrag", "-v", str(image.path)), re.MULTILINE)
    assert len(listed) == extents
    assert image.path.stat().st_size == image.size
    written = {2 * BLOCK * number for number in range(extents)}
    assert {image.offset(number) for number in range(20)} <= written


def test_more_extents_than_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 extents do not fit in 57344 bytes"):
        make_image(tmp_path / "image", 7 * 2 * BLOCK, 8)


# ---------------------------------------------------------------- measuring


def test_all_take_turns_another_one_first_each_time() -> None:
    said = []

    def turn(name: str) -> Callable[[], dict[str, float]]:
        return lambda: said.append(name) or {"took": len(said)}

    turns = {name: turn(name) for name in "abc"}
    taken = interleave(turns, Effort(least=4, most=4, warm_up=1), lambda: said.append("."))
    assert "".join(said) == "a.b.c." + "a.b.c." + "b.c.a." + "c.a.b." + "a.b.c."
    assert taken["a", "took"] == [7, 17, 21, 25]


@pytest.mark.parametrize(
    ("effort", "rounds"),
    [(Effort(least=2, most=9, patience=-1), 2), (Effort(least=2, most=9, patience=1e9), 9)],
)
def test_patience_ends_between_the_least_and_the_most_rounds(effort: Effort, rounds: int) -> None:
    taken = interleave({"a": lambda: {"took": 1.0}}, effort, lambda: None)
    assert len(taken["a", "took"]) == rounds


def result(*values: float, x: int = 1, unit: str = SECONDS, **of: str) -> Result:
    named = {"place": "xfs", "axis": EXTENTS, "way": Library.name, "what": START} | of
    return Result(x=x, values=values, unit=unit, **named)


def test_the_middle_and_the_spread() -> None:
    assert result(5, 1, 4, 2, 3).median == 3
    assert result(5, 1, 4, 2, 3).quartiles == (2, 4)
    assert result(7).quartiles == (7, 7)


# ---------------------------------------------------------------- growth


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_slope_of_a_power_law_is_its_power(power: float) -> None:
    xs = [1, 10, 100, 50_000]
    assert slope(xs, [3 * x**power for x in xs]) == pytest.approx(power)


def test_the_spread_of_an_exponent_holds_it_and_is_the_same_each_time() -> None:
    noise = random.Random(1)
    results = [
        result(*(x**0.5 * noise.uniform(0.8, 1.2) for _n in range(9)), x=x) for x in (10, 100, 1000)
    ]
    found = exponent(results)
    assert found is not None
    assert found.low < found.value < found.high
    assert 0.4 < found.low < 0.5 < found.high < 0.6
    assert exponent(reversed(results)) == found


def test_one_point_has_no_exponent() -> None:
    assert exponent([result(1, x=5), result(2, x=5)]) is None


# ---------------------------------------------------------------- bars


def everything(floor: float, ours: float, grown: float = 1.0) -> Iterator[Result]:
    """Yield results as of a full run: lifecycle takes `ours`, and `grown` times that at the far end of each axis."""
    for place in ("xfs", "btrfs"):
        for what in (START, STOP, REVERT, CYCLE):
            for axis, xs in {
                EXTENTS: (100, 16_000, 50_000),
                SIZE: (2**26, 2**36),
                REVISIONS: (1, 1000),
            }.items():
                for x in xs:
                    slow = ours * (grown if x == xs[-1] else 1)
                    where = {"place": place, "axis": axis, "what": what, "x": x}
                    yield result(floor, way=Floor.name, **where)
                    yield result(slow, **where)
        for x in (10, 100_000):
            where = {"place": place, "axis": pools.VOLUMES, "x": x}
            yield result(ours * (grown if x > 10 else 1), what=pools.OPEN, **where)
            yield result(1000 * ours, what=pools.COLD_LIST, **where)
            if place == "xfs":
                yield result(1e5 * ours, what=pools.LIST_MEMORY, unit=BYTES, **where)
        for way, took in {
            pools.AT_ONCE: ours,
            pools.ONE_BY_ONE: 0.02,
            pools.ALONE: 0.01,
        }.items():
            axis = pools.TOGETHER
            yield result(took, place=place, axis=axis, way=way, what=pools.BOTH, x=100)
    for way in (Library.name, LibraryCloning.name):
        yield result(grown, way=way, what=CLONED, unit=COUNT)
    yield result(0.01, axis=disk.PROCESSES, way=disk.PASS, what=disk.TOOK)
    yield result(10 * ours, axis=disk.PROCESSES, what=disk.START_PROCESS)


def verdicts(results: Iterator[Result]) -> set[str]:
    return {bar.verdict for bar in bars(results)}


def test_bars_that_are_met() -> None:
    assert verdicts(everything(floor=0.001, ours=0.0024)) == {"met"}


def test_bars_that_are_not_met() -> None:
    assert verdicts(everything(floor=0.001, ours=0.02, grown=9)) == {"not met"}


@pytest.mark.parametrize(("ours", "verdict"), [(0.00249, "met"), (0.00251, "not met")])
def test_what_is_near_the_floor(ours: float, verdict: str) -> None:
    """Half as much again as 1 ms, and a millisecond: 2.5 ms."""
    found = {bar.text: bar.verdict for bar in bars(everything(floor=0.001, ours=ours))}
    for what in (START, STOP, REVERT):
        assert found[f"{what} on xfs with 16,000 extents"] == verdict


def test_bars_that_were_not_measured() -> None:
    assert verdicts(iter(())) == {"not measured"}
    assert [bar.measured for bar in bars(())] == [""] * len(list(bars(())))


def test_a_start_that_was_not_ready_is_not_taken_for_one_that_was() -> None:
    slow = [
        one if one.what != START or one.way == Floor.name else result(1, what=NOT_READY)
        for one in everything(floor=0.001, ours=0.0024)
        if one.axis == EXTENTS and one.place == "xfs"
    ]
    found = {bar.text: bar.verdict for bar in bars(slow)}
    assert found["start on xfs with 16,000 extents"] == "not measured"
    assert found["stop on xfs with 16,000 extents"] == "met"


def test_two_results_of_one_thing_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="2 results"):
        Found([result(1), result(2)]).one(what=START)


# ---------------------------------------------------------------- shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2 s"),
        (0.9994, "999 ms"),
        (0.00123456, "1.23 ms"),
        (0.0124, "12.4 ms"),
        (12e-6, "12 µs"),
        (4e-7, "0.4 µs"),
    ],
)
def test_seconds_are_shown_with_a_unit_that_fits(value: float, text: str) -> None:
    assert results.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (718, "718 B"), (1536, "1.5 KiB"), (2**36, "64 GiB")]
)
def test_bytes_are_shown_with_a_unit_that_fits(value: float, text: str) -> None:
    assert results.size(value) == text


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (None, "–"),
        (result(0.001), "1 ms"),
        (result(0.001, 0.002, 0.003), "2 ms (1.5–2.5 ms)"),
        (result(0.0001, 0.001, 0.0019), "1 ms (550 µs–1.45 ms)"),
        (result(1, 2, 3, unit=COUNT), "2 (1.5–2.5)"),
        (result(4096, unit=BYTES), "4 KiB"),
    ],
)
def test_a_result_is_shown_with_its_spread(one: Result | None, text: str) -> None:
    assert results.shown(one) == text


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    written = tmp_path / page.PAGE
    written.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n")
    page.write(written, "machine", [Table("Title", ("a", "b"), (("1", "2"),))])
    table = "### Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert written.read_text() == (
        f"before\n<!-- measured -->\nmachine\n\n{table}\n<!-- end -->\nafter\n"
    )


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    written = tmp_path / page.PAGE
    written.write_text("before\n")
    with pytest.raises(AssertionError, match="no markers"):
        page.write(written, "machine", [])
    assert written.read_text() == "before\n"


def test_the_growth_table_starts_at_an_image_as_vms_leave_them() -> None:
    results = [result(x, x=x) for x in (100, 1000)] + [result(1e9, x=1)]
    growth = next(one for one in tables(results, []) if one.title.startswith("Growth"))
    assert growth.rows == ((EXTENTS, "xfs", Library.name, START, "1.00", "1.00 to 1.00"),)


def test_a_bar_has_its_row() -> None:
    (table,) = tables([], [Bar("text", "limit", "found", met=False)])
    assert table.rows == (("text", "limit", "found", "not met"),)


@pytest.mark.filterwarnings("ignore")  # of the library that draws
def test_plots_of_the_same_results_are_the_same_to_the_byte(tmp_path: Path) -> None:
    require_matplotlib()
    results = [one for one in everything(floor=0.001, ours=0.0024) if one.axis == pools.VOLUMES]
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (file,) = page.draw(results, tmp_path / name)
        drawn.append(file.read_bytes())
    assert drawn[0] == drawn[1]
    texts = set(ElementTree.fromstring(drawn[0]).itertext())
    assert {"xfs", "btrfs", "milliseconds", "volumes in the pool", pools.OPEN} <= texts


def require_matplotlib() -> None:
    if os.environ.get("CI"):
        import matplotlib  # noqa: F401
    else:
        pytest.importorskip("matplotlib")
