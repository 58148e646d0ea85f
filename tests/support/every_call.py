"""Every public call of a volume, to see that each works or raises a `LifecycleError`, whatever the volume has met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from freezegun import freeze_time

from lifecycle import LifecycleError, Pool, Volume
from lifecycle.report import documents
from support.disks import SIZE, cycle, disk, draw, read

ID = "ci-42/root"
MADE = "2026-01-02T03:04:05Z"
LOOKS: dict[str, Callable[[Volume], object]] = {
    "look": Volume.look,
    "revisions": lambda volume: volume.revisions,
    "history": lambda volume: volume.history,
    "usage": lambda volume: volume.usage,
    "size": lambda volume: volume.size,
    "in_use_by": lambda volume: volume.in_use_by,
    "left_over": lambda volume: volume.left_over,
    "outdated": lambda volume: volume.outdated,
    "plan": Volume.plan,
    "export": lambda volume: exported(volume, None),
    "export 1": lambda volume: exported(volume, 1),
    "export 7": lambda volume: exported(volume, 7),
    "document": documents.of_volume,
    "pool": lambda volume: documents.of_pool(volume.pool, Pool.open),
    "list": lambda volume: volume.pool.volumes(),
    "list a VM": lambda volume: volume.pool.volumes(volume.vm),
    "verify": lambda volume: list(volume.pool.verify()),
    "verify a VM": lambda volume: list(volume.pool.verify(volume.vm)),
}
ACTS: dict[str, Callable[[Volume], object]] = {
    "settle": Volume.settle,
    "pin": lambda volume: volume.pin(1),
    "label": lambda volume: volume.label(1, "good"),
    "configure": lambda volume: volume.configure(keep="last 2"),
    "write": Volume.write,
    "checkpoint": Volume.checkpoint,
    "resize": lambda volume: volume.resize(3 * SIZE),
    "shrink": lambda volume: volume.resize(SIZE // 2, shrink=True),
    "clone": lambda volume: volume.pool.clone(volume, "ci-43/root"),
    "recover": lambda volume: volume.pool.recover(),
    "release": Volume.release,
    "commit": Volume.commit,
    "stop": Volume.stop,
    "prune": Volume.prune,
    "create": lambda volume: volume.pool.create_volume(volume.id, SIZE),
    "unpin": lambda volume: volume.unpin(1),
    "forget": lambda volume: volume.forget(1),
    "revert": Volume.revert,
    "revert to 0": lambda volume: volume.revert(0),
    "revert to 7": lambda volume: volume.revert(7),
    "import": lambda volume: volume.import_from(imported(volume)),
    "start": Volume.start,
    "discard": lambda volume: volume.stop(discard=True),
    "start all": lambda volume: volume.pool.vm(volume.vm).start(),
    "stop all": lambda volume: volume.pool.vm(volume.vm).stop(),
    "remove": Volume.remove,
    "create again": lambda volume: volume.pool.create_volume(volume.id, SIZE),
}


def exported(volume: Volume, number: int | None) -> bytes:
    with volume.export(number) as content:
        return read(content.fd)


def imported(volume: Volume) -> Path:
    path = Path(f"{volume.pool.path}.content")
    path.write_bytes(disk(b"content"))
    return path


def at_rest(pool: Pool) -> Volume:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(MADE):
        cycle(volume, b"one")
        cycle(volume, b"two")
    return volume


def dirty(pool: Pool) -> Volume:
    volume = at_rest(pool)
    volume.start()
    draw(volume, b"three")
    return volume


def call_all(volume: Volume, calls: dict[str, Callable[[Volume], object]]) -> list[str]:
    """Call them all, one after the other, and return what raised anything but a `LifecycleError`."""
    wrong = []
    for name, call in calls.items():
        try:
            call(volume)
        except LifecycleError:
            continue
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            wrong.append(f"{name}: {error!r}")
    return wrong
