"""Situations that a volume can be in, and events that can happen to it: what the table in scenes.py is made of."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from crash.operations import STOPPED, Operations, in_child, stop_before, watch
from crash.pictures import STANDARD
from lifecycle import LifecycleError, Pool, Refused, State, Volume
from lifecycle.linux import durability
from lifecycle.states import RUNNING
from lifecycle.transfer.content import Content
from support.disks import cycle, draw

Step = Callable[[Pool], object]

ID = "ci-42/root"
NEIGHBOUR = "ci-42/root2"
FOREIGN = "ci-42/root.img.before-upgrade@x"
OUTSIDE = "outside.raw"
"""A file beside the pool, to import."""


def set_up(pool: Pool) -> None:
    """Make the neighbours, who must never notice anything."""
    neighbour = pool.create_volume(NEIGHBOUR, STANDARD)
    cycle(neighbour, b"n")
    (Path(pool.path) / FOREIGN).write_bytes(b"foreign")
    Path(pool.path, "..", OUTSIDE).write_bytes(b"o".ljust(STANDARD, b"\0"))


# ---------------------------------------------------------------- situations


def nothing(_pool: Pool) -> None:
    """Nothing but the neighbours."""


def created(pool: Pool) -> Volume:
    return pool.create_volume(ID, STANDARD)


def committed(pool: Pool) -> Volume:
    volume = created(pool)
    cycle(volume, b"a")
    cycle(volume, b"b")
    return volume


def committed_thrice(pool: Pool) -> Volume:
    volume = committed(pool)
    cycle(volume, b"c")
    return volume


def reverted(pool: Pool) -> Volume:
    volume = committed(pool)
    volume.revert(1)
    return volume


def reverted_and_forgot(pool: Pool) -> Volume:
    """The highest number is gone, and must not come again."""
    volume = committed_thrice(pool)
    volume.revert(1)
    volume.forget(2, 3)
    return volume


def reverted_to_0(pool: Pool) -> Volume:
    volume = committed(pool)
    volume.revert(0)
    return volume


def thrown_away(pool: Pool) -> Volume:
    """Nothing was ever committed, but it rests as reverted."""
    volume = created(pool)
    dirty(volume)
    volume.stop(discard=True)
    return volume


def dirty(volume: Volume, mark: bytes = b"w") -> Volume:
    volume.start()
    draw(volume, mark)
    return volume


def disposable(pool: Pool) -> Volume:
    return pool.create_volume(ID, source=NEIGHBOUR)


def volatile(pool: Pool) -> Volume:
    return pool.create_volume(ID, STANDARD, save_on_stop=False)


def direct(pool: Pool) -> Volume:
    """Without snapshots: the VM writes to the current image itself."""
    return pool.create_volume(ID, STANDARD, snapshots=False)


def direct_committed(pool: Pool) -> Volume:
    volume = direct(pool)
    cycle(volume, b"a")
    return volume


def direct_reverted(pool: Pool) -> Volume:
    """What is current is a revision too, which the VM must not write to."""
    volume = direct_committed(pool)
    volume.revert(0)
    volume.revert(1)
    return volume


def made_ahead(volume: Volume) -> None:
    """The next working image is there."""
    volume.configure(precache="always")
    assert volume.pool.backend.make_ahead(volume.id) == 1


def disposable_awaited(pool: Pool) -> Volume:
    """A working image of its source waits for it."""
    pool[NEIGHBOUR].configure(ready=1)
    assert pool.backend.make_ahead(NEIGHBOUR) == 1
    return disposable(pool)


def adopted(pool: Pool) -> Volume:
    """An image that was there before the pool: it has no record."""
    (Path(pool.path) / f"{ID}.img").write_bytes(b"a".ljust(STANDARD, b"\0"))
    return pool[ID]


def second(pool: Pool) -> Volume:
    """The only volume of a second VM."""
    volume = pool.create_volume("ci-43/root", STANDARD)
    cycle(volume, b"a")
    return volume


def two(pool: Pool) -> None:
    """A VM with two volumes of its own."""
    for name, mark in (("ci-43/one", b"a"), ("ci-43/two", b"b")):
        cycle(pool.create_volume(name, STANDARD), mark)


def two_dirty(pool: Pool) -> None:
    two(pool)
    for name, mark in (("ci-43/one", b"c"), ("ci-43/two", b"d")):
        dirty(pool[name], mark)


def without_current_image(volume: Volume) -> None:
    os.unlink(f"{volume.pool.path}/{volume.id}.img")


def without_readable_record(volume: Volume) -> None:
    Path(f"{volume.pool.path}/{volume.id}.json").write_bytes(b"{")


def cut_short(act: Step, before: str) -> Callable[[Volume], None]:
    """Return a step that stops the act dead before the first operation of that name."""

    def cut(volume: Volume) -> None:
        def strike(operation: Callable[[], object]) -> object:
            if operations.done[-1].startswith(before):
                stop_before(operation)
            operations.strike_at = len(operations.done) + 1
            return operation()

        operations = Operations(1, strike)

        def do() -> None:
            with watch(operations):
                act(volume.pool)

        status, text = in_child(do)
        assert status == STOPPED, text

    return cut


def then(situation: Callable[[Pool], Volume], *steps: Callable[[Volume], object]) -> Step:
    """Return a situation, and what is done to its volume then."""

    def prepare(pool: Pool) -> None:
        volume = situation(pool)
        for step in steps:
            step(volume)

    return prepare


# ---------------------------------------------------------------- events


def on(event: Callable[[Volume], object], name: str = ID) -> Step:
    """Return the event, done to the volume."""
    return lambda pool: event(pool[name])


def start(volume: Volume) -> None:
    volume.start()


def stop(volume: Volume) -> None:
    volume.stop()


def discard(volume: Volume) -> None:
    volume.stop(discard=True)


def import_file(volume: Volume) -> None:
    volume.import_from(os.path.join(volume.pool.path, "..", OUTSIDE))


def import_stream(volume: Volume) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2 * STANDARD)
    os.write(writing, b"s".ljust(STANDARD, b"\0"))
    os.close(writing)
    with Content(reading, "a stream") as content:
        volume.import_from(content)


def stop_or_prune(pool: Pool) -> None:
    """A commit that came before its prune is not done again; the next prune does what is left."""
    volume = pool[ID]
    volume.stop() if volume.state in RUNNING else volume.prune()


def clone(pool: Pool, name: str = ID) -> None:
    pool.clone(pool[NEIGHBOUR], name)


def clone_or_import(pool: Pool) -> None:
    """A clone is born empty, then imports; cut off between the two it is there, and empty."""
    if ID in pool and pool[ID].state is State.CREATED:
        pool[ID].import_from(pool[NEIGHBOUR])
    else:
        clone(pool)


def forget_rest(pool: Pool) -> None:
    volume = pool[ID]
    numbers = {one.number for one in volume.revisions} & {1, 2}
    if not numbers:
        raise Refused(ID, volume.state, "forget", "there is nothing left to forget")
    volume.forget(*numbers)


def recover(pool: Pool) -> None:
    for one in pool.recover():
        if one.error is not None:
            raise LifecycleError(one.text)


def resize(size: int) -> Callable[[Volume], None]:
    return lambda volume: volume.resize(size) and None


def stop_two(pool: Pool) -> None:
    pool.vm("ci-43").stop()


def as_many(act: Step) -> Step:
    """Return the event with its flushes shared as if its volumes were many."""

    def together(pool: Pool) -> None:
        with mock.patch.object(durability, "_MANY", 2):
            act(pool)

    return together
