"""The command line on a volume's life: start, stop, checkpoint, revert; of volumes and of VMs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from lifecycle import Change, Pool, Volume, events
from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.engine import batch
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, numbers, seen


@pytest.fixture
def vm(xfs_pool: Pool) -> Pool:
    """A pool with a VM `ci` of a volume of each kind, and a stranger `ci2`."""
    xfs_pool.create_volume("base/root", SIZE)
    xfs_pool.create_volume("ci/data", SIZE)
    xfs_pool.create_volume("ci/root", source="base/root")
    xfs_pool.create_volume("ci/swap", SIZE, save_on_stop=False)
    xfs_pool.create_volume("ci2/root", SIZE)
    return xfs_pool


def states(pool: Pool) -> dict[str, str]:
    """Return the states of all volumes by their ids."""
    return {volume.id: str(volume.state) for volume in pool}


# ---------------------------------------------------------------- start


def test_start_of_a_vm_starts_its_volumes_and_names_their_paths(call: Call, vm: Pool) -> None:
    assert call("start", "ci").out.splitlines() == [
        f"ci/{name}: started, at {vm.path}/ci/{name}-dirty.img" for name in ("data", "root", "swap")
    ]
    assert states(vm) == {
        "base/root": "created",
        "ci/data": "started",
        "ci/root": "started",
        "ci/swap": "started",
        "ci2/root": "created",
    }


def test_start_of_volumes_and_vms_together(call: Call, vm: Pool) -> None:
    documents = call("start", "ci2", "ci/data", "--json").document
    assert [(one["id"], one["state"]) for one in documents] == [
        ("ci2/root", "started"),
        ("ci/data", "started"),
    ]
    assert [one["path"] for one in documents] == [vm["ci2/root"].path, vm["ci/data"].path]
    assert states(vm)["ci/root"] == "created"


def test_start_of_a_volume_is_a_list_of_one_document(call: Call, vm: Pool) -> None:
    (document,) = call("start", "ci/data", "--json").document
    assert document == call("show", "ci/data", "--json").document


def test_start_of_a_vm_is_all_or_none(call: Call, vm: Pool) -> None:
    vm["ci/root"].start()
    before = states(vm)
    with open(vm["ci/root"].path, "rb"):
        complaint = call("start", "ci", status=3).complaint
    assert "ci/root is started" in complaint
    assert f"(pid {os.getpid()})" in complaint
    assert states(vm) == before


def test_start_of_a_left_over_volume_goes_by_its_crash_policy(call: Call, vm: Pool) -> None:
    vm["ci/data"].start()
    assert call("start", "ci/data").out.startswith("ci/data: started")
    vm["ci/data"].configure(on_crash="revert")
    complaint = call("start", "ci/data", status=3).complaint
    assert "left over" in complaint
    assert "--discard" in complaint


# ---------------------------------------------------------------- stop


def test_stop_of_a_vm_does_what_each_kind_says(call: Call, vm: Pool) -> None:
    call("start", "ci")
    for name in ("data", "root"):
        draw(vm[f"ci/{name}"], b"written")
    assert call("stop", "ci").out.splitlines() == [
        "ci/data: committed as 1",
        "ci/root: reverted: what was written is thrown away",
        "ci/swap: released: nothing was written; created as before",
    ]
    assert seen(vm["ci/data"]) == disk(b"written")


def test_stop_with_discard_throws_away(call: Call, vm: Pool) -> None:
    vm["ci/data"].start()
    draw(vm["ci/data"], b"written")
    (document,) = call("stop", "ci/data", "--discard", "--json").document
    assert (document["state"], document["current"], document["revisions"]) == ("reverted", 0, [])
    assert seen(vm["ci/data"]) == disk()


def test_stop_of_a_vm_leaves_what_is_at_rest(call: Call, vm: Pool) -> None:
    vm["ci/data"].start()
    assert [one["id"] for one in call("stop", "ci", "--json").document] == ["ci/data"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("ci", "ci is at rest: cannot stop: none of its volumes is running"),
        ("ci/data", "ci/data is created: cannot stop: it is not running. Allowed now: start"),
    ],
)
def test_stop_of_what_is_at_rest_is_refused(call: Call, vm: Pool, target: str, said: str) -> None:
    assert said in call("stop", target, status=3).complaint


def test_stop_of_a_volume_in_use_is_refused_and_names_who(call: Call, vm: Pool) -> None:
    call("start", "ci")
    draw(vm["ci/data"], b"written")
    with open(vm["ci/data"].path, "rb"):
        complaint = call("stop", "ci", status=3).complaint
        called = call("stop", "ci", "--json", status=3)
    assert "ci/data is dirty" in complaint
    assert f"(pid {os.getpid()})" in complaint
    assert called.document["error"]["kind"] == "InUse"
    assert states(vm)["ci/root"] == "started"
    call("stop", "ci")


# ---------------------------------------------------------------- of several targets all, or none


def in_use(pool: Pool) -> AbstractContextManager[object]:
    """Let someone have an image of `ci2` open."""
    return open(pool["ci2/root"].path, "rb")


def at_rest(pool: Pool) -> AbstractContextManager[object]:
    pool["ci2/root"].stop(discard=True)
    return nullcontext()


@contextmanager
def vetoed(_pool: Pool) -> Iterator[None]:
    """Let a subscriber object to whatever is to happen to `ci2`."""

    def object_to(_pool: Pool, *, volume: Volume, change: Change) -> None:
        if volume.vm == "ci2":
            raise RuntimeError("not today")

    signals = (events.committing, events.checkpointing)
    for signal in signals:
        signal.connect(object_to)
    try:
        yield
    finally:
        for signal in signals:
            signal.disconnect(object_to)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("order", [("ci", "ci2"), ("ci2", "ci/data"), ("ci/data", "ci2/root")])
@pytest.mark.parametrize(
    ("command", "hinder", "said"),
    [
        ("stop", in_use, "ci2/root is dirty: cannot commit: its image is in use"),
        ("stop", at_rest, "cannot stop: "),
        ("stop", vetoed, "vetoed: not today"),
        ("checkpoint", at_rest, "cannot checkpoint: "),
        ("checkpoint", vetoed, "vetoed: not today"),
    ],
)
def test_if_one_target_is_refused_nothing_has_happened_to_the_others(
    call: Call,
    vm: Pool,
    command: str,
    hinder: Callable[[Pool], AbstractContextManager[object]],
    said: str,
    order: tuple[str, ...],
    as_json: bool,
) -> None:
    call("start", "ci", "ci2")
    for volume_id in ("ci/data", "ci2/root"):
        draw(vm[volume_id], b"written")
    with hinder(vm):
        before = states(vm)
        called = call(command, *order, *(["--json"] if as_json else []), status=3)
        assert said in (called.said if as_json else called.complaint)
        assert states(vm) == before
        assert not numbers(vm["ci/data"])
    if hinder is not at_rest:
        done = call(command, *order).out
        assert f"ci/data: {DONE[command]}" in done
        assert f"ci2/root: {DONE[command]}" in done


def test_a_volume_that_is_named_twice_is_stopped_once(call: Call, vm: Pool) -> None:
    call("start", "ci2")
    assert call("stop", "ci2", "ci2/root", "ci2").out == (
        "ci2/root: released: nothing was written; created as before\n"
    )


def test_what_is_started_while_a_stop_looks_is_not_left_running(
    call: Call, vm: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is asked when no one else can start or stop anything of the VM any more."""
    call("start", "ci/data")
    locked = batch.locked

    def meanwhile(vms: Iterable[tuple[Any, str]]) -> AbstractContextManager[None]:
        vm["ci/swap"].start()
        return locked(vms)

    monkeypatch.setattr(batch, "locked", meanwhile)
    call("stop", "ci")
    assert set(states(vm).values()) == {"created"}


