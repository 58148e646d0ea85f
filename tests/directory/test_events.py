"""Events in a read-only pool: many VMs share an image, and what would write is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lifecycle import NoSuchVolume, Pool, ReadOnlyPool, State, Volume, events
from lifecycle.engine import batch, endings
from lifecycle.engine.endings import Ending
from lifecycle.model import Note
from lifecycle.transfer.content import Content
from support.disks import SIZE
from support.holding_open import by_another_process, by_loop_device, by_this_process
from support.image_trees import KERNEL
from support.mounts import read_only
from support.snapshots import snapshot

# ---------------------------------------------------------------- many VMs


def test_several_vms_share_an_image(read_only_pool: Pool) -> None:
    volume = read_only_pool[KERNEL]
    with ExitStack() as vms:
        holders = []
        for hold in (by_this_process, by_another_process, by_loop_device):
            volume.start()
            holders.append(vms.enter_context(hold(volume.path)))
            assert volume.state is State.CREATED
        assert set(volume.in_use_by) == set(holders)
        assert not volume.left_over
        for _vm in range(2):
            assert volume.stop().event == "release"
            assert volume.state is State.CREATED
        read_only_pool.vm("kernels/6.1").start()
        read_only_pool.vm("kernels/6.1").stop()
    volume.stop()


def test_hosts_that_say_who_they_are_share_it_too(read_only_pool: Pool) -> None:
    volume = read_only_pool[KERNEL]
    for who in ("libvirt/one", "libvirt/two"):
        batch.start([volume], by=who)

    assert batch.started_by(volume) is None
    batch.stop([volume])
    batch.stop([volume])


@pytest.mark.parametrize("how", Ending)
def test_however_a_vm_ends_the_image_is_released(read_only_pool: Pool, how: Ending) -> None:
    volume = read_only_pool[KERNEL]
    volume.start()
    with by_this_process(volume.path):
        (ended,) = endings.end([volume], how)

    assert ended.error is None
    assert ended.change is not None
    assert ended.change.event == "release"


def test_if_a_start_fails_those_before_it_are_released_again(pool: Pool) -> None:
    heard = []

    def hear(sender: Pool, *, volume: Volume, change: Any) -> None:
        heard.append(volume.name)

    def lose(sender: Pool, *, volume: Volume, change: Any) -> None:
        if volume.id == KERNEL:
            os.unlink(f"{pool.path}/{KERNEL}")

    with (
        events.starting.connected_to(lose, sender=pool),
        events.released.connected_to(hear, sender=pool),
        pytest.raises(NoSuchVolume, match="vmlinuz"),
    ):
        pool.vm("kernels/6.1").start()

    assert heard == ["modules"]


# ---------------------------------------------------------------- what is refused


def with_a_stream(act: Callable[[Volume, Content], object]) -> Callable[[Volume], object]:
    """Return the act with content that must be read to its end before it can be imported."""

    def act_on(volume: Volume) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"streamed")
        os.close(writing)
        with Content(reading, "a pipe") as content:
            act(volume, content)

    return act_on


WRITING: dict[str, Callable[[Volume], object]] = {
    "create": lambda volume: volume.pool.create_volume("ci/root", SIZE),
    "create from a source": lambda volume: volume.pool.create_volume("ci/root", source=volume),
    "create what is there": lambda volume: volume.pool.create_volume(volume.id, SIZE),
    "create, a clone": lambda volume: volume.pool.clone(volume, "ci/root"),
    "create, a clone from outside": lambda volume: volume.pool.clone(__file__, "ci/root"),
    "create, a clone of a stream": with_a_stream(
        lambda volume, content: volume.pool.clone(content, "ci/root")
    ),
    "write": Volume.write,
    "commit": Volume.commit,
    "checkpoint": Volume.checkpoint,
    "revert": Volume.revert,
    "revert to 0": lambda volume: volume.revert(0),
    "resize": lambda volume: volume.resize(2 * SIZE),
    "import": lambda volume: volume.import_from(__file__),
    "import a stream": with_a_stream(Volume.import_from),
    "remove": Volume.remove,
    "set rw": lambda volume: volume.configure(rw=True),
    "set keep": lambda volume: volume.configure(keep="last 3"),
    "set on_crash": lambda volume: volume.configure(on_crash="revert"),
    "set snapshots": lambda volume: volume.configure(snapshots=False),
    "set source": lambda volume: volume.configure(source="media/debian-12.iso"),
    "pin or label": lambda volume: volume.pin(1),
    "pin or label 0": lambda volume: volume.unpin(0),
    "pin or label a label": lambda volume: volume.label(1, "the first"),
    "forget": lambda volume: volume.forget(1),
}
"""What would write, by the event that the error names; what is behind that tells variants apart."""


@pytest.fixture(params=["at rest", "started", "in use"])
def situation(request: pytest.FixtureRequest, pool: Pool) -> Iterator[None]:
    volume = pool[KERNEL]
    with ExitStack() as vm:
        if request.param != "at rest":
            volume.start()
        if request.param == "in use":
            vm.enter_context(by_this_process(volume.path))
        yield


@pytest.mark.usefixtures("situation")
@pytest.mark.parametrize("event", WRITING)
@pytest.mark.parametrize("mounted_read_only", [False, True])
def test_what_would_write_is_refused_by_name(
    pool: Pool, event: str, mounted_read_only: bool
) -> None:
    with ExitStack() as mount:
        if mounted_read_only:
            mount.enter_context(read_only(Path(pool.path)))
        before = snapshot(pool.path)
        heard: list[str] = []

        def hear(sender: Pool, *, change: Any, **_: object) -> None:
            heard.append(change.event)

        for tenses in events.EVENTS.values():
            tenses.announced.connect(hear, sender=pool)
        with pytest.raises(ReadOnlyPool, match="read-only") as refusal:
            WRITING[event](pool[KERNEL])

        assert event.startswith(refusal.value.event)
        assert refusal.value.state in {State.CREATED, State.ABSENT}
        assert heard == []
        assert snapshot(pool.path) == before


@pytest.mark.parametrize(
    "event",
    ["create", "write", "commit", "checkpoint", "revert", "resize", "import", "remove", "prune"],
)
def test_the_backend_refuses_who_sends_the_signal_past_the_rulebook(pool: Pool, event: str) -> None:
    volume = pool[KERNEL]
    change = volume.start()
    before = snapshot(pool.path)
    with pytest.raises(ReadOnlyPool):
        events.EVENTS[event].done.send(pool, volume=volume, change=change)
    with pytest.raises(ReadOnlyPool):
        pool.backend.configure(KERNEL, volume.config)
    with pytest.raises(ReadOnlyPool):
        pool.backend.annotate(KERNEL, 1, lambda note: Note(label=note.label))
    assert snapshot(pool.path) == before


def test_what_is_allowed_is_said(pool: Pool) -> None:
    assert pool[KERNEL].allowed == ("start", "release")
    with pytest.raises(ReadOnlyPool, match="Allowed now: start, stop"):
        pool[KERNEL].remove()


def test_nothing_is_written_by_what_is_allowed(pool: Pool) -> None:
    before = snapshot(pool.path)
    vm = pool.vm("kernels/6.1")
    vm.start()
    vm.stop()
    assert pool.recover() == []
    for volume in pool:
        assert volume.plan().remove == ()
        assert volume.prune().remove == ()
        assert volume.revisions == volume.history == ()
        volume.tag("who", "someone")
        assert volume.tagged("who") is None

    assert list(pool.verify()) == []
    assert snapshot(pool.path) == before
