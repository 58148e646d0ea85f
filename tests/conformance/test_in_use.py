"""An image that someone holds open: what would pull it away is refused, and says who holds it."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest

from lifecycle import InUse, Pool, State, Volume
from lifecycle.errors import Holder
from lifecycle.linux import holders
from support.disks import SIZE, cycle, disk, draw, seen
from support.holding_open import Hold, by_another_process, by_loop_device, by_this_process

Act = Callable[[Volume], object]


@pytest.fixture
def volume(pool: Pool) -> Volume:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    return volume


def discard(volume: Volume) -> None:
    volume.stop(discard=True)


@pytest.mark.parametrize("hold", [by_this_process, by_another_process, by_loop_device])
def test_who_holds_it_is_named(volume: Volume, hold: Hold) -> None:
    volume.start()
    with hold(volume.path) as holder:
        with pytest.raises(InUse) as error:
            volume.stop()
        assert error.value.holders == (holder,)
        assert str(holder) in str(error.value)
        assert volume.in_use_by == (holder,)
        assert not volume.left_over
    assert volume.left_over
    volume.stop()


@pytest.mark.parametrize(
    ("written", "act"),
    [
        (False, Volume.start),
        (False, Volume.stop),
        (False, Volume.release),
        (False, Volume.revert),
        (True, Volume.start),
        (True, Volume.stop),
        (True, Volume.commit),
        (True, Volume.revert),
        (True, discard),
    ],
)
def test_what_would_pull_it_away_is_refused(volume: Volume, written: bool, act: Act) -> None:
    volume.start()
    if written:
        draw(volume, b"second")
    before = volume.look()
    with by_this_process(volume.path), pytest.raises(InUse) as error:
        act(volume)
    assert error.value.volume == volume.id
    assert volume.look() == before

    act(volume)


def test_all_who_hold_it_are_named(volume: Volume) -> None:
    volume.start()
    with (
        by_this_process(volume.path) as one,
        by_another_process(volume.path) as two,
        by_loop_device(volume.path) as three,
    ):
        assert set(volume.in_use_by) == {one, two, three}
        with pytest.raises(InUse) as error:
            volume.stop()
        assert set(error.value.holders) == {one, two, three}


def test_one_who_holds_it_after_it_was_closed_elsewhere(volume: Volume) -> None:
    volume.start()
    with by_another_process(volume.path) as other:
        with by_this_process(volume.path):
            pass
        assert volume.in_use_by == (other,)
    assert volume.in_use_by == ()


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


def test_at_rest_it_is_not_removed_while_it_is_read(volume: Volume) -> None:
    with volume.export():
        with pytest.raises(InUse):
            volume.remove()
        assert seen(volume) == disk(b"first")
    volume.remove()


def test_what_pulls_nothing_away_goes_on(pool: Pool, volume: Volume) -> None:
    with volume.export():
        volume.start()
        draw(volume, b"second")
        with by_another_process(volume.path):
            volume.resize(2 * SIZE)
            volume.pin(1)
            assert volume.state is State.DIRTY
            assert seen(volume) == disk(b"first")
            pool.clone(volume, "ci/clone")
        volume.stop()
        volume.revert()
        volume.import_from(pool["ci/clone"])

    assert seen(volume) == disk(b"first")


def test_a_neighbour_in_use_is_of_no_concern(pool: Pool, volume: Volume) -> None:
    neighbour = pool.create_volume("ci-42/private", SIZE)
    neighbour.start()
    volume.start()
    with by_another_process(neighbour.path):
        volume.stop()

    assert volume.state is State.COMMITTED
