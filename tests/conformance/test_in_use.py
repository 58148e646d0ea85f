"""An image that someone holds open: what would pull it away is refused, and says who holds it."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from conformance.harnesses import HARNESSES, Hold
from lifecycle import InUse, Pool, State, Volume
from support.disks import SIZE, cycle, disk, draw, seen

Act = Callable[[Volume], object]


@pytest.fixture
def volume(pool: Pool) -> Volume:
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    return volume


def discard(volume: Volume) -> None:
    volume.stop(discard=True)


def test_who_holds_it_is_named(volume: Volume, hold: Hold) -> None:
    volume.start()
    with hold(volume) as holder:
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
def test_what_would_pull_it_away_is_refused(
    volume: Volume, by_this_process: Hold, written: bool, act: Act
) -> None:
    volume.start()
    if written:
        draw(volume, b"second")
    before = volume.look()
    with by_this_process(volume), pytest.raises(InUse) as error:
        act(volume)
    assert error.value.volume == volume.id
    assert volume.look() == before

    act(volume)


def test_all_who_hold_it_are_named(volume: Volume, backend: str) -> None:
    volume.start()
    with ExitStack() as held:
        holders = {held.enter_context(hold(volume)) for hold in HARNESSES[backend].holds}
        assert set(volume.in_use_by) == holders
        with pytest.raises(InUse) as error:
            volume.stop()
        assert set(error.value.holders) == holders


def test_one_who_holds_it_after_it_was_closed_elsewhere(
    volume: Volume, by_this_process: Hold, by_another_process: Hold
) -> None:
    volume.start()
    with by_another_process(volume) as other:
        with by_this_process(volume):
            pass
        assert volume.in_use_by == (other,)
    assert volume.in_use_by == ()


def test_at_rest_it_is_not_removed_while_it_is_read(volume: Volume) -> None:
    with volume.export():
        with pytest.raises(InUse):
            volume.remove()
        assert seen(volume) == disk(b"first")
    volume.remove()


def test_what_pulls_nothing_away_goes_on(
    pool: Pool, volume: Volume, by_another_process: Hold
) -> None:
    with volume.export():
        volume.start()
        draw(volume, b"second")
        with by_another_process(volume):
            volume.resize(2 * SIZE)
            volume.pin(1)
            assert volume.state is State.DIRTY
            assert seen(volume) == disk(b"first")
            pool.clone(volume, "ci/clone")
        volume.stop()
        volume.revert()
        volume.import_from(pool["ci/clone"])

    assert seen(volume) == disk(b"first")


def test_a_neighbour_in_use_is_of_no_concern(
    pool: Pool, volume: Volume, by_another_process: Hold
) -> None:
    neighbour = pool.create_volume("ci-42/private", SIZE)
    neighbour.start()
    volume.start()
    with by_another_process(neighbour):
        volume.stop()

    assert volume.state is State.COMMITTED
