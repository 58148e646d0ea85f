"""A lock is the process's that took it, and so is an event: what is forked meanwhile has no part in either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lifecycle import Change, Locked, Pool, Refused, State, Volume, events
from lifecycle.engine import locks
from lifecycle.linux import holders
from lifecycle.linux.holders import identity
from support.disks import SIZE, cycle, draw, numbers
from support.mounts import FileSystem

ID = "ci-42/root"
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads are known of


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    """A pool that waits for no lock."""
    return Pool.create(xfs.new_directory(), keep="all", lock_timeout=0)


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume(ID, SIZE)


@contextmanager
def forked(does: Callable[[], str]) -> Iterator[tuple[int, str]]:
    """Fork a child that does this, and lives until the block is over; give its pid and what came of it."""
    told, tell = os.pipe()
    end, lives = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(lives)
            os.write(tell, does().encode())
            os.close(tell)
            os.read(end, 1)
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    os.close(end)
    try:
        with os.fdopen(told) as answer:
            yield pid, answer.read()
    finally:
        os.close(lives)
        assert os.waitpid(pid, 0)[1] == 0


def nothing() -> str:
    return "lives"


def other_process(pool: Pool, code: str) -> str:
    """Return what another process prints, which has the pool's volume as `volume`."""
    begin = f"from lifecycle import Pool\nvolume = Pool.open({pool.path!r})[{ID!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


TENSES = ["announced", "done", "reported"]


@pytest.mark.parametrize("tense", TENSES)
def test_what_is_forked_in_an_event_keeps_nothing_locked(
    pool: Pool, volume: Volume, tense: str
) -> None:
    children = []

    def fork(_pool: Pool, *, volume: Volume, change: Change) -> None:
        child = forked(nothing)
        assert child.__enter__()[1] == "lives"
        children.append(child)

    getattr(events.EVENTS["start"], tense).connect(fork, sender=pool)
    volume.start()
    try:
        assert len(children) == 1
        assert other_process(pool, "print(volume.stop().event)") == "release\n"
    finally:
        for child in children:
            child.__exit__(None, None, None)


def test_nor_does_what_is_forked_by_another_thread(pool: Pool, volume: Volume) -> None:
    in_event, go_on = threading.Event(), threading.Event()

    def wait(_pool: Pool, *, volume: Volume, change: Change) -> None:
        in_event.set()
        assert go_on.wait(60)

    events.starting.connect(wait, sender=pool)
    starts = threading.Thread(target=volume.start)
    starts.start()
    assert in_event.wait(60)
    with forked(nothing):
        assert "Locked" in other_process(pool, "volume.start()")
        go_on.set()
        starts.join()
        assert other_process(pool, "print(volume.stop().event)") == "release\n"


KILLED = """
import os, signal
with volume.pool.changing(volume):
    if FORK() == 0:
        print(os.getpid(), flush=True)
        os.closerange(0, 3)
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def orphan(pool: Pool, fork: str) -> Iterator[int]:
    """Give the child of a process that was killed while it had the lock; it lives until the block is over."""
    pid = int(other_process(pool, f"{fork}\n{KILLED}"))
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def test_the_lock_of_a_killed_process_is_free_though_its_child_lives(
    pool: Pool, volume: Volume
) -> None:
    with orphan(pool, "from os import fork as FORK"):
        assert volume.start().dest is State.STARTED


C_FORK = "import ctypes; FORK = ctypes.CDLL(None).fork"
"""A fork of which Python does not hear."""


def test_what_c_code_forked_is_named_where_it_keeps_the_lock_of_a_killed_process(
    pool: Pool, volume: Volume
) -> None:
    with orphan(pool, C_FORK) as pid, pytest.raises(Locked) as locked:
        volume.start()
    assert [one.pid for one in locked.value.holders] == [pid]


def test_what_c_code_forked_keeps_no_lock_once_the_event_is_over(
    pool: Pool, volume: Volume
) -> None:
    code = f"""
import os, signal
{C_FORK}
with volume.pool.changing(volume):
    child = FORK()
    if child == 0:
        os.closerange(0, 3)
        signal.pause()
print(volume.pool[{ID!r}].start().event, child)
"""
    event, child = other_process(pool, code).split()
    try:
        assert event == "start"
        assert volume.stop().event == "release"
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_all_who_have_the_lock_are_named(pool: Pool, volume: Volume) -> None:
    """So a process that was forked from C is named beside the one that took the lock."""
    code = f"""
