"""Working images made ahead: for the volume itself, and waiting for disposables that begin from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import InUse, InvalidConfig, Pool, State, Volume
from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.linux import files, holders, reflinks
from lifecycle.reflink import precacher
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm
from support.holding_open import by_another_process
from support.precached import CHANGES, make, precache, waiting

PIECES = 100
"""Extents: more than a clone of which is cheap."""


@pytest.fixture
def pool(xfs: Any) -> Pool:
    return Pool.create(xfs.new_directory())


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """One whose next working image is always made ahead."""
    volume = pool.create_volume("ci/root", SIZE)
    volume.configure(precache="always")
    cycle(volume, b"one")
    return volume


def in_pieces(volume: Volume) -> None:
    """Fragment what the volume holds."""
    volume.start()
    fd = os.open(volume.path, os.O_WRONLY)
    for piece in range(PIECES):
        os.pwrite(fd, b"x" * 4096, piece * 8192)
    os.close(fd)
    volume.stop()


# ---------------------------------------------------------------- the volume's own


def test_a_start_takes_what_was_made_ahead(volume: Volume, ahead: list[str]) -> None:
    assert set(ahead) == {"ci/root"}  # once asked for at its setting, once at its commit
    assert make(volume) == 1
    inode = precache(volume).stat().st_ino
    with mock.patch.object(files, "reflink") as reflink:
        volume.start()
    assert not reflink.called
    assert os.stat(volume.path).st_ino == inode
    assert (volume.state, seen_by_vm(volume)) == (State.STARTED, disk(b"one"))
    assert not precache(volume).exists()
    draw(volume, b"two")
    volume.stop()
    assert (seen(volume), seen(volume, 1)) == (disk(b"two"), disk(b"one"))


def test_it_is_made_once(volume: Volume) -> None:
    assert [make(volume), make(volume)] == [1, 0]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_makes_another_image_current_has_it_made_anew(
    volume: Volume, change: Callable[[Volume], object], ahead: list[str]
) -> None:
    cycle(volume.pool.create_volume("ci/other", SIZE), b"other")
    make(volume)
    ahead.clear()
    change(volume)
    assert volume.id in ahead
    held = seen(volume)
    volume.start()  # before anything is made anew
    assert seen_by_vm(volume) == held
    assert not precache(volume).exists()
    volume.stop()
    assert make(volume) == 1
    volume.start()
    assert seen_by_vm(volume) == held


def stale_by_time(volume: Volume) -> None:
    os.utime(precache(volume), ns=(7, 7))


def stale_by_a_write(volume: Volume) -> None:
    precache(volume).write_bytes(disk(b"scribbled"))


def stale_by_size(volume: Volume) -> None:
    time = precache(volume).stat().st_mtime_ns
    os.truncate(precache(volume), 512)
    os.utime(precache(volume), ns=(time, time))


def with_another_name(volume: Volume) -> None:
    os.link(precache(volume), f"{volume.pool.path}/elsewhere")


def no_file(volume: Volume) -> None:
    precache(volume).unlink()
    precache(volume).symlink_to("/dev/null")


@pytest.mark.parametrize(
    "spoil", [stale_by_time, stale_by_a_write, stale_by_size, with_another_name, no_file]
)
def test_what_is_not_fresh_is_not_taken(volume: Volume, spoil: Callable[[Volume], None]) -> None:
    make(volume)
    spoil(volume)
    volume.start()
    assert (volume.state, seen_by_vm(volume)) == (State.STARTED, disk(b"one"))


def written_over(image: Path) -> None:
    image.write_bytes(disk(b"restored"))


def replaced(image: Path) -> None:
    """By that of another line of the volume's life, sealed with the same number at another time."""
    written_over(image.with_name("new"))
    os.utime(image.with_name("new"), ns=(10**9 + 1, 10**9 + 1))
    os.rename(image.with_name("new"), image)


@pytest.mark.parametrize("restore", [written_over, replaced])
def test_what_was_made_of_another_image_of_that_number_is_not_taken(
    volume: Volume, pool: Pool, restore: Callable[[Path], None]
) -> None:
    volume.configure(ready=1)
    job = pool.create_volume("job/root", source=volume)
    assert make(volume) == 2
    restore(Path(pool.path, "ci/root.img"))
    assert volume.current == 1
    for one in (volume, job):
        one.start()
        assert (one.state, seen_by_vm(one)) == (State.STARTED, disk(b"restored"))


