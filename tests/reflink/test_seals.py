"""Was anything written? The time of a working image says so, and no other tool must make it say something untrue."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import Pool, State, Volume
from lifecycle.ids import MAX_NUMBER
from lifecycle.reflink import seals
from lifecycle.reflink.seals import Origin
from support.disks import SIZE, cycle, disk, draw, seen
from support.required_programs import program

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


# ---------------------------------------------------------------- ways to put content into a working image


def by_cp(source: Path, image: Path) -> None:
    call("cp", "--preserve=timestamps", str(source), str(image))


def by_cp_with_attributes(source: Path, image: Path) -> None:
    call("cp", "--archive", "--reflink=never", str(source), str(image))


def by_cp_over_a_new_file(source: Path, image: Path) -> None:
    call("cp", "--archive", "--remove-destination", str(source), str(image))


def by_rsync(source: Path, image: Path) -> None:
    call(program("rsync", "rsync"), "-aX", "--ignore-times", str(source), str(image))


def by_rsync_in_place(source: Path, image: Path) -> None:
    call(program("rsync", "rsync"), "-t", "--ignore-times", "--inplace", str(source), str(image))


def by_tar(source: Path, image: Path) -> None:
    archive = source.with_name("archive.tar")
    name = f"--transform=s/.*/{image.name}/"
    call("tar", "-C", str(source.parent), "--format=posix", name, "-cf", str(archive), source.name)
    call("tar", "-C", str(image.parent), "--overwrite", "-xpf", str(archive))


def by_curl(source: Path, image: Path) -> None:
    call(program("curl", "curl"), "--silent", "-R", "-o", str(image), f"file://{source}")


def by_dd_and_touch(source: Path, image: Path) -> None:
    call("dd", f"if={source}", f"of={image}", "conv=notrunc")
    call("touch", f"--reference={source}", str(image))


def by_mv(source: Path, image: Path) -> None:
    shutil.copy2(source, source.with_name("moved"))
    os.rename(source.with_name("moved"), image)


WAYS = [
    by_cp,
    by_cp_with_attributes,
    by_cp_over_a_new_file,
    by_rsync,
    by_rsync_in_place,
    by_tar,
    by_curl,
    by_dd_and_touch,
    by_mv,
]


def of_time_0(pool: Pool) -> Path:
    return with_time(pool, 0)


def of_its_number_in_nanoseconds(pool: Pool) -> Path:
    return with_time(pool, 1)


def with_time(pool: Pool, time: int) -> Path:
    image = Path(pool.path, "elsewhere.img")
    image.write_bytes(disk(b"brought"))
    os.utime(image, ns=(time, time))
    return image


def unwritten_image_of_the_same_number(pool: Pool) -> Path:
    other = pool.create_volume("other/root", SIZE)
    cycle(other, b"brought")
    other.start()
    return Path(other.path)


def image_made_ahead_of_the_same_number(pool: Pool) -> Path:
    other = pool.create_volume("other/root", SIZE)
    cycle(other, b"brought")
    other.configure(precache="always")
    assert pool.backend.make_ahead(other.id) == 1
    return Path(pool.path, "other/root-precache.img")


@pytest.mark.parametrize("later", [timedelta(0), timedelta(minutes=1)], ids=["at once", "later"])
@pytest.mark.parametrize("put", WAYS)
@pytest.mark.parametrize(
    "source",
    [
        of_time_0,
        of_its_number_in_nanoseconds,
        unwritten_image_of_the_same_number,
        image_made_ahead_of_the_same_number,
    ],
)
def test_content_that_brings_its_time_along_was_written(
    pool: Pool,
    source: Callable[[Pool], Path],
    put: Callable[[Path, Path], None],
    later: timedelta,
) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    with freeze_time(datetime.now(UTC) + later):
        brought = source(pool)
    volume.start()
    put(brought, Path(volume.path))

    if (
        volume.state is State.DAMAGED
    ):  # its attributes came along, and say of which other image it was made
        volume.revert()
        assert disk(b"brought") in [seen(volume, one.number) for one in volume.revisions]
        return
    assert volume.state is State.DIRTY
    assert volume.stop().event == "commit"
    assert seen(volume) == disk(b"brought")


def test_an_image_of_the_same_inode_number_and_moment_but_of_another_volume_is_told(
    pool: Pool,
) -> None:
    """An inode is given again soon; a time that named the inode alone would fit."""
    one = seals.unwritten(131, SIZE, Origin(1, 1000, 64, 1001))
    assert one != seals.unwritten(131, SIZE, Origin(1, 1000, 65, 1001))


@pytest.mark.parametrize("kind", ["persistent", "disposable", "volatile", "no snapshots"])
def test_what_was_not_written_is_known(pool: Pool, kind: str) -> None:
    template = pool.create_volume("tpl/root", SIZE)
    cycle(template, b"first")
    volume = {
        "persistent": lambda: pool.clone(template, "ci/root"),
        "disposable": lambda: pool.create_volume("ci/root", source=template),
        "volatile": lambda: pool.create_volume("ci/root", SIZE, save_on_stop=False),
        "no snapshots": lambda: pool.create_volume("ci/root", SIZE, snapshots=False),
    }[kind]()
    for _again in range(2):
        volume.start()
        with open(volume.path, "rb") as image:
            image.read()
        assert (volume.state, volume.stop().event) == (State.STARTED, "release")


# ---------------------------------------------------------------- numbers and seconds


@given(st.integers(0, MAX_NUMBER), st.integers(0, 2**33))
def test_a_seal_says_its_number_and_its_second(number: int, second: int) -> None:
    time = seals.seal(number, second)
    assert divmod(time, seals.SECOND) == (second, number)


@given(st.sets(st.integers(10**9, 2**31), min_size=2, max_size=2))
def test_unwritten_images_of_different_images_never_agree_in_their_second(
    seconds: set[int],
) -> None:
    one, other = (seals.unwritten(1, SIZE, Origin(1, second)) for second in seconds)
    assert one // seals.SECOND != other // seals.SECOND


def files(volume: Volume) -> list[Path]:
    return [Path(volume.pool.path, f"{volume.id}{ending}") for ending in (".img", ".json")]


@freeze_time(AT)
def test_two_contents_of_a_name_never_agree_in_their_second(pool: Pool) -> None:
    """However quickly they follow on each other: rsync and others compare sizes and whole seconds."""
    volume = pool.create_volume("ci-42/root", SIZE)
    acts: list[Callable[[], object]] = [
        lambda: cycle(volume, b"one"),
        lambda: cycle(volume, b"two"),
        lambda: volume.label(2, "a"),
        lambda: volume.label(2, "b"),
        volume.revert,
        lambda: cycle(volume, b"three"),
        lambda: volume.revert(to=0),
        lambda: volume.resize(2 * SIZE),
        lambda: volume.revert(to=2),
    ]
    met: dict[tuple[str, int, int], bytes] = {}
    for act in acts:
        act()
        for file in files(volume):
            status = file.stat()
            key = file.name, status.st_size, status.st_mtime_ns // seals.SECOND
            assert met.setdefault(key, file.read_bytes()) == file.read_bytes(), key
        volume.start()
        status = os.stat(volume.path)
        key = "working", status.st_size, status.st_mtime_ns // seals.SECOND
        assert met.setdefault(key, seen(volume)) == seen(volume), key
        volume.stop()
    assert [one.at for one in volume.history] == [AT] * 4  # what people are shown stays as it was
    assert list(pool.verify()) == []


def test_the_seconds_go_on_when_the_clock_goes_back(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    found = []
    for moment in ("2030-01-01 00:00:09", "2030-01-01 00:00:05", "2030-01-01 00:00:01"):
        with freeze_time(moment):
            cycle(volume, moment.encode())
        found.append(files(volume)[0].stat().st_mtime_ns // seals.SECOND)
    assert found == sorted(set(found))
    assert list(pool.verify()) == []


@pytest.mark.parametrize("number", [100_000, 100_001, 5_000_000, MAX_NUMBER - 2])
def test_a_seal_is_believed_at_any_number(pool: Pool, number: int) -> None:
    """With the record lost, and no revision beside it."""
    volume = pool.create_volume("ci-42/root", SIZE, keep="last 0")
    count_from(volume, number)
    cycle(volume, b"late")
    assert (volume.current, volume.revisions) == (number, ())
    os.unlink(files(volume)[1])

    assert (volume.current, seen(volume)) == (number, disk(b"late"))
    cycle(volume, b"later")
    assert volume.current == number + 1


def test_a_commit_that_was_cut_off_is_known_at_any_number(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    count_from(volume, 5_000_000)
    before = files(volume)[1].read_bytes()
    cycle(volume, b"late")
    files(volume)[1].write_bytes(
        before
    )  # as after a cut between the image's rename and the record's

    assert volume.current == 5_000_000
    cycle(volume, b"later")
    assert volume.current == 5_000_001


def count_from(volume: Volume, number: int) -> None:
    record = files(volume)[1]
    record.write_text(record.read_text().replace('"next": 1', f'"next": {number}'))


def test_an_image_of_others_begins_at_1(pool: Pool) -> None:
    image = Path(pool.path, "vm/root.img")
    image.parent.mkdir()
    image.write_bytes(disk(b"foreign"))
    os.utime(image, ns=(0, 1_700_000_000_537_000_123))
    assert pool["vm/root"].current == 1


def test_a_file_system_without_room_for_attributes_is_no_obstacle(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    volume = pool.create_volume("ci-42/root", SIZE)
    monkeypatch.setattr(os, "setxattr", full)
    volume.start()
    draw(volume, b"first")
    assert volume.stop().event == "commit"
    volume.start()
    assert volume.stop().event == "release"
