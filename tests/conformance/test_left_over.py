"""Working images that a crash left over, and the crash policies."""

import pytest

from conformance.harnesses import Hold
from lifecycle import CrashPolicy, InvalidConfig, Pool, Refused, State, Volume
from support.disks import SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.pools import NewPool


def crashed(pool: Pool, *, on_crash: str | None = None, written: bool = True) -> Volume:
    """Return a volume whose VM ran, wrote and was never stopped."""
    volume = pool.create_volume("ci-42/root", SIZE, on_crash=on_crash)
    cycle(volume, b"first")
    volume.start()
    if written:
        draw(volume, b"second")
    return volume


def test_it_is_left_over_once_no_one_holds_it(pool: Pool, by_another_process: Hold) -> None:
    volume = crashed(pool)
    with by_another_process(volume):
        assert not volume.left_over
    assert volume.left_over
    volume.stop()
    assert not volume.left_over


@pytest.mark.parametrize("written", [False, True])
def test_resume_uses_it_again(pool: Pool, written: bool) -> None:
    """The default of every pool."""
    volume = crashed(pool, written=written)
    before, state = seen_by_vm(volume), State.DIRTY if written else State.STARTED
    change = volume.start()

    assert (change.event, change.source, change.dest) == ("start", state, state)
    assert volume.state is state
    assert seen_by_vm(volume) == before
    assert volume.stop().event == ("commit" if written else "release")


@pytest.mark.parametrize("policy", [CrashPolicy.COMMIT, CrashPolicy.REVERT])
@pytest.mark.parametrize("written", [False, True])
def test_other_policies_want_it_dealt_with_first(
    pool: Pool, policy: CrashPolicy, written: bool
) -> None:
    volume = crashed(pool, on_crash=policy, written=written)
    before = seen_by_vm(volume)
    with pytest.raises(Refused, match="left over") as refusal:
        volume.start()

    assert "start" not in refusal.value.allowed
    assert volume.state is (State.DIRTY if written else State.STARTED)
    assert seen_by_vm(volume) == before
    volume.stop()
    volume.start()
    assert volume.state is State.STARTED


def test_what_a_crash_left_can_be_kept_and_marked(pool: Pool) -> None:
    volume = crashed(pool, on_crash="commit")
    volume.stop(reason="crash")
    assert seen(volume) == disk(b"second")
    volume.revert()

    assert [(one.number, one.cause) for one in volume.revisions] == [(1, "commit"), (2, "crash")]


def test_what_a_crash_left_can_be_thrown_away(pool: Pool) -> None:
    volume = crashed(pool, on_crash="revert")
    volume.stop(discard=True, reason="crash")

    assert seen(volume) == disk(b"first")
    assert numbers(volume) == []


def test_a_pools_policy_holds_for_volumes_without_their_own(new_pool: NewPool) -> None:
    pool = new_pool(on_crash="revert")
    volume = crashed(pool)
    with pytest.raises(Refused, match="left over"):
        volume.start()
    volume.configure(on_crash="resume")
    assert volume.start().dest is State.DIRTY
    volume.configure(on_crash=None)
    with pytest.raises(Refused, match="left over"):
        volume.start()


def test_a_disposable_left_over_is_used_again_on_its_old_image(pool: Pool) -> None:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    disposable = pool.create_volume("ci/root", source=template)
    disposable.start()
    draw(disposable, b"mine", at=SIZE // 2)
    cycle(template, b"trixie")
    before = seen_by_vm(disposable)
    disposable.start()

    assert disposable.outdated
    assert seen_by_vm(disposable) == before


def test_there_are_three_policies(pool: Pool) -> None:
    with pytest.raises(InvalidConfig, match="resume, commit, revert"):
        pool.create_volume("ci/root", SIZE, on_crash="pray")

    assert pool.volumes() == []
