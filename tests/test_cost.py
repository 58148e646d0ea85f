"""What an event looks at: nothing that there can be thousands of, where it need not."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from unittest import mock

import pytest
from disks import SIZE, cycle, draw, numbers
from mounts import FileSystem

from lifecycle import Pool, Volume, backend_reflink, names
from lifecycle.files import Directory


@pytest.fixture
def volume(xfs: FileSystem) -> Volume:
    """One with revisions, some with notes on them."""
    volume = Pool.create(xfs.new_directory(), keep="all").create_volume("ci/root", SIZE)
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    volume.label(1, "first")
    return volume


@pytest.fixture
def listed() -> Iterator[mock.Mock]:
    """Called for each directory that is listed."""
    with mock.patch.object(
        Directory, "entries", autospec=True, side_effect=Directory.entries
    ) as it:
        yield it


@pytest.fixture
def parsed() -> Iterator[mock.Mock]:
    """Called for each name that is read as a revision's."""
    real = names.revision_number
    with mock.patch.object(names, "revision_number", side_effect=real) as it:
        yield it


def test_a_start_lists_once_and_reads_no_revisions_name(
    volume: Volume, listed: mock.Mock, parsed: mock.Mock
) -> None:
    volume.start()
    assert listed.call_count == 1  # for what a crash may have left
    assert not parsed.called


def test_nor_does_a_start_after_a_revert(
    volume: Volume, listed: mock.Mock, parsed: mock.Mock
) -> None:
    volume.revert()
    listed.reset_mock()
    parsed.reset_mock()
    volume.start()
    assert listed.call_count == 1
    assert not parsed.called


def test_a_commit_that_keeps_all_lists_nothing(volume: Volume, listed: mock.Mock) -> None:
    volume.start()
    draw(volume, b"four")
    listed.reset_mock()
    volume.stop()
    assert not listed.called
    assert numbers(volume) == [1, 2, 3]


def test_a_commit_that_may_prune_lists_once(volume: Volume, listed: mock.Mock) -> None:
    volume.configure(keep="last 3")
    volume.start()
    draw(volume, b"four")
    listed.reset_mock()
    volume.stop()
    assert listed.call_count == 1


def test_a_release_lists_nothing(volume: Volume, listed: mock.Mock) -> None:
    volume.start()
    listed.reset_mock()
    volume.stop()
    assert not listed.called


def test_notes_on_what_is_gone_are_dropped_in_the_end(volume: Volume) -> None:
    volume.forget(1)
    record = volume.pool.backend.root + "/ci/root.json"
    while cycle(volume, b"more") < 16:
        pass
    with open(record, encoding="ascii") as file:
        assert "first" not in file.read()


def test_what_an_event_found_out_is_whole_when_its_lock_is_gone(volume: Volume) -> None:
    view = volume.settle()
    cycle(volume, b"four")
    assert list(view.numbers) == [1, 2]
    assert numbers(volume) == [1, 2, 3]


def test_a_closed_directory_is_never_mistaken_for_another(tmp_path: object) -> None:
    with Directory.open(str(tmp_path)) as directory:
        pass
    with Directory.open(str(tmp_path)), pytest.raises(OSError, match="Bad file descriptor"):
        directory.entries()


def test_what_an_event_looked_at_is_let_go_at_once(volume: Volume) -> None:
    """Without waiting for garbage to be collected, which would take its time in the middle of another event."""
    volume.start()
    draw(volume, b"four")
    gc.collect()
    gc.disable()
    try:
        before = sum(type(one).__name__ == "Others" for one in gc.get_objects())
        volume.stop()
        after = sum(type(one).__name__ == "Others" for one in gc.get_objects())
    finally:
        gc.enable()
    assert after == before


def test_each_of_many_is_looked_at_twice_by_a_stop(volume: Volume) -> None:
    """Once to plan it, and once afterwards, by retention and what makes images ahead."""
    pool = volume.pool
    several = [volume, *(pool.create_volume(f"ci-{n}/root", SIZE) for n in range(2))]
    pool.start(several)
    for one in several:
        draw(one, b"four")
    real = backend_reflink.gather_locked
    with mock.patch.object(backend_reflink, "gather_locked", side_effect=real) as looked:
        pool.stop(several)
    assert looked.call_count == 2 * len(several)


def test_hooks_are_looked_for_once_for_each_of_many(volume: Volume) -> None:
    pool = volume.pool
    several = [volume, *(pool.create_volume(f"ci-{n}/root", SIZE) for n in range(2))]
    with mock.patch.object(os, "listdir", side_effect=FileNotFoundError) as looked:
        pool.start(several)
    assert looked.call_count == 2 * len(several)  # the machine's and the pool's
