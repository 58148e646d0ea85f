"""Many processes at once: nothing acknowledged is lost, nothing is answered wrongly, and no one waits in vain.

The processes are those of support/crowd_worker.py. Some kill themselves at a change to files, chosen by a seed; some
are killed in the middle of whatever they do. The rest go on.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import InUse, Locked, NoSuchVolume, Pool, State, Volume, config
from lifecycle.errors import Holder
from lifecycle.report import documents
from support import crowd_worker
from support.disks import SIZE, cycle, disk, draw, numbers, read, seen
from support.mounts import FileSystem

ID = "ci-42/root"


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    return Pool.create(xfs.new_directory(), keep="all", lock_timeout=30)


# ---------------------------------------------------------------- the crowd

WORKERS = 6
"""Of these a third live to the end, a third end themselves, a third are killed."""


def begin(pool: Pool, log: Path, seed: int, dies_at: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, crowd_worker.__file__, pool.path, str(log), str(seed), str(dies_at)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_crowd_loses_nothing(pool: Pool, tmp_path: Path, seed: int) -> None:
    for name in crowd_worker.VOLUMES:
        cycle_whole(pool.create_volume(name, crowd_worker.SIZE), b"begin" * 3 + b"!")
    chance = random.Random(seed)
    with ExitStack() as ending:
        crowded = []
        for worker in range(WORKERS):
            dies_at = chance.randrange(50, 400) if worker % 3 == 0 else 0
            log = tmp_path / f"{worker}.log"
            process = begin(pool, log, 10 * seed + worker, dies_at)
            crowded.append(ending.enter_context(process))
            ending.callback(process.kill)
        kill_after(crowded[1::3], lambda: chance.randrange(5, crowd_worker.ACTIONS // 2))
        statuses = [process.wait() for process in crowded]
    assert [status for worker, status in enumerate(statuses) if worker % 3 == 2] == [0, 0]
    assert statuses.count(-9) >= 3

    logged = [
        json.loads(line) for log in sorted(tmp_path.glob("*.log")) for line in whole_lines(log)
    ]
    assert [one for one in logged if "wrong" in one] == []
    assert [one.path for one in pool.verify() if one.harmful] == []
    without_wait = config.write_pool(pool.config._replace(lock_timeout=0.0))
    Path(pool.path, config.POOL_FILE).write_bytes(without_wait)
    without_waiting = Pool.open(pool.path)
    assert [one for one in without_waiting.recover() if one.error] == []
    for name in crowd_worker.VOLUMES:
        require_all(without_waiting[name], [one for one in logged if one.get("volume") == name])


def kill_after(processes: list[subprocess.Popen[bytes]], actions: Callable[[], int]) -> None:
    """Kill each of the processes when it has begun so many things, in the middle of the next."""
    with selectors.DefaultSelector() as reading:
        left = {process: actions() for process in processes}
        for process in processes:
            assert process.stdout is not None
            reading.register(process.stdout, selectors.EVENT_READ, process)
        while reading.get_map():
            for key, _ in reading.select():
                left[key.data] -= len(os.read(key.fd, 4))
                if left[key.data] <= 0:
                    key.data.kill()
                    reading.unregister(key.fileobj)


def cycle_whole(volume: Volume, mark: bytes) -> None:
    volume.start()
    draw(volume, mark * (crowd_worker.SIZE // len(mark)))
    volume.stop()


def whole_lines(log: Path) -> list[str]:
    """Return the lines of a log; the last one may have been cut off by a kill."""
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def require_all(volume: Volume, acknowledged: list[dict[str, Any]]) -> None:
    """Every number that was acknowledged was given once, and holds what was acknowledged with it."""
    given = [one["number"] for one in acknowledged]
    assert len(given) == len(set(given)), "a number was given twice"
    assert len(given) > 3, "the crowd did too little"
    history = [one.number for one in volume.history]
    assert set(given) <= set(history)
    assert volume.look().next > max(history)
    for one in acknowledged:
        assert crowd_worker.whole(seen(volume, one["number"])) == one["content"]
    for number in history:
        crowd_worker.whole(seen(volume, number))
    volume.start()  # the lock is free
    if volume.state is State.STARTED:
        volume.stop()


# ---------------------------------------------------------------- a commit in the middle of a look


def answers(pool: Pool) -> dict[str, Callable[[], object]]:
    """Return what can be asked of the pool, by name."""
    volume = pool[ID]
    return {
        "state": lambda: volume.state,
        "current": lambda: volume.current,
        "size": lambda: volume.size,
        "usage": lambda: volume.usage > 0,
        "allowed": lambda: volume.allowed,
        "revisions": lambda: [(one.number, one.size, one.cause) for one in volume.revisions],
        "history": lambda: [(one.number, one.size, one.cause) for one in volume.history],
        "export": lambda: content(volume, None),
        "export the current one": lambda: content(volume, 2),
        "export a revision": lambda: content(volume, 1),
        "plan": lambda: volume.plan().keep,
        "in use by": lambda: volume.in_use_by,
        "left over": lambda: volume.left_over,
        "list": lambda: [one.id for one in pool],
        "contains": lambda: ID in pool,
        "verify": lambda: [one.path for one in pool.verify() if one.harmful],
        "document": lambda: documents.of_volume(volume)["state"],
    }


def content(volume: Volume, number: int | None) -> object:
    """Return what is exported; that there is no such volume or revision is an answer too."""
    try:
        with volume.export(number) as opened:
            return read(opened.fd)
    except LookupError as error:
        return type(error).__name__


NAMES = [
    "state",
    "current",
    "size",
    "usage",
    "allowed",
    "revisions",
    "history",
    "export",
    "export the current one",
    "export a revision",
    "plan",
    "in use by",
    "left over",
    "list",
    "contains",
    "verify",
    "document",
]


def commit(volume: Volume) -> None:
    if not volume.look().running:
        volume.start()
    draw(volume, b"three")
    volume.stop()


def stop(volume: Volume) -> None:
    if volume.look().running:
        volume.stop()


def remove(volume: Volume) -> None:
    stop(volume)
    with suppress(InUse):  # whoever asks may have it open already
        volume.remove()


MEANWHILE: dict[str, Callable[[Volume], object]] = {
    "commit": commit,
    "stop": stop,
    "start": Volume.start,
    "forget": lambda volume: volume.forget(1),
    "revert": lambda volume: (stop(volume), volume.revert(1)),
    "remove": remove,
}


@pytest.mark.parametrize("running", [False, True], ids=["at rest", "running"])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("asked", NAMES)
def test_what_happens_in_the_middle_of_a_look(
    pool: Pool, asked: str, meanwhile: str, running: bool
) -> None:
    """Files are read one after the other; the answer is still that of one moment, before or after."""
    for look in range(1, 30):
        volume = here(pool, look, running)
        before = answers(volume.pool)[asked]()
        ask = answers(volume.pool)[asked]
        happened = Interruption(look, lambda v=volume: MEANWHILE[meanwhile](v))
        with happened:
            found = answer_of(ask)
        if not happened.done:
            return
        after = answer_of(ask)
        assert found in (before, after), f"when it came after look {look}"
    pytest.fail("it never stopped looking")


def here(pool: Pool, look: int, running: bool) -> Volume:
    """Return a fresh volume, with revision 1 and the current image 2, alone in a pool."""
    volume = Pool.create(f"{pool.path}.{look}", keep="all").create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    if running:
        volume.start()
    return volume


def answer_of(ask: Callable[[], object]) -> object:
    """Return the answer; that the volume is gone is one."""
    try:
        return ask()
    except NoSuchVolume:
        return "NoSuchVolume"


class Interruption:
    """Lets something happen right after the backend's N-th look at files inside the block."""

    def __init__(self, look: int, act: Callable[[], object]) -> None:
        self._left = look
        self._act = act
        self.done = False
        self._patches = [mock.patch.object(module, "gather", self._gather) for module in _lookers()]

    def __enter__(self) -> None:
        for patch in self._patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _gather(self, directory: Any, name: str) -> Any:
        from lifecycle.reflink import scan

        found = scan.gather(directory, name)
        if not self.done:
            self._left -= 1
            if self._left == 0:
                self.done = True
                self._act()
        return found


