"""Working images made ahead: for the volume itself, and waiting for disposables that begin from it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import InUse, InvalidConfig, Pool, State, Volume, events
from lifecycle.linux import files, holders, reflinks
from lifecycle.reflink import precacher
from lifecycle.subscribers import precaching
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm
from support.holding_open import by_another_process

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


def make(volume: Volume) -> int:
    """Do what the process in the background does."""
    return volume.pool.backend.make_ahead(volume.id)


def precache(volume: Volume) -> Path:
    return Path(volume.pool.path, f"{volume.id}-precache.img")


def waiting(volume: Volume) -> list[Path]:
    return sorted(Path(volume.pool.path, volume.vm).glob(".ready/*"))


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


CHANGES: dict[str, Callable[[Volume], object]] = {
    "commit": lambda volume: cycle(volume, b"two"),
    "revert": lambda volume: volume.revert(0),
    "resize": lambda volume: volume.resize(2 * SIZE),
    "import": lambda volume: volume.import_from(volume.pool["ci/other"]),
}


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


# ---------------------------------------------------------------- in the background


def test_the_process_does_it_and_leaves(volume: Volume) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lifecycle.engine.precache_worker", volume.pool.path, volume.id],
        check=True,
    )
    assert done.returncode == 0
    assert precache(volume).exists()


def test_the_process_is_detached(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real one
    pid = precaching.begin(volume.pool.path, volume.id)
    assert os.getsid(pid) == pid
    assert os.waitpid(pid, 0) == (pid, 0)
    assert precache(volume).exists()


def test_the_process_loads_nothing_from_where_its_caller_happens_to_be(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of root in a directory that is another user's."""
    (tmp_path / "lifecycle").mkdir()
    (tmp_path / "lifecycle/__init__.py").write_text("")
    (tmp_path / "lifecycle/engine/precache_worker.py").write_text(
        f"open({str(tmp_path / 'seen')!r}, 'w')"
    )
    monkeypatch.undo()  # the real one
    monkeypatch.chdir(tmp_path)
    os.waitpid(precaching.begin(volume.pool.path, volume.id), 0)
    assert not (tmp_path / "seen").exists()
    assert precache(volume).exists()


