"""Reverts: to any revision, down to the empty disk, and back: nothing is consumed by one."""

import pytest

from conformance.harnesses import Hold
from lifecycle import Change, InUse, NoSuchRevision, Pool, Refused, State, Vetoed, Volume, events
from support.disks import SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.listeners import Listener


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A volume at number 3, with revisions 1 and 2."""
    volume = pool.create_volume("ci-42/root", SIZE, keep="all")
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    return volume


CONTENT = {0: disk(), 1: disk(b"one"), 2: disk(b"two"), 3: disk(b"three")}


def test_the_example_of_the_readme(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", "10G")
    volume.start()
    draw(volume, b"first", at=5 << 30)
    assert volume.stop().dest is State.COMMITTED
    assert volume.revert().dest is State.REVERTED
    with volume.export() as content:
        assert content.readable.read(5 << 30, 5) == bytes(5)
    volume.revert(to=1)
    with volume.export() as content:
        assert content.readable.read(5 << 30, 5) == b"first"


@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_to_any_number(volume: Volume, to: int) -> None:
    change = volume.revert(to=to)

    assert (change.event, change.source, change.dest) == ("revert", "committed", "reverted")
    assert change.revision == to
    assert volume.state is State.REVERTED
    assert volume.current == to
    assert seen(volume) == CONTENT[to]
    volume.start()
    assert seen_by_vm(volume) == CONTENT[to]


def test_what_was_current_is_a_revision_then(volume: Volume) -> None:
    volume.revert(to=1)

    assert numbers(volume) == [1, 2, 3]
    assert [one.number for one in volume.revisions if one.current] == [1]
    assert {n: seen(volume, n) for n in CONTENT} == CONTENT


def test_nothing_is_consumed_by_reverting_back_and_forth(volume: Volume) -> None:
    for to in (0, 3, 1, 2, 0, 1, 3, 3, 2):
        volume.revert(to=to)
        assert seen(volume) == CONTENT[to]

    assert numbers(volume) == [1, 2, 3]
    assert {n: seen(volume, n) for n in CONTENT} == CONTENT


def test_revert_after_revert_goes_further_back(volume: Volume) -> None:
    found = [(volume.revert().revision, seen(volume)) for _ in range(4)]

    assert found == [(2, CONTENT[2]), (1, CONTENT[1]), (0, CONTENT[0]), (0, CONTENT[0])]
    assert numbers(volume) == [1, 2, 3]


def test_one_step_back_steps_over_what_was_forgotten(volume: Volume) -> None:
    volume.forget(2)

    assert volume.revert().revision == 1


def test_a_volume_never_written_reverts_to_what_it_is(pool: Pool) -> None:
    volume = pool.create_volume("ci-42/root", SIZE)
    change = volume.revert()

    assert change.revision == 0
    assert volume.state is State.REVERTED
    assert seen(volume) == disk()
    assert volume.revisions == ()


def test_to_what_is_current_changes_the_label_alone(volume: Volume) -> None:
    volume.revert(to=3)

    assert volume.state is State.REVERTED
    assert volume.current == 3
    assert {n: seen(volume, n) for n in CONTENT} == CONTENT
    assert numbers(volume) == [1, 2]


def test_writing_after_a_revert_goes_on_from_there_with_a_new_number(volume: Volume) -> None:
    volume.revert(to=1)

    assert cycle(volume, b"O") == 4
    assert seen(volume) == disk(b"One")
    assert numbers(volume) == [1, 2, 3]
    assert {n: seen(volume, n) for n in CONTENT} == CONTENT


def test_a_running_volume_reverts_to_what_it_was_made_from(volume: Volume) -> None:
    volume.start()
    draw(volume, b"lost")
    change = volume.revert()

    assert (change.source, change.dest, change.revision) == ("dirty", "reverted", None)
    assert volume.current == 3
    assert seen(volume) == CONTENT[3]
    assert numbers(volume) == [1, 2]


def test_an_unwritten_working_image_can_be_thrown_away_too(volume: Volume) -> None:
    volume.start()

    assert volume.revert().source is State.STARTED
    assert volume.state is State.REVERTED


# ---------------------------------------------------------------- running, and to a revision


@pytest.mark.parametrize("to", [0, 1, 3])
@pytest.mark.parametrize("written", [False, True])
def test_a_running_volume_is_taken_to_a_revision_in_two_steps(
    volume: Volume, listener: Listener, to: int, written: bool
) -> None:
    volume.start()
    if written:
        draw(volume, b"lost")
    listener.take()
    change = volume.revert(to=to)

    reverted = "revert announced"
    # all is announced before anything has happened
    assert [name for name, *_ in listener.heard][:3] == [reverted, reverted, "revert done"]
    assert [name for name, *_ in listener.heard][3:] == [
        "revert reported",
        "revert done",
        "revert reported",
    ]
    first, second = (one for name, _, _, one in listener.heard if name == "revert reported")
    source = State.DIRTY if written else State.STARTED
    assert (first.source, first.dest, first.revision) == (source, State.REVERTED, None)
    assert (second.source, second.dest, second.revision) == (State.REVERTED, State.REVERTED, to)
    assert change == second
    assert seen(volume) == CONTENT[to]
    left = {1, 2} if to == 3 else {1, 2, 3}
    assert {n: seen(volume, n) for n in numbers(volume)} == {n: CONTENT[n] for n in left}


def test_the_way_back_is_there_however_few_revisions_are_kept(pool: Pool) -> None:
    """A stop on the way there would have committed what is not wanted, and pruned what is."""
    volume = pool.create_volume("ci-42/root", SIZE, keep="last 1")
    cycle(volume, b"good")
    cycle(volume, b"bad")
    volume.start()
    draw(volume, b"worse")
    volume.revert(to=1)
    assert seen(volume) == disk(b"good")


@pytest.mark.parametrize("objected", [1, 2])
def test_an_objection_to_either_step_leaves_all_as_it_was(volume: Volume, objected: int) -> None:
    volume.start()
    draw(volume, b"kept")
    announced: list[Change] = []

    def object_to(_pool: Pool, *, change: Change, **_: object) -> None:
        announced.append(change)
        if len(announced) == objected:
            raise ValueError("not this one")

    with (
        events.reverting.connected_to(object_to, sender=volume.pool),
        pytest.raises(Vetoed, match="not this one"),
    ):
        volume.revert(to=1)
    assert len(announced) == objected
    assert (volume.state, volume.current, seen_by_vm(volume)) == ("dirty", 3, disk(b"kepte"))


def test_one_that_is_in_use_is_not_taken_anywhere(
    volume: Volume, listener: Listener, by_this_process: Hold
) -> None:
    volume.start()
    draw(volume, b"kept")
    listener.take()
    with by_this_process(volume), pytest.raises(InUse) as refusal:
        volume.revert(to=1)
    # the stop that is advised may commit, and prune what is wanted
    assert "`lifecycle pin ci-42/root 1` before that" in refusal.value.reason
    assert not {"revert done", "revert reported"} & set(listener.take())
    assert (volume.state, volume.current, seen_by_vm(volume)) == ("dirty", 3, disk(b"kepte"))


@pytest.mark.parametrize("to", [4, 99, -1])
def test_a_running_volume_stays_as_it_is_if_there_is_no_such_revision(
    volume: Volume, to: int
) -> None:
    volume.start()
    draw(volume, b"kept")
    with pytest.raises(NoSuchRevision):
        volume.revert(to=to)
    assert seen_by_vm(volume) == disk(b"kepte")


def test_a_disposable_that_runs_has_no_revision_to_go_to(pool: Pool, volume: Volume) -> None:
    job = pool.create_volume("job/root", source=volume.id)
    job.start()
    draw(job, b"kept")
    with pytest.raises(Refused, match="each start begins from its source"):
        job.revert(to=1)
    assert seen_by_vm(job)[:4] == b"kept"


@pytest.mark.parametrize("to", [4, 99, -1])
def test_there_must_be_such_a_revision(volume: Volume, to: int) -> None:
    with pytest.raises(NoSuchRevision) as error:
        volume.revert(to=to)

    assert error.value.number == to
    assert error.value.available == (1, 2)
    assert volume.state is State.COMMITTED


def test_the_empty_image_can_be_had_when_all_revisions_are_gone(volume: Volume) -> None:
    volume.forget(1, 2)
    volume.revert()

    assert volume.current == 0
    assert seen(volume) == disk()
    assert numbers(volume) == [3]
