"""A flush that failed: nothing is acknowledged on the strength of a later one, and a person decides what is kept.

What is read of each image is compared with what is read once memory has been emptied: nothing that was acknowledged may
differ.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from unittest import mock

import pytest

from crash.operations import in_child
from lifecycle import Pool, State, StorageFailed, Volume, events
from lifecycle.engine.endings import Ending, end
from lifecycle.errors import FlushFailed, LifecycleError, Refused
from lifecycle.linux import durability, failed_flush
from support.command_line import Call
from support.disks import MIB, cycle, seen, seen_by_vm
from support.mounts import FileSystem
from support.refused_writes import (
    REFUSED,
    REFUSED_AT,
    SIZE,
    nothing_is_other_than_on_the_disk,
    refused,
    written,
)
from support.thin_disk import ThinDisk

# ---------------------------------------------------------------- how a flush fails, and what is done next

FAILS: dict[str, Callable[[Volume], object]] = {
    "stop": lambda volume: volume.stop(),
    "stop of what was refused in the background": lambda volume: volume.stop(),
    "commit": lambda volume: volume.commit(),
    "stop of the VM": lambda volume: volume.pool.vm(volume.vm).stop(),
    "the VM's end": lambda volume: _raise(end([volume], Ending.STOPPED)[0].error),
    "the VM's suspension": lambda volume: _raise(end([volume], Ending.SUSPENDED)[0].error),
    "checkpoint": lambda volume: volume.checkpoint(),
    "resize": lambda volume: volume.resize(SIZE + MIB),
}
"""Each asks the disk for the first time, and is told that it refuses."""


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


NEXT: dict[str, Callable[[Volume], object]] = {
    **FAILS,
    "start": lambda volume: volume.start(),
    "release": lambda volume: volume.release(),
    "start of the VM": lambda volume: volume.pool.vm(volume.vm).start(),
    "stop of many": lambda volume: volume.pool.stop([volume, *_others(volume)]),
    "recover": lambda volume: _raise(volume.pool.recover()[0].error),
    "the VM's crash": lambda volume: _raise(end([volume], Ending.CRASHED)[0].error),
}


def _others(volume: Volume) -> list[Volume]:
    return [written(volume.pool, f"other-{number}/root") for number in range(8)]


@pytest.mark.parametrize("fails", FAILS)
def test_after_a_flush_that_failed_none_is_believed(disk: ThinDisk, pool: Pool, fails: str) -> None:
    volume = written(pool)
    current, revisions = volume.current, volume.revisions
    refused(disk, volume)
    if "background" in fails or fails == "checkpoint":  # which would write a record first
        sync_of_the_administrator(volume)
        disk.take()
    with pytest.raises(FlushFailed) as caught:
        FAILS[fails](volume)
    assert caught.value.errno in {errno.ENOSPC, errno.EIO}
    assert caught.value.image == volume.path
    assert caught.value.unnoted is None
    disk.take()
    for follows, do in NEXT.items():
        with pytest.raises(LifecycleError, match="flush of its working image failed"):
            do(volume)
        assert volume.state == State.DAMAGED, follows
        assert (volume.current, volume.revisions) == (current, revisions)
    disk.reboot()
    assert volume.state == State.DAMAGED
    with pytest.raises(Refused, match="stop --discard"):
        volume.stop()
    nothing_is_other_than_on_the_disk(pool, disk)


def test_what_the_disk_holds_is_kept_as_what_a_crash_left(disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    disk.take()
    assert seen_by_vm(volume)[REFUSED_AT : REFUSED_AT + len(REFUSED)] == REFUSED  # it looks whole
    assert volume.revert().revision == 1
    assert volume.state == State.REVERTED
    assert [(one.number, one.cause) for one in volume.revisions] == [(1, None), (2, "crash")] or [
        (one.number, one.cause) for one in volume.revisions
    ] == [(2, "crash")]
    kept = seen(volume, 2)
    assert kept[:3] == b"two"
    assert REFUSED not in kept
    nothing_is_other_than_on_the_disk(pool, disk)
    volume.revert(2)
    assert seen(volume) == kept
    assert volume.start().event == "start"
    assert volume.stop().event == "release"
    assert not [one for one in pool.verify() if one.harmful]
    nothing_is_other_than_on_the_disk(pool, disk)


@pytest.mark.parametrize("ending", [None, Ending.DISCARDED])
def test_it_can_be_thrown_away_while_the_disk_still_refuses(
    disk: ThinDisk, pool: Pool, ending: Ending | None
) -> None:
    volume = written(pool)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    if ending is None:
        assert volume.stop(discard=True).event == "revert"
    else:
        (done,) = end([volume], ending)
        assert done.error is None
    assert volume.state in {State.REVERTED, State.COMMITTED}  # which of the two may find no room
    assert volume.revisions == ()
    disk.take()
    nothing_is_other_than_on_the_disk(pool, disk)


def test_new_content_leads_back_too(disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    disk.take()
    volume.import_from("/bin/sh")
    assert "crash" in {one.cause for one in volume.revisions}
    nothing_is_other_than_on_the_disk(pool, disk)


def test_without_snapshots_the_disk_holds_all_there_is(disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool, snapshots=False)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    disk.take()
    with pytest.raises(Refused, match="`revert` makes what the disk holds current"):
        volume.stop(discard=True)
    (ended,) = end([volume], Ending.DISCARDED)  # there is nothing to go back to
    assert isinstance(ended.error, Refused)
    volume.revert()
    assert volume.state == State.REVERTED
    assert seen(volume)[:3] == b"two"
    assert REFUSED not in seen(volume)
    nothing_is_other_than_on_the_disk(pool, disk)
    cycle(volume, b"three")
    nothing_is_other_than_on_the_disk(pool, disk)


@pytest.mark.parametrize("settings", [{"save_on_stop": False}, {"rw": False}], ids=json.dumps)
def test_what_is_thrown_away_anyway_is_never_in_doubt(
    disk: ThinDisk, pool: Pool, settings: dict[str, bool]
) -> None:
    volume = written(pool, **settings) if "rw" not in settings else _read_only(pool)
    refused(disk, volume)
    with contextlib.suppress(StorageFailed):
        volume.resize(SIZE + MIB)
    disk.take()
    assert volume.state == State.DIRTY
    assert volume.stop().event == "revert"


def _read_only(pool: Pool) -> Volume:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    volume.configure(rw=False)
    volume.start()
    return volume


# ---------------------------------------------------------------- who was told before


def _killed(*_: object) -> None:
    os._exit(9)


def test_the_news_is_left_to_others_by_who_is_killed_while_it_waits(
    disk: ThinDisk, pool: Pool
) -> None:
    volume = written(pool)
    refused(disk, volume)

    def stop() -> None:
        with mock.patch.object(failed_flush.Image, "_refused", new=_killed):
            volume.stop()

    assert in_child(stop)[0] == 9  # killed with the news, before it could be noted
    assert volume.state == State.DIRTY
    with pytest.raises(FlushFailed):
        volume.stop()
    assert volume.state == State.DAMAGED


def sync_of_the_administrator(volume: Volume) -> None:
    """Take the one error that there is for the whole file system."""
    fd = os.open(volume.pool.path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            durability.sync_file_system(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("many", [False, True])
def test_each_image_is_asked_itself(disk: ThinDisk, pool: Pool, many: bool) -> None:
    volumes = [written(pool, f"ci-{number}/root") for number in range(10 if many else 3)]
    hit, spared = volumes[:2], volumes[2:]
    refused(disk, *hit)
    sync_of_the_administrator(hit[0])
    with pytest.raises(FlushFailed):
        pool.stop(volumes)
    assert {one.state for one in hit} == {State.DAMAGED}
    # of these only the new records may have been refused
    assert {one.state for one in spared} <= {State.DIRTY, State.COMMITTED}
    disk.take()
    waiting = [one for one in spared if one.state == State.DIRTY]
    if waiting:
        pool.stop(waiting)
    assert {one.state for one in spared} == {State.COMMITTED}
    nothing_is_other_than_on_the_disk(pool, disk)


def test_other_volumes_of_the_vm_go_on_unattended(disk: ThinDisk, pool: Pool) -> None:
    root, home = written(pool), written(pool, "ci/home")
    refused(disk, root)
    with pytest.raises(FlushFailed):
        root.stop()
    disk.take()
    ended = {one.volume.id: one for one in end([root, home], Ending.STOPPED)}
    assert isinstance(ended["ci/root"].error, Refused)
    assert ended["ci/home"].text == "committed as 2"
    assert [one.error is None for one in pool.recover() if one.id == "ci/root"] == [False]
    with pytest.raises(Refused, match="flush of its working image failed"):
        pool.vm("ci").stop()
    assert len(pool.vm("ci").stop(discard=True)) == 1


def test_what_begins_from_its_current_image_goes_on(disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool)
    disposable = pool.create_volume("vm/root", source=volume.id)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    disk.take()
    disposable.start()
    assert seen_by_vm(disposable)[:3] == b"one"
    assert disposable.stop().event == "release"


def test_a_run_keeps_nothing_and_says_so(call: Call, disk: ThinDisk, pool: Pool) -> None:
    pool.create_volume("ci/root", SIZE)
    cycle(pool["ci/root"], b"one")
    cycle(pool.create_volume("ci/home", SIZE), b"one")

    def refuse(_pool: Pool, **_: object) -> None:
        disk.refuse()

    events.started.connect(refuse)
    writes = (
        f"printf two | dd of={{root}} conv=notrunc && head -c {MIB} /dev/urandom"
        f" | dd of={{root}} bs={MIB} seek=2 conv=notrunc iflag=fullblock"
    )
    try:
        called = call("run", "ci", "--", "sh", "-c", f"({writes}) 2>/dev/null", status=1)
    finally:
        events.started.disconnect(refuse)
    assert "may hold less of that image than was written" in called.err
    disk.take()
    assert {one.id: one.state for one in pool}["ci/root"] == State.DAMAGED
    again = call("run", "ci", "--", "true", status=3)
    assert "flush of its working image failed" in again.err
    nothing_is_other_than_on_the_disk(pool, disk)


@pytest.mark.parametrize("policy", ["resume", "commit", "revert"])
def test_no_crash_policy_decides_it(disk: ThinDisk, pool: Pool, policy: str) -> None:
    volume = written(pool, on_crash=policy)
    refused(disk, volume)
    with pytest.raises(FlushFailed):
        volume.stop()
    disk.take()
    disk.reboot()
    (found,) = pool.recover()
    assert found.error is not None
    assert "flush of its working image failed" in found.text
    assert volume.state == State.DAMAGED


# ---------------------------------------------------------------- a file system that may end its mount


def test_nothing_is_believed_of_a_file_system_that_may_end_its_mount(
    mounted: Callable[[str], FileSystem],
) -> None:
    disk = ThinDisk(mounted("xfs").new_directory(), "ext4")
    try:
        pool = Pool.create(disk.path / "pool", setup_check=False)
        volume = written(pool)
        refused(disk, volume)
        with pytest.raises(StorageFailed):
            volume.stop()
        disk.take()
        with pytest.raises(LifecycleError):
            volume.stop()
        disk.reboot()
        # noted, or as after a power cut
        assert volume.state in {State.DAMAGED, State.DIRTY}
        volume.revert()
        nothing_is_other_than_on_the_disk(pool, disk)
    finally:
        disk.close()


# ---------------------------------------------------------------- what is said


def test_it_is_said_wherever_one_looks(call: Call, disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool)
    refused(disk, volume)
    complaint = call("stop", "ci/root", status=1).complaint
    assert "The disk may hold less of that image than was written" in complaint
    assert "No image was lost" not in complaint
    disk.take()
    said = "a flush of its working image failed"
    assert said in call("stop", "ci", status=3).complaint
    assert said in call("show", "ci/root").out
    assert said in call("show", "ci/root", "--json").document["damage"]
    assert call("list", "--json").document[0]["state"] == "damaged"
    assert said in call("verify", status=1).out
    assert said in call("recover", status=1).out
    assert said in call("stop", "ci/root", "--ending", "stopped", status=1).out
    error = call("stop", "ci/root", "--json", status=3).document["error"]
    assert said in error["message"]
    assert call("stop", "ci/root", "--discard").out == (
        "ci/root: reverted: what was written is thrown away\n"
    )


def test_what_cannot_be_noted_is_said(disk: ThinDisk, pool: Pool) -> None:
    volume = written(pool)
    refused(disk, volume)
    failed = OSError(errno.EROFS, os.strerror(errno.EROFS))
    with (
        mock.patch.object(failed_flush.files, "set_mode", side_effect=failed),
        pytest.raises(FlushFailed, match="could not be noted safely") as caught,
    ):
        volume.stop()
    assert caught.value.unnoted == "Read-only file system"
