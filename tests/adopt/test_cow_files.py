"""An image of the older `file` driver, whose latest changes may lie in a `-cow.img` beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle import Pool, Refused, State, Volume
from support.command_line import Call
from support.disks import SIZE, cycle, disk, seen
from support.snapshots import snapshot


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume whose image lacks what is beside it."""
    made = xfs_pool.create_volume("ci/root", SIZE)
    cycle(made, b"image")
    beside(made).write_bytes(b"changes")
    return made


def beside(volume: Volume, ending: str = "-cow.img") -> Path:
    return Path(f"{volume.pool.path}/{volume.id}{ending}")


def hole(file: Path) -> None:
    file.touch()
    os.truncate(file, SIZE)


def test_it_is_damaged_until_its_own_driver_has_stopped_it(volume: Volume, call: Call) -> None:
    assert volume.state is State.DAMAGED
    before = snapshot(volume.pool.path)
    with pytest.raises(Refused, match="holds data that its image lacks; start and stop the VM"):
        volume.start()
    assert "`file` driver" in call("start", "ci", status=3).complaint
    assert snapshot(volume.pool.path) == before

    beside(volume).unlink()
    hole(beside(volume))
    assert volume.state is State.COMMITTED
    volume.start()
    volume.stop()
    assert seen(volume) == disk(b"image")


@pytest.mark.parametrize("kind", ["nothing", "a hole", "a symbolic link", "a directory", "a pipe"])
def test_what_holds_no_changes_does_no_harm(volume: Volume, kind: str) -> None:
    file = beside(volume)
    file.unlink()
    made = {
        "nothing": lambda: None,
        "a hole": lambda: hole(file),
        "a symbolic link": lambda: file.symlink_to("root.img"),
        "a directory": file.mkdir,
        "a pipe": lambda: os.mkfifo(file),
    }
    made[kind]()
    assert volume.state is State.COMMITTED
    assert [one.id for one in volume.pool] == ["ci/root"]


@pytest.mark.parametrize("settings", [{"source": "ci/root"}, {"size": SIZE, "save_on_stop": False}])
def test_what_keeps_nothing_lacks_nothing(volume: Volume, settings: dict[str, object]) -> None:
    beside(volume).unlink()
    other = volume.pool.create_volume("db/root", **settings)  # type: ignore[arg-type]
    beside(other).write_bytes(b"thrown away")
    assert other.state is State.CREATED
    other.start()
    other.stop()


def test_the_ways_back_keep_the_changes_beside(volume: Volume) -> None:
    volume.revert()
    assert (volume.state, seen(volume)) == (State.REVERTED, disk(b"image"))
    (aside,) = [one for one in os.listdir(beside(volume).parent) if "cow" in one]
    assert aside.startswith("root-cow.img.damaged@")
    assert beside(volume, aside.removeprefix("root")).read_bytes() == b"changes"

    beside(volume).write_bytes(b"more")
    volume.import_from(beside(volume, aside.removeprefix("root")))
    assert volume.state is State.COMMITTED
    assert not beside(volume).exists()


def test_it_goes_with_the_volume(volume: Volume) -> None:
    volume.remove()
    assert os.listdir(volume.pool.path) == ["pool.toml"]


def test_verify_tells_of_it(volume: Volume) -> None:
    beside(volume, "-2-cow.img").write_bytes(b"of no volume")
    found = {one.path: (one.text, one.harmful) for one in volume.pool.verify()}
    assert set(found) == {"ci/root", "ci/root-cow.img", "ci/root-2-cow.img"}
    assert found["ci/root"][1]
    assert found["ci/root-cow.img"] == found["ci/root-2-cow.img"]
    assert "older `file` driver" in found["ci/root-cow.img"][0]
    assert not found["ci/root-cow.img"][1]
