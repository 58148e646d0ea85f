"""Pools copied by tools of others, twice, with changes between: the copy holds what the pool holds, or says where not.

The copy must never run a VM on content older than what the original had acknowledged, and say nothing of it.
"""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from lifecycle import Pool, State, Volume
from support.disks import SIZE, cycle, draw, seen, seen_by_vm
from support.mounts import FileSystem
from support.pools import create_pool
from support.required_programs import program

Copy = Callable[[Path, Path], None]


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def rsync_as_documented(source: Path, target: Path) -> None:
    call(program("rsync", "rsync"), "-aHSX", "--delete", f"{source}/", str(target))


def rsync_that_deletes_nothing(source: Path, target: Path) -> None:
    call(program("rsync", "rsync"), "-aHSX", f"{source}/", str(target))


def rsync_in_place(source: Path, target: Path) -> None:
    call(program("rsync", "rsync"), "-aHX", "--inplace", f"{source}/", str(target))


def rsync_without_attributes(source: Path, target: Path) -> None:
    call(program("rsync", "rsync"), "-aHS", f"{source}/", str(target))


def cp_archive(source: Path, target: Path) -> None:
    call("cp", "-a", "--reflink=auto", f"{source}/.", str(target))


def cp_archive_update(source: Path, target: Path) -> None:
    call("cp", "-a", "--update", f"{source}/.", str(target))


def cp_recursive(source: Path, target: Path) -> None:
    call("cp", "-r", f"{source}/.", str(target))


def tar_as_it_is(source: Path, target: Path) -> None:
    _tar(source, target)


def tar_with_attributes(source: Path, target: Path) -> None:
    _tar(source, target, "--format=posix", "--xattrs")


def _tar(source: Path, target: Path, *how: str) -> None:
    archive = target.with_suffix(".tar")
    call("tar", "-C", str(source), *how, "-cSf", str(archive), ".")
    call("tar", "-C", str(target), *how[1:], "-xSpf", str(archive))
    archive.unlink()


COPIES = [
    rsync_as_documented,
    rsync_that_deletes_nothing,
    rsync_in_place,
    rsync_without_attributes,
    cp_archive,
    cp_archive_update,
    cp_recursive,
    tar_as_it_is,
    tar_with_attributes,
]


# ---------------------------------------------------------------- what happens between the two copies


def a_run_without_writing(volume: Volume, copy: Callable[[], None]) -> None:
    """The VM runs at both copies, on another image each."""
    volume.start()
    copy()
    draw(volume, b"second")
    volume.stop()
    volume.start()


def two_commits_in_a_second(volume: Volume, copy: Callable[[], None]) -> None:
    with freeze_time(datetime.now(UTC)):
        cycle(volume, b"second")
        copy()
        cycle(volume, b"third!")


def a_stop(volume: Volume, copy: Callable[[], None]) -> None:
    """The VM runs at the first copy, so that its working image is copied, and has stopped at the second."""
    volume.start()
    draw(volume, b"sec")
    copy()
    draw(volume, b"second")
    with freeze_time(datetime.now(UTC) + timedelta(seconds=2)):
        volume.stop()


def a_stop_after_no_writing(volume: Volume, copy: Callable[[], None]) -> None:
    volume.start()
    copy()
    draw(volume, b"second")
    with freeze_time(datetime.now(UTC) + timedelta(seconds=2)):
        volume.stop()


def a_revert_and_a_run(volume: Volume, copy: Callable[[], None]) -> None:
    cycle(volume, b"second")
    copy()
    volume.revert()
    volume.start()


def two_reverts_in_a_second(volume: Volume, copy: Callable[[], None]) -> None:
    cycle(volume, b"second")
    cycle(volume, b"third!")
    with freeze_time(datetime.now(UTC)):
        volume.revert(to=1)
        copy()
        volume.revert(to=2)


BETWEEN = [
    a_run_without_writing,
    two_commits_in_a_second,
    a_stop,
    a_stop_after_no_writing,
    a_revert_and_a_run,
    two_reverts_in_a_second,
]


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("between", BETWEEN)
def test_a_copy_made_twice_is_the_pool_or_says_where_not(
    pool: Pool,
    file_system: FileSystem,
    between: Callable[[Volume, Callable[[], None]], None],
    copy: Copy,
) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first!")
    target = file_system.new_directory()
    between(volume, lambda: copy(Path(pool.path), target))
    copy(Path(pool.path), target)

    there = Pool.open(target)["ci-42/root"]
    if there.state is State.DAMAGED or any(one.harmful for one in there.pool.verify()):
        return  # it says so
    assert (there.current, seen(there)) == (volume.current, seen(volume))
    if there.look().running:
        is_running = volume.look().running
        assert seen_by_vm(there) == (seen_by_vm(volume) if is_running else seen(volume))
    else:
        there.start()
        assert seen_by_vm(there) == seen(volume)
    there.stop()
    assert seen(there) == seen(volume)


@pytest.mark.parametrize("between", BETWEEN)
def test_the_documented_copy_is_the_pool(
    pool: Pool,
    file_system: FileSystem,
    between: Callable[[Volume, Callable[[], None]], None],
) -> None:
    """And nothing has to be said of it."""
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first!")
    target = file_system.new_directory()
    between(volume, lambda: rsync_as_documented(Path(pool.path), target))
    rsync_as_documented(Path(pool.path), target)

    there = Pool.open(target)["ci-42/root"]
    assert [one for one in there.pool.verify() if one.harmful] == []
    assert [seen(there, one.number) for one in there.history] == [
        seen(volume, one.number) for one in volume.history
    ]
    assert there.look().running == volume.look().running


def test_a_working_image_of_an_older_run_is_told_and_both_are_kept(
    pool: Pool, file_system: FileSystem
) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first!")
    target = file_system.new_directory()
    a_stop(volume, lambda: rsync_that_deletes_nothing(Path(pool.path), target))
    rsync_that_deletes_nothing(Path(pool.path), target)

    there = Pool.open(target)["ci-42/root"]
    view = there.look()
    assert (view.state, view.current) == (State.DAMAGED, 2)
    assert "its working image was made from 1, and 2 is current now" in str(view.damage)
    assert "`lifecycle revert` keeps both" in str(view.damage)
    there.revert()
    assert seen(there) == seen(volume)
    (kept,) = [one.number for one in there.revisions if one.cause == "crash"]
    assert seen(there, kept).startswith(b"secst!\0")


def test_a_restored_image_under_a_running_vm_is_told(pool: Pool) -> None:
    """A person in a hurry puts back the record and the image of an earlier day."""
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first!")
    backup = Path(pool.path, "backup")
    cp_archive(Path(pool.path, "ci-42"), (backup.mkdir(), backup)[1])
    cycle(volume, b"second")
    volume.start()
    draw(volume, b"third!")
    cp_archive(backup, Path(pool.path, "ci-42"))

    assert volume.state is State.DAMAGED
    volume.revert()
    kept = {seen(volume, one.number)[:6] for one in volume.history}
    assert {b"first!", b"third!"} <= kept


def test_pools_of_the_test_can_be_copied_at_all(file_system: FileSystem) -> None:
    """The copy of a pool at rest, made once, is as the pool was: what the other tests begin from."""
    pool = create_pool(file_system)
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first!")
    target = file_system.new_directory()
    rsync_as_documented(Path(pool.path), target)
    assert list(Pool.open(target).verify()) == []
