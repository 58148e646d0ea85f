"""VMs: all their volumes start and stop together, or none does."""

from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import pytest

from conformance.harnesses import Hold
from lifecycle import (
    VM,
    InUse,
    InvalidName,
    NoSuchVolume,
    Pool,
    Refused,
    State,
    StorageFailed,
    Vetoed,
    Volume,
    events,
)
from lifecycle.engine import batch
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm
from support.failing_backend import backend_fails, no_space

Subscribed = Iterator[None]


@pytest.fixture
def vm(pool: Pool) -> VM:
    """A VM with a volume of each kind, all with content, and a neighbour of a like name."""
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    cycle(pool.create_volume("ci-42/private", SIZE), b"mine")
    pool.create_volume("ci-42/cdrom", SIZE, rw=False)
    pool.create_volume("ci-42/root", source=template)
    pool.create_volume("ci-42/swap", SIZE, save_on_stop=False)
    pool.create_volume("ci-421/root", SIZE)
    return pool.vm("ci-42")


def states(vm: VM) -> dict[str, str]:
    return {volume.name: str(volume.state) for volume in vm.volumes}


AT_REST = {"cdrom": "created", "private": "committed", "root": "created", "swap": "created"}
STARTED = dict.fromkeys(AT_REST, "started")


def draw_on_all(vm: VM) -> None:
    for volume in vm.volumes:
        draw(volume, b"x")


def veto(pool: Pool, event: str, name: str) -> object:
    """Subscribe one who objects to the event on the volume of this name; keep what is returned."""

    def refuse(sender: Pool, *, volume: Volume, change: object) -> None:
        if volume.name == name:
            raise RuntimeError("not this one")

    events.EVENTS[event].announced.connect(refuse, sender=pool)
    return refuse


def test_all_volumes_start(vm: VM) -> None:
    outcome = vm.start()

    assert [(volume.name, change.event) for volume, change in outcome] == [
        (name, "start") for name in sorted(AT_REST)
    ]
    assert states(vm) == STARTED
    assert vm.pool["ci-421/root"].state is State.CREATED
    assert [seen_by_vm(volume) for volume in vm.volumes] == [
        disk(),
        disk(b"mine"),
        disk(b"debian"),
        disk(),
    ]


def test_all_volumes_stop_each_as_its_kind_says(vm: VM) -> None:
    vm.start()
    draw_on_all(vm)
    outcome = vm.stop()

    assert {volume.name: change.event for volume, change in outcome} == {
        "cdrom": "revert",
        "private": "commit",
        "root": "revert",
        "swap": "revert",
    }
    assert seen(vm.pool["ci-42/private"]) == disk(b"xine")
    assert seen(vm.pool["ci-42/cdrom"]) == disk()


def test_a_stop_after_which_nothing_was_written_releases_all(vm: VM) -> None:
    vm.start()

    assert {change.event for _, change in vm.stop()} == {"release"}
    assert states(vm) == AT_REST


def test_a_stop_can_throw_everything_away(vm: VM) -> None:
    vm.start()
    draw_on_all(vm)

    assert {change.event for _, change in vm.stop(discard=True)} == {"revert"}
    assert seen(vm.pool["ci-42/private"]) == disk(b"mine")


def test_a_reason_is_the_cause_of_what_is_kept(vm: VM) -> None:
    vm.start()
    draw_on_all(vm)
    vm.stop(reason="crash")
    private = vm.pool["ci-42/private"]
    private.revert()

    assert [one.cause for one in private.revisions] == ["commit", "crash"]


@pytest.mark.parametrize("name", sorted(AT_REST))
def test_a_veto_of_one_start_starts_none(vm: VM, name: str) -> None:
    objector = veto(vm.pool, "start", name)
    with pytest.raises(Vetoed, match="not this one") as error:
        vm.start()

    assert objector is not None
    assert error.value.volume == f"ci-42/{name}"
    assert states(vm) == AT_REST


@pytest.mark.parametrize("name", sorted(AT_REST))
def test_if_one_fails_those_before_it_are_released_again(vm: VM, name: str) -> None:
    with backend_fails(vm.pool, "start", only=f"ci-42/{name}"), pytest.raises(StorageFailed):
        vm.start()

    assert states(vm) == AT_REST
    vm.start()
    assert states(vm) == STARTED


def test_if_who_started_it_cannot_be_noted_none_has_started(vm: VM) -> None:
    """As on a full disk, by the first volume."""
    with (
        mock.patch.object(vm.pool.backend, "tag", side_effect=no_space()),
        pytest.raises(StorageFailed),
    ):
        batch.start(vm.volumes, by="the host")

    assert states(vm) == AT_REST
    vm.start()


