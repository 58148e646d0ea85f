"""What is noted on a working image of how its VM ended, and acknowledged, is there after a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from crash.copies import new_directory
from crash.power import WAYS, Mains
from lifecycle import Pool, Volume
from lifecycle.engine.endings import ENDING, Ending, end, unfinished
from support.disks import SIZE, cycle, disk, draw, seen_by_vm
from support.failing_backend import backend_fails
from support.mounts import FileSystem


@pytest.fixture(scope="module", params=WAYS)
def mains(request: pytest.FixtureRequest, mounted: Callable[[str], FileSystem]) -> Mains:
    """A file system whose power can be cut in this way."""
    mounted(request.param.partition(",")[0])
    return Mains(mounted("xfs"), request.param)


def persistent(pool: Pool) -> Volume:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    return volume


def volatile(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE, save_on_stop=False)


def without_snapshots(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.configure(snapshots=False)
    return volume


def suspended(volume: Volume) -> None:
    (one,) = end([volume], Ending.SUSPENDED)
    assert one.error is None


def failed_to_stop(volume: Volume) -> None:
    what = "commit" if volume.look().saves else "revert"
    with backend_fails(volume.pool, what):
        (one,) = end([volume], Ending.STOPPED)
    assert one.error is not None


def started_again(volume: Volume) -> None:
    """It was to be thrown away, which failed; then someone decided otherwise."""
    volume.tag(ENDING, Ending.DISCARDED, durable=True)
    volume.start()


NOTED: dict[Callable[[Volume], None], Ending | None] = {
    suspended: Ending.SUSPENDED,
    failed_to_stop: Ending.STOPPED,
    started_again: None,
}


@pytest.mark.parametrize(("note", "expected"), NOTED.items())
@pytest.mark.parametrize("make", [persistent, volatile, without_snapshots])
def test_it_is_there_after_a_power_cut(
    mains: Mains,
    make: Callable[[Pool], Volume],
    note: Callable[[Volume], None],
    expected: Ending | None,
) -> None:
    policy = "resume" if note is started_again else "revert"
    pool = Pool.create(new_directory(mains.path) / "pool", on_crash=policy)
    volume = make(pool)
    volume.start()
    draw(volume, b"written by the guest")
    fd = os.open(volume.path, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    mains.sync()
    note(volume)
    mains.cut()
    assert unfinished(volume) == expected
    assert seen_by_vm(volume) == disk(b"written by the guest")
    if note is suspended:
        pool.recover()
        assert seen_by_vm(volume) == disk(b"written by the guest")