import os, signal, sys
{C_FORK}
with volume.pool.changing(volume):
    child = FORK()
    if child == 0:
        os.closerange(0, 3)
        signal.pause()
    print(child, flush=True)
    sys.stdin.read()
"""
    begin = f"from lifecycle import Pool\nvolume = Pool.open({pool.path!r})[{ID!r}]\n"
    with subprocess.Popen(
        [sys.executable, "-c", begin + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            found = holders.lock_holders(identity(os.stat(f"{pool.path}/ci-42")))
        finally:
            os.kill(child, signal.SIGKILL)
            process.communicate("")
    assert {one.pid for one in found} == {process.pid, child}


def test_where_no_one_may_look_into_processes_it_is_named_who_took_it(
    pool: Pool, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_has_lock", lambda *_: False)
    with volume.pool.changing(volume):
        found = holders.lock_holders(identity(os.stat(f"{pool.path}/ci-42")))
    assert [one.pid for one in found] == [os.getpid()]


@pytest.mark.parametrize("close_fds", [False, True])
def test_a_program_that_is_begun_meanwhile_does_not_inherit_it(
    volume: Volume, close_fds: bool
) -> None:
    with volume.pool.changing(volume):
        program = subprocess.Popen(["sleep", "60"], close_fds=close_fds)
    # of the lock there is no more, whatever it inherited; and it inherited nothing of the VM's
    try:
        links = [
            os.readlink(f"/proc/{program.pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{program.pid}/fd")
        ]
        assert not [one for one in links if "ci-42" in one]
    finally:
        program.kill()
        program.wait()


# ---------------------------------------------------------------- what a child believes


def asks_again(volume: Volume) -> str:
    """Return what a child learns that begins an event of its own."""
    try:
        return str(volume.start().event)
    except (Locked, Refused) as error:
        return f"{type(error).__name__} {error}"


def test_a_child_knows_that_the_lock_is_not_its_own(volume: Volume) -> None:
    with volume.pool.changing(volume):
        with forked(lambda: asks_again(volume)) as (_pid, answer):
            assert answer.startswith("Locked")
            assert f"(pid {os.getpid()})" in answer
        assert locks.this_thread.locked  # here all is as before
        with volume.pool.locked("ci-42"):
            pass
    with forked(lambda: asks_again(volume)) as (_pid, answer):
        assert answer == "start"


def test_a_child_does_not_take_part_in_the_event_that_it_was_forked_in(
    pool: Pool, volume: Volume
) -> None:
    """It returns from the subscriber as its parent does."""
    volume.start()
    draw(volume, b"one")
    children: list[int] = []
    told, tell = os.pipe()

    def fork(_pool: Pool, *, volume: Volume, change: Change) -> None:
        children.append(os.fork())

    events.committing.connect(fork, sender=pool)
    try:
        came = str(volume.stop().revision)
    except Refused as error:
        came = str(error)
    if children == [0]:
        os.write(tell, came.encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        assert "the event goes on in the one that began it" in answer.read()
    os.waitpid(children[0], 0)
    assert came == "1"
    assert (volume.current, volume.state) == (1, State.COMMITTED)


def test_a_childs_own_commits_are_pruned(volume: Volume) -> None:
    """It is forked while its parent's thread lets pruning wait for the end of several stops, and lives on."""
    volume.configure(keep="last 1")
    told, tell = os.pipe()
    wait, go = os.pipe()
    children: list[int] = []

    def fork(_pool: Pool, *, volume: Volume, change: Change) -> None:
        pid = os.fork()
        if pid:
            children.append(pid)
            return
        events.committed.disconnect(fork)
        os.read(wait, 1)
        for mark in (b"1", b"2", b"3"):
            cycle(volume, mark)
        os.write(tell, str(numbers(volume)).encode())
        os._exit(0)

    volume.start()
    draw(volume, b"0")
    with events.committed.connected_to(fork, sender=volume.pool):
        volume.pool.stop([volume])
    os.write(go, b"!")
    (child,) = children
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(told, 100) == b"[3]"
    for fd in (told, tell, wait, go):
        os.close(fd)


def test_sys_exit_in_a_child_ends_the_child(pool: Pool, volume: Volume) -> None:
    """The same in its parent would be the subscriber's failure, and be logged."""
    code = """
import os, sys
from lifecycle import events
def fork(pool, *, volume, change):
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
for tense in ("announced", "reported"):
    getattr(events.EVENTS["start"], tense).connect(fork)
print(volume.start().event)
"""
    assert other_process(pool, code) == "7\n7\nstart\n"