@pytest.mark.parametrize(("as_json", "where"), [(False, "out"), (True, "err")])
@pytest.mark.parametrize("command", ["stop", "checkpoint", "remove"])
def test_what_was_done_before_the_file_system_failed_is_said(
    call: Call,
    vm: Pool,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    as_json: bool,
    where: str,
) -> None:
    for volume_id in ("ci/data", "ci2/root"):
        if command != "remove":
            vm[volume_id].start()
            draw(vm[volume_id], b"written")
    event = {"stop": "commit"}.get(command, command)
    real = getattr(ReflinkBackend, event)

    def act(self: ReflinkBackend, pool: Pool, *, volume: Volume, change: Change) -> Any:
        if volume.id == "ci2/root":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, pool, volume=volume, change=change)

    monkeypatch.setattr(ReflinkBackend, event, act)
    called = call(command, "ci/data", "ci2", *(["--json"] if as_json else []), status=1)
    assert f"ci/data: {DONE[command]}" in getattr(called, where)
    assert f"ci2/root: {event} failed: Input/output error" in called.err
    if as_json:
        assert called.document["error"]["kind"] == "StorageFailed"


DONE = {"stop": "committed as 1", "checkpoint": "checkpoint kept as", "remove": "removed"}


# ---------------------------------------------------------------- checkpoint


def test_checkpoint_keeps_what_is_written_by_now(call: Call, vm: Pool) -> None:
    volume = vm["ci/data"]
    volume.start()
    draw(volume, b"now")
    assert call("checkpoint", "ci/data").out == "ci/data: checkpoint kept as revision 1\n"
    (document,) = call("checkpoint", "ci/data", "--json").document
    assert [(one["number"], one["cause"]) for one in document["revisions"]] == [
        (1, "checkpoint"),
        (2, "checkpoint"),
    ]
    assert document["state"] == "dirty"
    assert seen(volume, 1) == disk(b"now")


def test_checkpoint_at_rest_is_refused(call: Call, vm: Pool) -> None:
    assert "ci/data is created" in call("checkpoint", "ci/data", status=3).complaint


def test_checkpoint_of_a_vm_is_of_what_can_be_kept(call: Call, vm: Pool) -> None:
    call("start", "ci")
    draw(vm["ci/data"], b"now")
    assert call("checkpoint", "ci").out == "ci/data: checkpoint kept as revision 1\n"


# ---------------------------------------------------------------- revert


