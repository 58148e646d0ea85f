"""VMs come and go and write nothing: a volume is started and stopped, and is as it was before."""

import pytest

from conformance.conftest import Fill
from conformance.harnesses import Hold
from lifecycle import Pool, Refused, State, Vetoed, Volume, events
from lifecycle.engine import batch, endings
from lifecycle.engine.endings import Ending
from lifecycle.engine.lookup import volume_of
from lifecycle.machine import known_pools
from lifecycle.model import Attached, Attachment
from lifecycle.report import documents
from support.disks import disk, seen, seen_by_vm
from support.listeners import Listener, three


@pytest.fixture
def pool(fill: Fill) -> Pool:
    return fill({"ci/root": disk(b"root"), "ci/private": disk(b"mine"), "ci-4/root": disk()})


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool["ci/root"]


def test_a_start_gives_the_vm_what_it_holds_and_a_stop_leaves_it(volume: Volume) -> None:
    before = volume.look()
    for _time in range(3):
        started = volume.start()
        assert (started.event, started.source, started.dest) == ("start", before.state, "started")
        assert seen_by_vm(volume) == disk(b"root")
        stopped = volume.stop()
        assert (stopped.event, stopped.source, stopped.dest) == ("release", "started", before.state)
        assert volume.look() == before
    assert seen(volume) == disk(b"root")


def test_what_is_thrown_away_is_nothing(volume: Volume) -> None:
    volume.start()

    assert volume.stop(discard=True).event == "release"
    assert seen(volume) == disk(b"root")


def test_it_can_be_released_by_name(volume: Volume) -> None:
    volume.start()

    assert "release" in volume.allowed
    assert volume.release().event == "release"
    assert "start" in volume.allowed


def test_a_vms_volumes_come_and_go_together(pool: Pool) -> None:
    vm = pool.vm("ci")

    assert [(one.name, change.event) for one, change in vm.start()] == [
        ("private", "start"),
        ("root", "start"),
    ]
    assert [seen_by_vm(one) for one in vm.volumes] == [disk(b"mine"), disk(b"root")]
    assert {change.event for _, change in vm.stop()} == {"release"}


def test_all_three_signals_are_sent(volume: Volume, listener: Listener) -> None:
    volume.start()
    assert listener.take() == three("start")
    volume.stop()
    assert listener.take() == three("release")


@pytest.mark.parametrize("objects_to", ["ci/private", "ci/root"])
def test_a_veto_of_one_start_starts_none(pool: Pool, listener: Listener, objects_to: str) -> None:
    def refuse(sender: Pool, *, volume: Volume, change: object) -> None:
        if volume.id == objects_to:
            raise RuntimeError("not this one")

    events.starting.connect(refuse, sender=pool)
    with pytest.raises(Vetoed, match="not this one"):
        pool.vm("ci").start()

    assert "start done" not in listener.take()


def test_a_veto_of_a_stop(pool: Pool, volume: Volume) -> None:
    def refuse(sender: Pool, **_: object) -> None:
        raise RuntimeError("not now")

    volume.start()
    with events.releasing.connected_to(refuse, sender=pool), pytest.raises(Vetoed, match="not now"):
        volume.stop()

    assert volume.stop().event == "release"


def test_who_holds_it_is_named(volume: Volume, hold: Hold) -> None:
    volume.start()
    with hold(volume) as holder:
        assert volume.in_use_by == (holder,)
    assert volume.in_use_by == ()
    volume.stop()


def test_what_it_holds_is_cloned_to_another_pool(volume: Volume, pool_elsewhere: Pool) -> None:
    volume.start()
    clone = pool_elsewhere.clone(volume, "far/root")

    assert clone.state is State.COMMITTED
    assert seen(clone) == disk(b"root")


def test_it_takes_the_content_of_no_one_who_is_absent(pool: Pool) -> None:
    absent = Volume(pool, "ci/nowhere")
    for act in (absent.start, absent.stop, absent.release):
        with pytest.raises(Refused) as refusal:
            act()
        assert refusal.value.state == State.ABSENT


@pytest.mark.parametrize("running", [True, False])
def test_a_host_finds_it_by_what_its_vm_is_given(pool: Pool, volume: Volume, running: bool) -> None:
    known_pools.enter(pool.path, "here")
    given = volume.attachment
    if running:
        volume.start()

    assert volume.attachment == given
    assert volume.path == str(given)
    assert pool.backend.id_of(given) == volume.id
    assert volume_of(given) == volume
    for other in (
        Attachment(Attached.FILE, f"{pool.path}/pool.toml"),
        Attachment(Attached.BLOCK, "/dev/null"),
        Attachment(Attached.NETWORK, "ci/root", "nbd", ("localhost:10809",)),
    ):
        assert volume_of(other) is None


def test_no_two_are_given_the_same(pool: Pool) -> None:
    assert len({one.attachment for one in pool}) == 3


def test_a_list_tells_of_each_what_it_tells_itself(
    pool: Pool, volume: Volume, by_another_process: Hold
) -> None:
    volume.start()
    with by_another_process(volume):
        listed = list(documents.of_survey(pool))

        assert listed == [documents.of_volume(one, revisions=False) for one in pool]
        assert [bool(one["in_use_by"]) for one in listed] == [False, True, False]
    assert list(documents.of_survey(pool, "ci-4")) == [
        documents.of_volume(pool["ci-4/root"], revisions=False)
    ]


@pytest.mark.parametrize("how", [Ending.STOPPED, Ending.FAILED, Ending.DISCARDED])
def test_a_host_tells_how_its_vm_ended(volume: Volume, how: Ending) -> None:
    before = volume.look()
    batch.start([volume], by="host/vm")
    (ended,) = endings.end([volume], how)

    assert ended.error is None
    assert ended.change is not None
    assert ended.change.event == "release"
    assert volume.look() == before