def test_an_interrupt_while_the_first_start_is_reported_starts_none(vm: VM) -> None:
    def interrupt(sender: Pool, *, volume: Volume, change: object) -> None:
        raise KeyboardInterrupt

    with events.started.connected_to(interrupt, sender=vm.pool), pytest.raises(KeyboardInterrupt):
        vm.start()

    assert states(vm) == AT_REST


def test_what_was_left_over_is_left_over_again_if_another_fails(vm: VM) -> None:
    private = vm.pool["ci-42/private"]
    private.start()
    draw(private, b"kept")
    with backend_fails(vm.pool, "start", only="ci-42/swap"), pytest.raises(StorageFailed):
        vm.start()

    assert states(vm) == {**AT_REST, "private": "dirty"}
    assert seen_by_vm(private) == disk(b"kept")


def test_an_image_in_use_starts_none(vm: VM, by_another_process: Hold) -> None:
    root = vm.pool["ci-42/root"]
    root.start()
    with by_another_process(root), pytest.raises(InUse):
        vm.start()

    assert states(vm) == {**AT_REST, "root": "started"}


@pytest.mark.parametrize("name", sorted(AT_REST))
def test_an_image_in_use_stops_none(vm: VM, by_another_process: Hold, name: str) -> None:
    vm.start()
    draw_on_all(vm)
    with by_another_process(vm.pool[f"ci-42/{name}"]) as holder:
        with pytest.raises(InUse) as error:
            vm.stop()
        assert error.value.volume == f"ci-42/{name}"
        assert error.value.holders == (holder,)

    assert states(vm) == dict.fromkeys(AT_REST, "dirty")
    assert vm.pool["ci-42/private"].current == 1
    vm.stop()
    assert vm.pool["ci-42/private"].current == 2


def test_who_reads_what_has_just_been_committed_is_in_no_one_s_way(pool: Pool) -> None:
    """As a backup does that is made of the whole VM once the first commit is reported."""
    one, two = (pool.create_volume(f"ci/{name}", SIZE) for name in ("one", "two"))
    pool.vm("ci").start()
    draw(one, b"x")
    draw(two, b"x")
    heard = []
    with ExitStack() as reading:

        def read(sender: Pool, *, volume: Volume, change: object) -> None:
            heard.append(volume)
            reading.enter_context(two.export())

        with events.committed.connected_to(read, sender=pool):
            outcome = pool.vm("ci").stop()

    assert heard == [one, two]
    assert [change.event for _, change in outcome] == ["commit", "commit"]


def test_a_veto_of_one_stop_stops_none(vm: VM) -> None:
    vm.start()
    draw_on_all(vm)
    objector = veto(vm.pool, "revert", "swap")
    with pytest.raises(Vetoed):
        vm.stop()

    assert objector is not None
    assert states(vm) == dict.fromkeys(AT_REST, "dirty")


def test_a_stop_that_failed_half_way_can_be_repeated(vm: VM) -> None:
    vm.start()
    draw_on_all(vm)
    with backend_fails(vm.pool, "revert", only="ci-42/root"), pytest.raises(StorageFailed):
        vm.stop()
    assert states(vm)["root"] == "dirty"
    vm.stop()

    assert not {"started", "dirty"} & set(states(vm).values())
    assert seen(vm.pool["ci-42/private"]) == disk(b"xine")
    assert vm.pool["ci-42/private"].current == 2


def test_it_stops_those_that_run(vm: VM) -> None:
    vm.pool["ci-42/private"].start()

    assert [volume.name for volume, _ in vm.stop()] == ["private"]
    assert states(vm) == AT_REST


def test_a_vm_at_rest_cannot_be_stopped(vm: VM) -> None:
    with pytest.raises(Refused, match="none of its volumes is running"):
        vm.stop()


@pytest.mark.parametrize("name", ["nowhere", "ci", "ci-42/private"])
def test_there_must_be_such_a_vm(vm: VM, name: str) -> None:
    for act in (vm.pool.vm(name).start, vm.pool.vm(name).stop):
        with pytest.raises(NoSuchVolume):
            act()


@pytest.mark.parametrize("name", ["", "..", "/etc", "a//b", "-x", ".hidden"])
def test_a_name_that_is_none(pool: Pool, name: str) -> None:
    with pytest.raises(InvalidName):
        pool.vm(name)


def test_vms_within_directories(pool: Pool) -> None:
    deep = pool.create_volume("appvms/work/private", SIZE)
    pool.create_volume("appvms/work2/private", SIZE)
    pool.vm("appvms/work").start()

    assert deep.state is State.STARTED
    assert pool["appvms/work2/private"].state is State.CREATED
