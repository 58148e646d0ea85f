"""Locks: of a VM's volumes one process changes any at a time, and none that ended keeps others waiting."""

import subprocess
import sys
from collections.abc import Callable
from threading import Thread

import pytest

from lifecycle import LifecycleError, Locked, NoSuchVolume, Pool, Volume
from support.disks import SIZE, cycle
from support.pools import NewPool


@pytest.fixture
def volume(new_pool: NewPool) -> Volume:
    return new_pool(lock_timeout=0.05).create_volume("ci-42/root", SIZE)


def in_a_thread(act: Callable[[], object]) -> LifecycleError | None:
    """Do something in another thread, and return what it raised."""
    raised: list[LifecycleError] = []

    def run() -> None:
        try:
            act()
        except LifecycleError as error:
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return next(iter(raised), None)


def test_another_thread_is_told_that_it_is_locked(volume: Volume) -> None:
    with volume.pool.locked(volume.vm):
        assert isinstance(in_a_thread(volume.start), Locked)
        volume.start()
    assert in_a_thread(volume.stop) is None


def test_it_is_not_waited_for_where_that_would_be_in_vain(volume: Volume) -> None:
    pool = volume.pool

    def take() -> None:
        with pool.backend.lock(volume.vm, wait=False):
            pass

    assert in_a_thread(take) is None
    with pool.locked(volume.vm):
        assert isinstance(in_a_thread(take), Locked)


def test_another_vm_is_of_no_concern(volume: Volume) -> None:
    other = volume.pool.create_volume("ci-4/root", SIZE)
    with volume.pool.locked(volume.vm):
        assert in_a_thread(other.start) is None


def test_looking_takes_none(volume: Volume) -> None:
    cycle(volume, b"first")
    with volume.pool.locked(volume.vm):
        assert in_a_thread(volume.look) is None
        assert in_a_thread(lambda: volume.export().close()) is None


def test_there_must_be_such_a_vm_unless_it_is_to_be_made(volume: Volume) -> None:
    pool = volume.pool
    with pytest.raises(NoSuchVolume), pool.backend.lock("nowhere"):
        pass
    with pool.backend.lock("nowhere", create=True):
        pass
    assert list(pool.backend.vms()) == [volume.vm]


LOCK_AND_WAIT = """
import sys
from lifecycle import Pool
with Pool.open(sys.argv[1]).locked(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_keeps_none(volume: Volume) -> None:
    pool = Pool.open(volume.pool.path)
    words = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{LOCK_AND_WAIT}"]
    with subprocess.Popen(
        [*words, pool.path, volume.vm], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Locked):
            volume.start()
        other.kill()
        other.communicate()
        volume.start()