def test_of_many_at_once_all_is_made_by_one_process(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = [pool.create_volume(f"ci-{n}/root", SIZE) for n in range(3)]
    for volume in volumes:
        volume.configure(precache="always")
    pool.start(volumes)
    for volume in volumes:
        draw(volume, b"one")
    begun: list[tuple[str, ...]] = []
    monkeypatch.setattr(precaching, "begin_soon", lambda *what: begun.append(what))
    pool.stop(volumes)
    assert begun == [(pool.path, *(one.id for one in volumes))]
    subprocess.run(
        [sys.executable, "-m", "lifecycle.engine.precache_worker", *begun[0]], check=True
    )
    assert all(precache(one).exists() for one in volumes)


def test_what_asks_for_it_is_done_though_the_process_cannot_be_started(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = OSError(errno.EAGAIN, "no more processes")
    monkeypatch.undo()  # what is asked for is to be begun
    monkeypatch.setattr(precaching, "begin", mock.Mock(side_effect=failure))
    monkeypatch.setattr(precaching, "_beginner", precaching._Beginner())
    for keep in ("last 3", "last 4"):
        assert volume.configure(keep=keep).keep == keep
    precaching._beginner.finish()
    assert caplog.text.count("nothing is made ahead: [Errno 11] no more processes") == 2
    volume.pool.vm("ci").start()
    volume.pool.vm("ci").stop()
    assert volume.state is State.COMMITTED


IN_A_PROCESS = """
import os, sys
from lifecycle import Pool
from lifecycle.subscribers import precaching

pool = Pool.open(sys.argv[1])
precaching.begin = lambda path, *ids, environment: os.write(1, f"{path} {' '.join(ids)}\\n".encode())
pool["ci/root"].configure(keep="last 3")
if "fork" in sys.argv:
    child = os.fork()
    pool["ci/root"].configure(keep="last 4")
    if child:
        os.waitpid(child, 0)
"""


@pytest.mark.parametrize(("how", "times"), [((), 1), (("fork",), 3)], ids=["ends", "forks"])
def test_what_was_asked_for_is_begun_before_the_process_ends(
    volume: Volume, how: tuple[str, ...], times: int
) -> None:
    words = [sys.executable, "-c", IN_A_PROCESS, volume.pool.path, *how]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert done.stdout == f"{volume.pool.path} ci/root\n" * times


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes, of a pool that is none, for which a process was begun."""
    begun: list[str] = []
    monkeypatch.setattr(precaching, "begin", lambda _path, *ids, environment: begun.extend(ids))
    return begun


def asked(*volume_ids: str) -> precaching._Asked:
    return precaching._Asked("/nowhere", volume_ids, {})


def test_where_no_thread_can_be_begun_it_is_done_at_once(begun: list[str]) -> None:
    beginner = precaching._Beginner()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no more")):
        beginner.ask(asked("ci/one"))
        assert begun == ["ci/one"]
    beginner.ask(asked("ci/two"))  # now there is one
    beginner.finish()
    assert begun == ["ci/one", "ci/two"]


def test_what_is_asked_for_at_the_very_end_is_begun_at_once(begun: list[str]) -> None:
    beginner = precaching._Beginner()
    beginner.finish()
    beginner.ask(asked("ci/one"))
    assert begun == ["ci/one"]


def test_a_signals_handler_may_ask_while_the_thread_is_begun(begun: list[str]) -> None:
    beginner = precaching._Beginner()
    real, inner = threading.Thread.start, [asked("ci/inner")]

    def start(thread: threading.Thread) -> None:
        real(thread)
        while inner:
            beginner.ask(inner.pop())
            assert beginner._asked is not None
            beginner._asked.put(None)  # it has a thread of its own
            beginner._thread.join()

    with mock.patch.object(threading.Thread, "start", start):
        beginner.ask(asked("ci/outer"))
    beginner.finish()
    assert begun == ["ci/inner", "ci/outer"]


def test_the_process_gets_the_environment_of_the_moment_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()  # the real one
    given: list[str | None] = []
    monkeypatch.setattr(
        precaching, "begin", lambda *_, environment: given.append(environment.get("MARK"))
    )
    beginner = precaching._Beginner()
    monkeypatch.setattr(precaching, "_beginner", beginner)
    monkeypatch.setenv("MARK", "then")
    precaching.begin_soon("/nowhere", "ci/one")
    monkeypatch.setenv("MARK", "later")
    beginner.finish()
    assert given == ["then"]


def test_without_snapshots_none_is_kept(volume: Volume) -> None:
    make(volume)
    volume.configure(snapshots=False)
    assert not precache(volume).exists()


def test_a_start_looks_for_nothing_to_be_made_but_a_disposables_does(
    pool: Pool, volume: Volume
) -> None:
    disposable = pool.create_volume("ci/box", source=volume)
    with mock.patch.object(pool.backend, "wants_ahead", return_value=None) as looked:
        volume.start()
        assert not looked.called
        disposable.start()
        looked.assert_called_once_with("ci/box")


def test_of_what_a_subscriber_stops_meanwhile_it_is_made_too(
    pool: Pool, volume: Volume, ahead: list[str]
) -> None:
    other = pool.create_volume("db/data", SIZE)
    other.configure(precache="always")

    def cycle_other(sender: Pool, *, volume: Volume, change: object) -> None:
        if volume.id == "ci/root":
            pool.vm("db").start()
            pool.vm("db").stop()

    pool.vm("ci").start()
    ahead.clear()
    with events.released.connected_to(cycle_other, sender=pool):
        pool.vm("ci").stop()
    assert set(ahead) == {"ci/root", "db/data"}


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
    real = volume.pool.backend.lock
    held_by = []

    @contextmanager
    def lock(vm: str, **options: Any) -> Iterator[None]:
        with real(vm, **options):
            yield
        if not held_by:
            held_by.append(None)
            volume.start()
            held_by.append(volume.in_use_by)

    with mock.patch.object(volume.pool.backend, "lock", lock):
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


# ---------------------------------------------------------------- extents


def test_extents_are_counted_up_to_a_limit(xfs: Any) -> None:
    path = Path(xfs.new_directory(), "image")
    with path.open("wb") as image:
        os.pwrite(image.fileno(), b"x" * 4096, 0)
        os.fsync(image.fileno())
        assert not reflinks.are_more_than(image.fileno(), 9)
        for piece in range(30):
            os.pwrite(image.fileno(), b"x" * 4096, piece * 65536)
            os.fsync(image.fileno())
        assert reflinks.are_more_than(image.fileno(), 9)


def test_an_image_is_shared_stretch_by_stretch(xfs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflinks, "_STRETCH", 8192)
    directory = xfs.new_directory()
    content = os.urandom(20000) + bytes(100000) + b"end"
    (directory / "a").write_bytes(content)
    with open(directory / "a", "rb") as source, open(directory / "b", "w+b") as target:
        assert reflinks.share(source.fileno(), target.fileno(), lambda: True) is True
        assert target.read() == content
    with open(directory / "a", "rb") as source, open(directory / "c", "w+b") as target:
        wanted = iter([True, False])
        assert reflinks.share(source.fileno(), target.fileno(), lambda: next(wanted)) is None
