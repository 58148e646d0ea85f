"""A backend that fails: it is reported, and the state is read again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from lifecycle import Change, Pool, State, StorageFailed, Volume, events
from lifecycle.linux import holders
from lifecycle.linux.directories import Directory
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.failing_backend import backend_fails
from support.listeners import Listener
from support.mounts import FileSystem
from support.pools import create_pool


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    """One file system is enough: signals know of none."""
    return create_pool(xfs)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci-42/root", SIZE)


def test_a_backend_that_fails_is_reported(pool: Pool, volume: Volume, listener: Listener) -> None:
    errors = []

    def note(sender: Pool, *, volume: Volume, change: Change, error: Exception) -> None:
        errors.append((sender, volume, change.event, error))

    events.failed.connect(note, sender=pool)
    volume.start()
    draw(volume, b"first")
    volume.write()
    listener.take()
    with backend_fails(pool, "commit"), pytest.raises(StorageFailed) as error:
        volume.stop()

    assert listener.take() == ["commit announced", "commit done", "failed"]
    assert errors == [(pool, volume, "commit", error.value)]
    assert error.value.errno == errno.ENOSPC
    assert (error.value.volume, error.value.event) == (volume.id, "commit")
    assert volume.state is State.DIRTY
    assert volume.stop().revision == 1
    assert seen(volume) == disk(b"first")


def test_one_who_hears_of_a_failure_and_raises_does_not_hide_it(pool: Pool, volume: Volume) -> None:
    def fail(sender: Pool, **_: Any) -> None:
        raise RuntimeError("and this as well")

    events.failed.connect(fail, sender=pool)
    with backend_fails(pool, "start"), pytest.raises(StorageFailed):
        volume.start()


def test_what_is_no_fault_of_the_storage_is_raised_as_it_is(pool: Pool, volume: Volume) -> None:
    with (
        backend_fails(pool, "start", error=lambda: ZeroDivisionError("a bug")),
        pytest.raises(ZeroDivisionError, match="a bug"),
    ):
        volume.start()

    assert volume.state is State.CREATED


@pytest.mark.parametrize(
    ("fails", "state", "current"),
    [("rename", State.DIRTY, 1), ("sync", State.COMMITTED, 2)],
    ids=["before the commit point", "after it"],
)
def test_after_a_failure_the_state_is_what_the_files_say(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, fails: str, state: State, current: int
) -> None:
    """The rename is the commit point; the sync comes after it."""
    cycle(volume, b"first")
    volume.start()
    draw(volume, b"second")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Directory, fails, fail)
        with pytest.raises(StorageFailed):
            volume.stop()
        assert volume.state is state
        assert volume.current == current
        assert seen(volume, current) == disk(b"second" if current == 2 else b"first")

    if state is State.DIRTY:
        volume.stop()
    assert volume.current == 2
    assert numbers(volume) == [1]
    assert seen(volume) == disk(b"second")
    assert cycle(volume, b"third!") == 3


def eio() -> OSError:
    return OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("snapshots", [True, False])
@pytest.mark.parametrize(
    ("error", "told"), [(eio(), StorageFailed), (KeyboardInterrupt(), KeyboardInterrupt)], ids=repr
)
def test_a_start_that_is_not_durable_is_taken_back(
    pool: Pool, snapshots: bool, error: BaseException, told: type[BaseException]
) -> None:
    """None of the VM's has started, whether it has a clone or the current image itself."""
    volume = pool.create_volume("db/data", SIZE, snapshots=snapshots)
    other = pool.create_volume("db/log", SIZE)
    cycle(volume, b"one")
    with mock.patch.object(Directory, "sync", side_effect=error), pytest.raises(told):
        pool.vm("db").start()
    assert (volume.state, other.state) == (State.COMMITTED, State.CREATED)
    assert seen(volume) == disk(b"one")


def test_without_snapshots_it_is_at_rest_if_it_cannot_be_known_who_reads_it(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=False)
    with (
        mock.patch.object(holders, "is_open_elsewhere", side_effect=eio()),
        pytest.raises(StorageFailed),
    ):
        volume.start()
    assert volume.state is State.CREATED


@pytest.mark.parametrize(
    "act",
    [
        Volume.start,
        Volume.revert,
        Volume.remove,
        Volume.prune,
        Volume.settle,
        lambda volume: volume.revert(1),
        lambda volume: volume.forget(1),
        lambda volume: volume.pin(1),
        lambda volume: volume.pool.vm(volume.vm).start(),
    ],
    ids=["start", "revert", "remove", "prune", "settle", "revert to", "forget", "pin", "VM start"],
)
def test_a_directory_that_cannot_be_listed_is_told_as_a_failure(
    volume: Volume, act: Callable[[Volume], object]
) -> None:
    """Whenever an event comes to list it."""
    cycle(volume, b"one")
    cycle(volume, b"two")
    with mock.patch.object(Directory, "entries", side_effect=eio()), pytest.raises(StorageFailed):
        act(volume)
    assert (volume.state, numbers(volume)) == (State.COMMITTED, [1])
    assert seen(volume) == disk(b"two")


def test_a_commit_stands_though_the_directory_cannot_be_listed_to_prune(volume: Volume) -> None:
    cycle(volume, b"one")
    volume.start()
    draw(volume, b"two")
    with mock.patch.object(Directory, "entries", side_effect=eio()):
        assert volume.stop().revision == 2
    assert seen(volume) == disk(b"two")
