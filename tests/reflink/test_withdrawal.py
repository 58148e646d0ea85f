"""An image that is opened in the middle of an event that pulls it away, at each of its steps.

Whoever has it then must never write into what the pool holds on to, nor write what is thrown away unseen: either the
event is refused, or the image can no longer be opened by its name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crash.operations import Operations, watch
from lifecycle import Change, InUse, Pool, Refused, State, Volume, events
from support.disks import SIZE, cycle, disk, draw, seen

LATE = b"late"
Act = Callable[[Volume], object]


class Opener:
    """Another VM: it opens the working image at the chosen step, and keeps it open."""

    def __init__(self, volume: Volume) -> None:
        self._path = volume.path
        self.fd: int | None = None

    def open(self, operation: Callable[[], Any]) -> Any:
        self.try_to_open()
        return operation()

    def try_to_open(self) -> None:
        try:
            self.fd = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            self.fd = None

    def write_and_close(self) -> None:
        if self.fd is not None:
            os.pwrite(self.fd, LATE, 0)
            os.close(self.fd)


def discard(volume: Volume) -> None:
    volume.stop(discard=True)


def recover(volume: Volume) -> None:
    volume.pool.recover()


def unwritten(volume: Volume) -> None:
    cycle(volume, b"first")
    volume.start()


def written(volume: Volume) -> None:
    unwritten(volume)
    draw(volume, b"second")


def written_without_snapshots(volume: Volume) -> None:
    volume.configure(snapshots=False)
    written(volume)


def unwritten_without_snapshots(volume: Volume) -> None:
    volume.configure(snapshots=False)
    unwritten(volume)


def damaged(volume: Volume) -> None:
    written(volume)
    os.unlink(Path(volume.pool.path, f"{volume.id}.img"))


def imports(volume: Volume) -> None:
    source = Path(volume.pool.path, "content")
    source.write_bytes(disk(b"imported"))
    volume.import_from(source)


EVENTS: dict[str, tuple[Act, Act]] = {
    "release": (unwritten, Volume.stop),
    "commit": (written, Volume.stop),
    "discard": (written, discard),
    "revert": (written, Volume.revert),
    "release without snapshots": (unwritten_without_snapshots, Volume.stop),
    "commit without snapshots": (written_without_snapshots, Volume.stop),
    "recover, committing": (written, recover),
    "revert from damage": (damaged, lambda volume: volume.revert(to=0)),
    "import from damage": (damaged, imports),
    "remove what is damaged": (damaged, Volume.remove),
}


def kept(volume: Volume) -> dict[int, bytes]:
    """Return what the pool holds on to, by number."""
    if volume.look().moved:
        return {}  # it has no snapshots: what its VM writes to is all there is
    return {one.number: seen(volume, one.number) for one in volume.history}


@pytest.mark.parametrize("event", EVENTS)
def test_whoever_opens_it_at_any_step_writes_into_nothing_that_is_kept(
    pool: Pool, event: str
) -> None:
    prepare, act = EVENTS[event]
    for step in range(1, 100):
        volume = pool.create_volume(f"ci-{step}/root", SIZE, on_crash="commit")
        prepare(volume)
        opener = Opener(volume)
        refused = False
        with watch(Operations(step, opener.open, sync=True)) as done:
            try:
                act(volume)
            except InUse:
                refused = True
        before = kept(volume) if volume.id in pool else {}
        is_working = opener.fd is not None and is_file(opener.fd, volume.path)
        opener.write_and_close()
        if opener.fd is not None:
            assert is_working, (
                done.done
            )  # so the next stop keeps it or throws it away, as it is told to
        after = kept(volume) if volume.id in pool else {}
        assert after == before or volume.config.snapshots is False, (step, done.done)
        if not refused and event != "recover, committing":
            assert opener.fd is None, done.done
        if len(done.done) < step:
            return
    raise AssertionError("the event did not come to its end")


def is_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def opened_by_a_subscriber(volume: Volume, signal: Any) -> Iterator[Opener]:
    """A slow subscriber or hook: while it runs, a VM opens the image."""
    opener = Opener(volume)

    def receive(_pool: Pool, **_: Any) -> None:
        if opener.fd is None:
            opener.try_to_open()

    with signal.connected_to(receive, sender=volume.pool):
        yield opener


@pytest.mark.parametrize("event", ["release", "commit", "discard"])
def test_a_vm_that_comes_while_subscribers_are_asked_is_seen(pool: Pool, event: str) -> None:
    prepare, act = EVENTS[event]
    volume = pool.create_volume("ci-42/root", SIZE)
    prepare(volume)
    before = volume.look()
    signal = {
        "release": events.releasing,
        "commit": events.committing,
        "discard": events.reverting,
    }[event]
    failed: list[Exception] = []

    def note(_pool: Pool, *, error: Exception, **_: Any) -> None:
        failed.append(error)

    events.failed.connect(note, sender=pool)
    with opened_by_a_subscriber(volume, signal) as opener, pytest.raises(InUse) as error:
        act(volume)
    assert failed == [error.value]
    assert volume.look() == before
    opener.write_and_close()
    act(volume)
    assert volume.state in {State.COMMITTED, State.REVERTED}
    assert seen(volume) == (disk(b"first") if event == "discard" else seen(volume))
    if event != "discard":
        assert seen(volume).startswith(LATE)


def test_of_several_none_is_stopped_if_one_is_opened_meanwhile(pool: Pool) -> None:
    volumes = [pool.create_volume(f"ci/{name}", SIZE) for name in ("one", "two", "three")]
    for volume in volumes:
        written(volume)
    before = [volume.look() for volume in volumes]
    with (
        opened_by_a_subscriber(volumes[1], events.committing) as opener,
        pytest.raises(InUse, match="ci/two is dirty"),
    ):
        pool.vm("ci").stop()
    assert [volume.look() for volume in volumes] == before
    opener.write_and_close()
    pool.vm("ci").stop()
    assert {volume.state for volume in volumes} == {State.COMMITTED}


def test_an_unwritten_image_that_is_written_and_closed_meanwhile_is_kept(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    unwritten(volume)

    def write(_pool: Pool, **_: Any) -> None:
        draw(volume, LATE)

    with (
        events.releasing.connected_to(write, sender=pool),
        pytest.raises(Refused, match="written to this very moment"),
    ):
        volume.stop()
    assert volume.stop().event == "commit"
    assert seen(volume).startswith(LATE)


def test_another_file_that_takes_the_name_meanwhile_is_not_replaced(pool: Pool) -> None:
    """Should an event fail when something else was put where the image was, neither of the two is lost."""
    volume = pool.create_volume("ci-42/root", SIZE)
    written(volume)

    def put(operation: Callable[[], Any]) -> Any:
        Path(volume.path).write_bytes(disk(b"put there"))
        raise OSError(5, "Input/output error")

    with watch(Operations(3, put, sync=True)), pytest.raises(OSError, match="Input/output"):
        volume.stop()
    assert Path(volume.path).read_bytes() == disk(b"put there")
    assert Path(f"{volume.path}@withdrawn").read_bytes() == disk(b"second")
    assert volume.state is State.DAMAGED
    assert "are two files, and only one can be the image" in str(volume.look().damage)
    volume.revert()
    assert volume.state is State.REVERTED
    (kept,) = [one.number for one in volume.revisions if one.cause == "crash"]
    (aside,) = Path(volume.path).parent.glob("*@withdrawn.damaged@*")
    assert {seen(volume, kept), aside.read_bytes()} == {disk(b"put there"), disk(b"second")}


def test_an_image_that_still_bears_its_other_name_is_told_and_gets_its_own(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    written(volume)
    os.rename(volume.path, f"{volume.path}@withdrawn")
    (found,) = pool.verify()
    assert found.text == (
        "an event was cut off before it happened, and its image still bears the name it had meanwhile;"
        " the next event mends it"
    )
    volume.settle()
    assert os.path.exists(volume.path)
    assert list(pool.verify()) == []


def test_an_image_that_was_about_to_lose_its_other_name_is_as_any_other(pool: Pool) -> None:
    """A stop that gave the name back was cut off before it took the other one away."""
    volume = pool.create_volume("ci-42/root", SIZE)
    for act in (Volume.stop, discard, Volume.start):
        written(volume)
        os.link(volume.path, f"{volume.path}@withdrawn")
        assert volume.state is State.DIRTY
        assert [one.path for one in pool.verify()] == ["ci-42/root-dirty.img@withdrawn"]
        act(volume)
        assert not os.path.exists(f"{volume.path}@withdrawn")
        assert list(pool.verify()) == []
        if volume.look().running:
            volume.stop()


@pytest.mark.parametrize("to", [None, 1])
@pytest.mark.parametrize("opened", ["before", "after it was asked"])
def test_whenever_it_is_found_in_use_it_is_said_how_to_keep_what_is_wanted(
    xfs_pool: Pool, opened: str, to: int | None
) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    for mark in (b"one", b"two"):
        cycle(volume, mark)
    volume.start()
    draw(volume, b"three")
    opener = Opener(volume)

    def open_it(_pool: Pool, *, volume: Volume, change: Change) -> None:
        if opener.fd is None:
            opener.try_to_open()

    if opened == "before":
        opener.try_to_open()
    else:
        events.reverting.connect(open_it)
    with pytest.raises(InUse, match=f"`lifecycle pin ci/root {to or 2}` before that"):
        volume.revert(to)
    events.reverting.disconnect(open_it)
    opener.write_and_close()
    assert volume.stop().event == "commit"