def _lookers() -> list[Any]:
    """Return the modules that look at files."""
    from lifecycle.reflink import look, store, verify, walk

    return [look, store, walk, verify]


# ---------------------------------------------------------------- the lock

HOLD = """
import sys
from lifecycle import Pool
pool = Pool.open(sys.argv[1])
with pool.backend.lock(sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""
"""A process that holds a VM's lock until its input ends."""


def hold(pool: Pool, vm: str) -> subprocess.Popen[str]:
    """Let another process lock the VM; it has when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, pool.path, vm],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.fixture
def impatient(xfs: FileSystem) -> Pool:
    """A pool that waits for no lock."""
    return Pool.create(xfs.new_directory(), keep="all", lock_timeout=0)


CHANGES: dict[str, Callable[[Volume], object]] = {
    "start": Volume.start,
    "stop": Volume.stop,
    "revert": Volume.revert,
    "checkpoint": Volume.checkpoint,
    "resize": lambda volume: volume.resize(2 * SIZE),
    "remove": Volume.remove,
    "pin": lambda volume: volume.pin(1),
    "forget": lambda volume: volume.forget(1),
    "prune": Volume.prune,
    "configure": lambda volume: volume.configure(on_crash="revert"),
    "create": lambda volume: volume.pool.create_volume("ci-42/other", SIZE),
    "clone": lambda volume: volume.pool.clone(volume, "ci-42/other"),
    "start all": lambda volume: volume.pool.vm("ci-42").start(),
    "tidy": lambda volume: volume.pool.tidy("ci-42"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_who_holds_the_lock_is_named(impatient: Pool, change: str) -> None:
    volume = impatient.create_volume(ID, SIZE)
    cycle(volume, b"one")
    with hold(impatient, "ci-42") as other:
        with pytest.raises(Locked) as locked:
            CHANGES[change](volume)
        other.communicate("")

    assert [holder.pid for holder in locked.value.holders] == [other.pid]
    assert str(other.pid) in str(locked.value)
    assert isinstance(locked.value.holders[0], Holder)
    assert locked.value.holders[0].name.startswith("python")
    assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"one"))


def test_it_is_waited_for_up_to_the_timeout(xfs: FileSystem) -> None:
    """How long is added up from the pauses, which are not spent here."""
    pool = Pool.create(xfs.new_directory(), lock_timeout=7)
    volume = pool.create_volume(ID, SIZE)
    pauses: list[float] = []
    with hold(pool, "ci-42") as other:
        with mock.patch("time.sleep", pauses.append), pytest.raises(Locked) as locked:
            volume.start()
        other.communicate("")
    assert locked.value.seconds == 7
    assert 7 <= sum(pauses) < 7.1


def test_it_is_waited_for_until_it_is_free(xfs: FileSystem) -> None:
    pool = Pool.create(xfs.new_directory(), lock_timeout=7)
    volume = pool.create_volume(ID, SIZE)
    with (
        hold(pool, "ci-42") as other,
        mock.patch("time.sleep", side_effect=lambda _pause: other.communicate("")),
    ):
        volume.start()  # the other one ends while we wait
    assert volume.state is State.STARTED


def test_the_lock_of_a_killed_process_is_free_at_once(impatient: Pool) -> None:
    volume = impatient.create_volume(ID, SIZE)
    with hold(impatient, "ci-42") as other:
        with pytest.raises(Locked):
            volume.start()
        other.kill()
        other.wait()
        volume.start()
    assert volume.state is State.STARTED


def test_other_vms_are_not_locked(impatient: Pool) -> None:
    impatient.create_volume(ID, SIZE)
    other_vm = impatient.create_volume("ci-43/root", SIZE)
    below = impatient.create_volume("ci-42/below/root", SIZE)
    with hold(impatient, "ci-42") as other:
        other_vm.start()
        below.start()
        other.communicate("")


@pytest.mark.parametrize("asked", NAMES)
def test_looking_never_waits(impatient: Pool, asked: str) -> None:
    volume = impatient.create_volume(ID, SIZE)
    cycle(volume, b"one")
    cycle(volume, b"two")
    expected = answers(impatient)[asked]()
    with hold(impatient, "ci-42") as other:
        with mock.patch("time.sleep", side_effect=AssertionError("it waits")):
            assert answers(impatient)[asked]() == expected
        other.communicate("")


def test_recovery_goes_on_past_a_lock(impatient: Pool) -> None:
    for vm in ("one", "two", "three"):
        impatient.create_volume(f"{vm}/root", SIZE, on_crash="commit").start()
        draw(impatient[f"{vm}/root"], b"written")
    with hold(impatient, "two") as other:
        found = {one.id: one for one in impatient.recover()}
        other.communicate("")
    assert isinstance(found["two/root"].error, Locked)
    assert [impatient[f"{vm}/root"].state for vm in ("one", "two", "three")] == [
        State.COMMITTED,
        State.DIRTY,
        State.COMMITTED,
    ]


def test_a_vm_that_is_removed_and_made_again_while_one_waits(xfs: FileSystem) -> None:
    """The lock that was waited for was that of a directory that is gone."""
    pool = Pool.create(xfs.new_directory(), lock_timeout=7)
    volume = pool.create_volume(ID, SIZE)

    def meanwhile(_pause: float) -> None:
        if other.poll() is None:
            os.unlink(f"{pool.path}/{ID}.img")
            os.unlink(f"{pool.path}/{ID}.json")
            os.rmdir(f"{pool.path}/ci-42")
            pool.create_volume(ID, 2 * SIZE)
            other.communicate("")

    with hold(pool, "ci-42") as other, mock.patch("time.sleep", meanwhile):
        volume.start()
    assert (volume.state, volume.size) == (State.STARTED, 2 * SIZE)
    assert numbers(volume) == []