def test_of_a_removed_volume_nothing_is_left_for_the_next_of_its_name(volume: Volume) -> None:
    make(volume)
    left = precache(volume).read_bytes()
    volume.remove()
    assert not precache(volume).exists()
    os.makedirs(precache(volume).parent, exist_ok=True)
    precache(volume).write_bytes(left)  # one that was late
    os.utime(precache(volume), ns=(0, 0))
    volume.pool.create_volume("ci/root", SIZE)
    volume.start()
    assert seen_by_vm(volume) == disk()


def test_a_read_only_volume_gets_a_read_only_image(volume: Volume) -> None:
    volume.configure(rw=False)
    make(volume)
    volume.start()
    assert os.stat(volume.path).st_mode & 0o777 == 0o400


POLICIES = {
    # the pool's, the volume's, in pieces?: made ahead?
    ("auto", None, False): False,
    ("auto", None, True): True,
    ("auto", "never", True): False,
    ("auto", "always", False): True,
    ("never", None, True): False,
    ("never", "auto", True): True,
    ("always", None, False): True,
}


@pytest.mark.parametrize(("case", "expected"), POLICIES.items(), ids=str)
def test_who_decides(
    xfs: Any, case: tuple[str, str | None, bool], expected: bool, ahead: list[str]
) -> None:
    of_pool, of_volume, pieces = case
    pool = Pool.create(xfs.new_directory(), precache=of_pool)
    volume = pool.create_volume("ci/root", 2 * PIECES * 4096)
    volume.configure(precache=of_volume)
    if pieces:
        in_pieces(volume)
    else:
        cycle(volume, b"one")
    assert set(ahead) == ({"ci/root"} if expected else set())
    assert make(volume) == int(expected)


def test_a_policy_that_is_none(pool: Pool, volume: Volume) -> None:
    with pytest.raises(InvalidConfig, match="`precache` is one of auto, always, never"):
        volume.configure(precache="often")


def test_without_reflinks_it_is_copied_only_if_asked_for(mounted: Any) -> None:
    pool = Pool.create(mounted("plain").new_directory(), setup_check=False)
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    assert make(volume) == 0
    volume.configure(precache="always")
    assert make(volume) == 1
    volume.start()
    assert seen_by_vm(volume) == disk(b"one")


# ---------------------------------------------------------------- while others act


def test_without_snapshots_none_is_kept(volume: Volume) -> None:
    make(volume)
    volume.configure(snapshots=False)
    assert not precache(volume).exists()


def test_a_start_that_comes_while_it_is_made_clones_for_itself(volume: Volume) -> None:
    real = reflinks.share

    def share(*args: Any) -> bool | None:
        volume.start()
        draw(volume, b"two")
        return real(*args)

    with mock.patch.object(reflinks, "share", share):
        assert make(volume) == 0
    assert seen_by_vm(volume) == disk(b"two")
    assert not precache(volume).exists()
    volume.stop()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_finished_too_late_gets_no_name(
    volume: Volume, change: Callable[[Volume], object]
) -> None:
    cycle(volume.pool.create_volume("ci/other", SIZE), b"other")
    real = precacher._publish

    def publish(*args: Any) -> bool:
        change(volume)
        return real(*args)

    with mock.patch.object(precacher, "_publish", publish):
        assert make(volume) == 0
    assert not precache(volume).exists()
    assert list(volume.pool.verify()) == []


def test_a_second_one_leaves_it_to_the_first(volume: Volume) -> None:
    real = reflinks.share
    counts = []

    def share(*args: Any) -> bool | None:
        counts.append(make(volume))
        return real(*args)

    with mock.patch.object(reflinks, "share", share):
        assert make(volume) == 1
    assert counts == [0]


def test_it_holds_no_one_up(volume: Volume) -> None:
    """Its process has the current image open, which else would be in use."""
    with by_another_process(f"{volume.pool.path}/ci/root.img", name=holders.BACKGROUND):
        assert volume.in_use_by == ()
        volume.remove()


def test_a_vm_that_starts_as_soon_as_it_is_made_can_be_stopped(volume: Volume) -> None:
    """Its process, of the lowest priority, may rest for long after it has given up the lock."""
    backend = volume.pool.backend
    assert isinstance(backend, ReflinkBackend)
    real = backend.store.lock
    held_by = []

    @contextmanager
    def lock(vm: str, **options: Any) -> Iterator[None]:
        with real(vm, **options):
            yield
        if not held_by:
            held_by.append(None)
            volume.start()
            held_by.append(volume.in_use_by)

    with mock.patch.object(backend.store, "lock", lock):
        assert make(volume) == 1
    assert held_by == [None, ()]


