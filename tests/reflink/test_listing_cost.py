"""What an event looks at: nothing that there can be thousands of, where it need not."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import Pool, Volume
from lifecycle.engine import endings
from lifecycle.linux.directories import Directory
from lifecycle.reflink import names, store
from lifecycle.reflink.listing import Others
from support.disks import SIZE, cycle, draw, numbers
from support.mounts import FileSystem


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


@pytest.mark.parametrize("checkpoints", [0, 1, 2], ids="{} a run".format)
def test_notes_on_what_is_gone_are_dropped_in_the_end(volume: Volume, checkpoints: int) -> None:
    """Whichever numbers the commits get."""
    volume.forget(1)
    while (volume.current or 0) < 20:
        volume.start()
        draw(volume, b"more")
        for _ in range(checkpoints):
            volume.checkpoint()
        volume.stop()
    with open(f"{volume.pool.path}/ci/root.json", encoding="ascii") as file:
        assert "first" not in file.read()


def test_an_end_lists_nothing(volume: Volume, listed: mock.Mock) -> None:
    volume.start()
    listed.reset_mock()
    ended = endings.end([volume], endings.Ending.STOPPED)
    assert [one.text for one in ended] == ["release: nothing kept"]
    assert not listed.called


def test_a_disposable_lists_what_a_crash_left_and_no_more(
    volume: Volume, listed: mock.Mock
) -> None:
    disposable = volume.pool.create_volume("boxes/one", source=volume)
    listed.reset_mock()
    disposable.start()
    by_start = [call.args[0].path for call in listed.call_args_list]
    assert [path for path in by_start if path.endswith("/boxes")] == [f"{volume.pool.path}/boxes"]
    listed.reset_mock()
    disposable.stop()
    by_stop = [call.args[0].path for call in listed.call_args_list]
    assert not [path for path in by_stop if path.endswith("/boxes")]


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
        with mock.patch.object(store, "gather_locked", side_effect=store.gather_locked) as looked:
            before = others()
            volume.stop()
        assert looked.called
        looked.reset_mock()  # it keeps no arguments that would
        after = others()
    finally:
        gc.enable()
    assert after == before


def others() -> int:
    """Return how many listings, made or to be made, are kept."""
    return sum(isinstance(one, Others) for one in gc.get_objects())


def test_each_of_many_is_looked_at_twice_by_a_stop(volume: Volume) -> None:
    """Once to plan it, and once afterwards, by retention and what makes images ahead."""
    pool = volume.pool
    several = [volume, *(pool.create_volume(f"ci-{n}/root", SIZE) for n in range(2))]
    pool.start(several)
    for one in several:
        draw(one, b"four")
    real = store.gather_locked
    with mock.patch.object(store, "gather_locked", side_effect=real) as looked:
        pool.stop(several)
    assert looked.call_count == 2 * len(several)


def test_hooks_are_looked_for_once_for_each_of_many(volume: Volume) -> None:
    pool = volume.pool
    several = [volume, *(pool.create_volume(f"ci-{n}/root", SIZE) for n in range(2))]
    with mock.patch.object(os, "listdir", side_effect=FileNotFoundError) as looked:
        pool.start(several)
    assert looked.call_count == 2 * len(several)  # the machine's and the pool's


# ---------------------------------------------------------------- what is written and flushed


def volatile(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE, save_on_stop=False)


def disposable(pool: Pool) -> Volume:
    template = pool.create_volume("template/root", SIZE)
    cycle(template, b"one")
    return pool.create_volume("ci/root", source=template)


@pytest.mark.parametrize("make", [volatile, disposable])
def test_what_is_thrown_away_writes_no_record_that_stays_the_same(
    xfs: FileSystem, make: Callable[[Pool], Volume]
) -> None:
    volume = make(Pool.create(xfs.new_directory()))
    record = Path(volume.pool.path, "ci/root.json")

    def run() -> int:
        with mock.patch.object(os, "fsync", side_effect=os.fsync) as flush:
            volume.start()
            draw(volume, b"thrown away")
            volume.stop()
        return flush.call_count

    run()
    written = record.stat()
    assert run() == 3  # the image, its name, and that the name is gone
    assert os.path.samestat(record.stat(), written)


def test_a_disposable_writes_down_another_image_of_its_source(xfs: FileSystem) -> None:
    volume = disposable(Pool.create(xfs.new_directory()))
    for number in (1, 2):
        volume.start()
        assert volume.look().begun == number
        volume.stop()
        cycle(volume.pool["template/root"], b"another")
