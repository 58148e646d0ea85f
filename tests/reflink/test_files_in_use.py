"""What images as files add to the promises of every backend: those who only look, loop devices, files of others."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest

from lifecycle import Pool, State, Volume
from lifecycle.errors import Holder
from lifecycle.linux import holders
from support.disks import MIB, SIZE, cycle, disk, draw, seen
from support.holding_open import by_another_process, by_loop_device, by_this_process, device_size


@pytest.fixture
def volume(pool: Pool) -> Volume:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    return volume


def test_who_looks_for_holders_is_in_no_one_s_way(volume: Volume) -> None:
    """The VM ends while someone still searches for who has its image open; then it is stopped."""
    volume.start()
    draw(volume, b"second")
    real = holders.find
    with ExitStack() as vm:
        vm.enter_context(by_another_process(volume.path))

        def find(*args: Any) -> tuple[Holder, ...]:
            found = real(*args)
            vm.close()
            volume.stop()
            return found

        with mock.patch.object(holders, "find", find):
            assert volume.in_use_by != ()
    assert volume.state is State.COMMITTED


def test_one_who_only_looked_does_not_hold_it(volume: Volume) -> None:
    """To the kernel a look is an opening as any other; it is over before /proc is searched."""
    volume.start()
    draw(volume, b"second")
    with ExitStack() as looking:

        def find(*_: object) -> tuple[()]:
            looking.close()
            return ()

        looking.enter_context(by_this_process(volume.path))
        with mock.patch.object(holders, "find", find):
            volume.stop()
    assert volume.state is State.COMMITTED


def test_without_snapshots_it_starts_when_someone_has_only_looked(volume: Volume) -> None:
    volume.configure(snapshots=False)
    with ExitStack() as looking:

        def find(*_: object) -> tuple[()]:
            looking.close()
            return ()

        looking.enter_context(volume.export())
        with mock.patch.object(holders, "find", find):
            volume.start()
    assert volume.state is State.STARTED


def test_reading_a_loop_device_is_not_writing(volume: Volume) -> None:
    volume.start()
    with by_loop_device(volume.path) as device, open(device.name, "rb") as disk_file:
        assert disk_file.read(5) == b"first"

    assert volume.stop().event == "release"


def test_online_loop_devices_are_told(volume: Volume) -> None:
    volume.start()
    with by_loop_device(volume.path) as one, by_loop_device(volume.path) as other:
        for size in (2 * MIB, 4 * MIB):
            volume.resize(size)
            assert device_size(one.name) == device_size(other.name) == size
        volume.resize(MIB, shrink=True)
        assert device_size(one.name) == MIB
        with open(one.name, "r+b") as device:
            device.seek(MIB - 5)
            device.write(b"there")
            device.flush()
            os.fsync(device.fileno())
    volume.stop()

    assert seen(volume)[-5:] == b"there"


def test_an_image_that_others_made_runs_without_snapshots(pool: Pool) -> None:
    os.makedirs(f"{pool.path}/old")
    with open(f"{pool.path}/old/data.img", "wb") as image:
        image.write(disk(b"old"))
    volume = pool["old/data"]
    volume.configure(snapshots=False)
    number = volume.current
    volume.start()
    assert volume.state is State.STARTED
    assert volume.stop().event == "release"
    assert (volume.current, seen(volume)) == (number, disk(b"old"))


def test_no_record_and_no_current_image_is_damage_that_loses_nothing(pool: Pool) -> None:
    volume = pool.create_volume("db/data", SIZE, snapshots=False)
    volume.start()
    draw(volume, b"one")
    os.unlink(f"{pool.path}/db/data.json")
    assert volume.state is State.DAMAGED
    volume.revert()
    assert disk(b"one") in [seen(volume, one.number) for one in volume.revisions]