@pytest.mark.parametrize(
    ("options", "said", "current", "content"),
    [
        ((), "reverted to 2", 2, b"two"),
        (("--to", "1"), "reverted to 1", 1, b"one"),
        (("--to", "0"), "reverted to 0 (empty)", 0, b""),
        (("--to", "empty"), "reverted to 0 (empty)", 0, b""),
    ],
)
def test_revert_takes_a_volume_back(
    call: Call, vm: Pool, options: tuple[str, ...], said: str, current: int, content: bytes
) -> None:
    volume = vm["ci/data"]
    for mark in (b"one", b"two", b"three"):
        cycle(volume, mark)
    assert call("revert", "ci/data", *options).out == f"ci/data: {said}\n"
    assert (volume.state, volume.current) == ("reverted", current)
    assert seen(volume) == disk(content)
    assert numbers(volume) == [1, 2, 3]


def test_revert_to_what_it_holds_changes_no_content(call: Call, vm: Pool) -> None:
    for mark in (b"one", b"two"):
        cycle(vm["ci/data"], mark)
    document = call("revert", "ci/data", "--to", "2", "--json").document
    assert (document["state"], document["current"]) == ("reverted", 2)
    assert seen(vm["ci/data"]) == disk(b"two")


def test_revert_after_revert_goes_back_to_the_empty_image(call: Call, vm: Pool) -> None:
    for mark in (b"one", b"two"):
        cycle(vm["ci/data"], mark)
    documents = [call("revert", "ci/data", "--json").document for _step in range(3)]
    assert [one["current"] for one in documents] == [1, 0, 0]


def test_revert_of_a_running_volume_throws_away_what_was_written(call: Call, vm: Pool) -> None:
    volume = vm["ci/data"]
    cycle(volume, b"kept")
    volume.start()
    draw(volume, b"lost")
    assert call("revert", "ci/data").out == "ci/data: reverted: what was written is thrown away\n"
    assert seen(volume) == disk(b"kept")


def test_revert_of_a_running_volume_to_a_revision_says_what_goes_first(
    call: Call, vm: Pool
) -> None:
    volume = vm["ci/data"]
    cycle(volume, b"one")
    cycle(volume, b"two")
    volume.start()
    draw(volume, b"lost")
    called = call("revert", "ci/data", "--to", "1")
    assert called.err == (
        "lifecycle: ci/data was dirty, and no one had its image open:"
        " what was written since its start is thrown away\n"
    )
    assert called.out == "ci/data: reverted to 1\n"
    assert seen(volume) == disk(b"one")
    assert call("revert", "ci/data", "--to", "2").err == ""  # at rest nothing is lost


@pytest.mark.parametrize("source", ["dirty", "reverted"])
def test_of_a_revert_that_is_vetoed_nothing_is_said_to_be_thrown_away(
    call: Call, vm: Pool, source: str
) -> None:
    volume = vm["ci/data"]
    for mark in (b"one", b"two"):
        cycle(volume, mark)
    volume.start()
    draw(volume, b"kept")

    def object_to(_pool: Pool, *, volume: Volume, change: Change) -> None:
        if change.source == source:
            raise RuntimeError("not now")

    events.reverting.connect(object_to)
    called = call("revert", "ci/data", "--to", "1", status=3)
    events.reverting.disconnect(object_to)
    assert "vetoed: not now" in called.complaint
    assert "thrown away" not in called.err
    assert volume.state == "dirty"


def test_revert_of_a_disposable_at_rest_is_refused(call: Call, vm: Pool) -> None:
    complaint = call("revert", "ci/root", status=3).complaint
    assert "each start begins from its source" in complaint


@pytest.mark.parametrize("to", ["-1", "1.5", "x", "", "²", "٣", "EMPTY"])
def test_revert_to_what_is_no_number_is_wrong_usage(call: Call, vm: Pool, to: str) -> None:
    cycle(vm["ci/data"], b"one")
    assert "`empty`" in call("revert", "ci/data", "--to", to, status=2).complaint
    assert vm["ci/data"].current == 1


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize("command", ["start", "stop", "checkpoint", "remove", "verify", "prune"])
@pytest.mark.parametrize("target", ["ci3", "ci/nothing", "base/root/deeper", "Ci"])
def test_a_target_that_is_not_there_is_named(
    call: Call, vm: Pool, command: str, target: str
) -> None:
    complaint = call(command, target, status=1).complaint
    assert complaint.startswith(f"lifecycle: {target}: no such volume or VM in {vm.path}.")
    assert "lifecycle list" in complaint


@pytest.mark.parametrize("command", ["start", "stop", "checkpoint", "remove"])
def test_of_several_targets_one_of_which_is_not_there_none_is_touched(
    call: Call, vm: Pool, command: str
) -> None:
    vm["ci/data"].start()
    draw(vm["ci/data"], b"written")
    before = states(vm)
    call(command, "ci/data", "ci2", "ci3", status=1)
    assert states(vm) == before


def test_a_slash_behind_a_vm_does_not_matter(call: Call, vm: Pool) -> None:
    assert call("start", "ci2/").out.startswith("ci2/root: started")
