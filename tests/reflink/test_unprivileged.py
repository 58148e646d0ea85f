"""A user who is not root, whose permissions hold: an image that no one may write to can still say what it is."""

from __future__ import annotations

import codecs
import ctypes
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lifecycle
from crash.operations import in_child
from lifecycle import Pool, Volume
from lifecycle.engine import batch
from lifecycle.engine.endings import ENDING, Ending, end
from support.disks import SIZE, cycle
from support.mounts import run

SOMEONE = 64055
CLONE_NEWNS = 0x20000


def persistent(pool: Pool) -> Volume:
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    volume.configure(rw=False)
    return volume


def new(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE, rw=False)


def volatile(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE, rw=False, save_on_stop=False)


def disposable(pool: Pool) -> Volume:
    template = pool.create_volume("template/root", SIZE)
    cycle(template, b"one")
    return pool.create_volume("ci/root", source=template, rw=False)


def disposable_from_what_waits(pool: Pool) -> Volume:
    volume = disposable(pool)
    pool["template/root"].configure(ready=1)
    assert pool.backend.make_ahead("template/root") == 1
    return volume


def made_ahead(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.configure(precache="always")
    assert pool.backend.make_ahead("ci/root") == 1
    return volume


def without_snapshots(pool: Pool) -> Volume:
    volume = persistent(pool)
    volume.configure(snapshots=False)
    return volume


def brought_by_others(pool: Pool) -> Volume:
    """An image that others made, which they let no one write to."""
    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    for file in Path(pool.path, "ci").glob("root.img*"):
        os.utime(file)
        file.chmod(0o400)
    volume.accept()
    volume.configure(rw=False)
    return volume


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Load what is loaded late: who becomes someone else may not be let into the directories of the modules."""
    codecs.lookup("ascii")
    for one in ("directory", "engine", "linux", "machine", "reflink", "subscribers"):
        (path,) = importlib.import_module(f"{lifecycle.__name__}.{one}").__path__
        for module in pkgutil.iter_modules([path], f"{lifecycle.__name__}.{one}."):
            if not module.name.endswith("_worker"):  # which is a program
                importlib.import_module(module.name)


@pytest.mark.parametrize(
    "make",
    [
        persistent,
        new,
        volatile,
        disposable,
        disposable_from_what_waits,
        made_ahead,
        without_snapshots,
        brought_by_others,
    ],
)
def test_a_read_only_volume_lives_its_whole_life(
    pool: Pool, make: Callable[[Pool], Volume]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming someone else takes root")
    place = Path(pool.path, "place")
    place.mkdir()
    os.chown(place, SOMEONE, SOMEONE)

    def live() -> None:
        become_someone_at(place)
        volume = make(Pool.create("/mnt/pool", setup_check=pool.config.setup_check))
        for _twice in range(2):
            batch.start([volume], by="domain a")
            mode = os.stat(volume.path).st_mode
            assert (volume.state, mode & 0o200) == ("started", 0)
            volume.tag(ENDING, Ending.FAILED)
            volume.start()  # left over: the tags go
            assert volume.tagged(ENDING) is None
            end([volume], Ending.SUSPENDED)
            assert volume.tagged(ENDING) == "suspended"
            assert os.stat(volume.path).st_mode == mode
            assert volume.stop().event == "release"

    status, error = in_child(live)
    assert not status, error


def become_someone_at(place: Path) -> None:
    """Let this process be another user's, who has that directory at /mnt: those above it are not for everyone."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
    run("mount", "--bind", str(place), "/mnt")
    os.setgroups([])
    os.setgid(SOMEONE)
    os.setuid(SOMEONE)
