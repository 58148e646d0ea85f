"""The subscriber that has working images made ahead: what it asks for, and the process that does it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import Pool, State, Volume, events
from lifecycle.subscribers import precaching
from support.disks import SIZE, cycle, draw
from support.precached import precache


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
    (tmp_path / "lifecycle/engine").mkdir(parents=True)
    for package in ("lifecycle", "lifecycle/engine"):
        (tmp_path / package / "__init__.py").touch()
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
