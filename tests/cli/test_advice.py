"""What messages advise does not cost what was asked for: it is followed here to the letter."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from lifecycle import InUse, Pool, Refused, Volume
from lifecycle.engine import batch
from lifecycle.errors import ForeignFile
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm
from support.holding_open import by_this_process


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """A volume of which little is kept: 2 is current, 1 the only revision."""
    volume = xfs_pool.create_volume("ci/root", SIZE, keep="last 1")
    cycle(volume, b"good")
    cycle(volume, b"bad")
    return volume


def commands(said: str) -> list[list[str]]:
    """Return the commands that a message advises, in order, without the program's name."""
    return [shlex.split(one)[1:] for one in re.findall(r"`(lifecycle [^`]*)`", said)]


def follow(call: Call, error: Exception) -> None:
    for words in commands(str(error)):
        call(*words)


@pytest.mark.parametrize("to", [1, None])
def test_in_use_the_state_to_go_back_to_outlives_the_stop(
    call: Call, root: Volume, to: int | None
) -> None:
    """A host's hook commits when the VM is stopped, as the message says first of all."""
    wanted = disk(b"good") if to == 1 else disk(b"badd")
    root.start()
    draw(root, b"worse")
    with by_this_process(root.path), pytest.raises(InUse) as refusal:
        root.revert(to)
    assert "stop the VM" in str(refusal.value)
    follow(call, refusal.value)  # which is said to be done before
    root.stop()
    cycle(root, b"still worse")
    root.revert(to or 2)
    assert seen(root) == wanted


def test_without_snapshots_the_state_to_go_back_to_outlives_the_stop(
    call: Call, root: Volume
) -> None:
    root.configure(snapshots=False)
    root.start()
    draw(root, b"worse")
    with pytest.raises(Refused, match="stop it, and revert it then") as refusal:
        root.revert(1)
    assert seen_by_vm(root) == disk(b"worse")
    root.configure(keep="last 0")
    follow(call, refusal.value)
    root.stop()
    root.revert(1)
    assert seen(root) == disk(b"good")


@pytest.mark.parametrize(("policy", "left"), [("revert", b"bad"), ("commit", b"worse")])
def test_what_is_left_over_meets_the_crash_policy_it_was_given(
    call: Call, root: Volume, policy: str, left: bytes
) -> None:
    """A stop would commit what the policy throws away."""
    root.configure(on_crash=policy)
    root.start()
    draw(root, b"worse")
    with pytest.raises(Refused) as refusal:
        root.start()
    follow(call, refusal.value)
    root.start()
    assert seen_by_vm(root)[: len(left)] == left


def test_what_a_stop_would_throw_away_is_said(xfs_pool: Pool, root: Volume) -> None:
    job = xfs_pool.create_volume("job/root", source="ci/root")
    job.start()
    draw(job, b"work")
    for volume in (job, root):
        if volume is root:
            root.start()
        for ask in (lambda one: one.configure(rw=False), lambda one: one.resize(512)):
            with pytest.raises(Refused, match="stop it first") as refusal:
                ask(volume)
            throws_away = "which throws away what was written" in str(refusal.value)
            assert throws_away is (volume is job)


def test_one_that_another_has_started_may_be_thrown_away(root: Volume) -> None:
    batch.start([root], by="the domain a")
    with pytest.raises(Refused, match="with --discard it does not"):
        batch.start([root], by="the domain b")


def test_a_template_is_removed_without_removing_what_begins_from_it(
    call: Call, xfs_pool: Pool, root: Volume
) -> None:
    other = xfs_pool.create_volume("other/root", SIZE)
    cycle(other, b"other")
    job = xfs_pool.create_volume("job/root", source="ci/root")
    complaint = call("remove", "ci/root", status=3).complaint
    (words,) = commands(complaint)
    call(*(word.replace("VM/NAME", "other/root") for word in words))
    call("remove", "ci/root")
    job.start()
    assert seen_by_vm(job) == disk(b"other")


def test_what_has_a_second_name_is_not_moved_away_with_what_was_written(root: Volume) -> None:
    root.start()
    draw(root, b"work")
    os.link(root.path, f"{root.path}.copy")
    with pytest.raises(ForeignFile, match="remove the other name, or put a copy in its place"):
        root.stop()
    Path(f"{root.path}.copy").unlink()
    root.stop()
    assert seen(root) == disk(b"work")


def test_a_revision_that_holds_nothing_costs_no_running_volume_anything(root: Volume) -> None:
    (revision,) = Path(root.path).parent.glob("root.img.1@*")
    os.truncate(revision, 0)
    root.start()
    draw(root, b"work")
    with pytest.raises(Exception, match="revision 1 was cut short"):
        root.revert(1)
    assert seen_by_vm(root) == disk(b"work")