def test_under_that_name_no_one_gets_at_a_working_image(volume: Volume) -> None:
    volume.start()
    with by_another_process(volume.path, name=holders.BACKGROUND), pytest.raises(InUse):
        volume.stop()


# ---------------------------------------------------------------- waiting for disposables


@pytest.fixture
def template(pool: Pool) -> Volume:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"one")
    template.configure(ready=2)
    return template


def test_disposables_take_what_waits(pool: Pool, template: Volume, ahead: list[str]) -> None:
    assert make(template) == 2
    jobs = [pool.create_volume(f"job-{n}/root", source=template) for n in range(3)]
    inodes = {path.stat().st_ino for path in waiting(template)}
    for job in jobs:
        ahead.clear()
        job.start()
        assert ahead == [template.id]
        assert (job.state, seen_by_vm(job), job.outdated) == (State.STARTED, disk(b"one"), False)
    assert inodes == {os.stat(job.path).st_ino for job in jobs[:2]}
    assert waiting(template) == []
    for job in jobs:
        draw(job, b"scribbled")
        job.stop()
    assert seen(template) == disk(b"one")
    assert list(pool.verify()) == []


def test_they_are_refreshed_when_the_template_moves_on(
    pool: Pool, template: Volume, ahead: list[str]
) -> None:
    make(template)
    ahead.clear()
    cycle(template, b"two")
    assert waiting(template) == []
    assert template.id in ahead
    assert make(template) == 2
    job = pool.create_volume("job/root", source=template)
    job.start()
    assert seen_by_vm(job) == disk(b"two")


def test_a_larger_disposable_is_given_its_size(pool: Pool, template: Volume) -> None:
    make(template)
    job = pool.create_volume("job/root", 2 * SIZE, source=template)
    job.start()
    assert (job.state, seen_by_vm(job)) == (State.STARTED, disk(b"one", size=2 * SIZE))


def test_a_read_only_disposable_takes_one_too(pool: Pool, template: Volume) -> None:
    make(template)
    job = pool.create_volume("job/root", source=template, rw=False)
    job.start()
    assert os.stat(job.path).st_mode & 0o777 == 0o400
    assert len(waiting(template)) == 1


def test_what_waits_is_not_there_for_another(pool: Pool, template: Volume) -> None:
    """A neighbour whose name begins alike."""
    other = pool.create_volume("templates/debian.12", SIZE)
    cycle(other, b"other")
    other.configure(ready=1)
    assert (make(template), make(other)) == (2, 1)
    job = pool.create_volume("job/root", source=other)
    job.start()
    assert seen_by_vm(job) == disk(b"other")
    template.revert(0)
    assert len(waiting(template)) == 0


def test_fewer_are_kept_when_fewer_are_wanted(template: Volume) -> None:
    make(template)
    template.configure(ready=1)
    assert len(waiting(template)) == 1
    template.configure(ready=0)
    assert not Path(template.pool.path, "templates/.ready").exists()


def test_a_vm_stops_whose_volumes_share_what_waits(pool: Pool, template: Volume) -> None:
    """The first one to stop takes the last that waited away, and the directory with it."""
    make(template)
    other = pool.create_volume("templates/zlog", SIZE)
    pool.vm("templates").start()
    draw(template, b"two")
    draw(other, b"log")
    pool.vm("templates").stop()
    assert (seen(template), seen(other)) == (disk(b"two"), disk(b"log"))


def test_a_removed_template_leaves_nothing(pool: Pool, template: Volume) -> None:
    make(template)
    template.remove()
    assert os.listdir(pool.path) == ["pool.toml"]


@pytest.mark.parametrize(
    "settings", [{"save_on_stop": False}, {"snapshots": False}], ids=lambda one: next(iter(one))
)
def test_ready_is_for_templates(pool: Pool, settings: dict[str, bool]) -> None:
    volume = pool.create_volume("ci/swap", SIZE, **settings)
    with pytest.raises(InvalidConfig, match="`ready`"):
        volume.configure(ready=1)
    with pytest.raises(InvalidConfig, match="`ready`"):
        pool.create_volume("ci/root", SIZE).configure(ready=-1)
