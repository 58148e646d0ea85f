"""Who may write to an image: the working one is given to its hypervisor's user, and taken back before it is current."""

import os
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import InUse, InvalidConfig, Pool, State, Volume, events
from lifecycle.errors import Holder, Unsupported
from lifecycle.linux import holders, ownership
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, seen
from support.holding_open import by_this_process

SOMEONE, GROUP = 64055, 64056


def owner_and_mode(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_uid, status.st_mode & 0o7777


@pytest.fixture
def volume(pool: Pool) -> Volume:
    if os.geteuid() != 0:
        pytest.skip("giving files away takes root")
    volume = pool.create_volume("ci-42/root", SIZE)
    cycle(volume, b"first")
    return volume


def as_someone(*command: str) -> int:
    def become() -> None:
        os.setgroups([])
        os.setgid(SOMEONE)
        os.setuid(SOMEONE)

    done = subprocess.run(command, preexec_fn=become, check=False, capture_output=True)
    return done.returncode


@pytest.mark.parametrize("snapshots", [True, False])
def test_what_a_hypervisor_s_user_owned_is_taken_back_with_the_commit(
    volume: Volume, snapshots: bool
) -> None:
    volume.configure(snapshots=snapshots)
    volume.start()
    draw(volume, b"second")
    os.chown(volume.path, SOMEONE, SOMEONE)
    os.chmod(volume.path, 0o666)
    os.setxattr(volume.path, "trusted.libvirt.security.dac", b"+0:+0")
    seen_as: list[tuple[int, int]] = []

    def note(pool: Pool, **_: Any) -> None:
        seen_as.append(owner_and_mode(f"{pool.path}/ci-42/root.img"))

    with events.committed.connected_to(note, sender=volume.pool):
        volume.stop()
    assert seen_as == [(0, 0o600)]
    assert not [
        one for one in os.listxattr(f"{volume.pool.path}/ci-42/root.img") if "libvirt" in one
    ]
    assert seen(volume) == disk(b"second")


def test_a_stop_that_is_refused_leaves_the_owner_as_he_is(volume: Volume) -> None:
    volume.start()
    draw(volume, b"second")
    os.chown(volume.path, SOMEONE, SOMEONE)
    with by_this_process(volume.path), pytest.raises(InUse):
        volume.stop()
    assert owner_and_mode(volume.path)[0] == SOMEONE


@pytest.mark.parametrize("at", ["the volume", "the pool"])
@pytest.mark.parametrize(
    "begin", ["cloned", "made ahead", "left over", "no snapshots", "disposable"]
)
def test_the_owner_that_is_set_can_use_the_working_image_and_nothing_else(
    pool: Pool, volume: Volume, begin: str, at: str
) -> None:
    if begin == "disposable":
        volume = pool.create_volume("job/root", source=volume)
    if at == "the volume":
        volume.configure(owner=f"{SOMEONE}:{GROUP}")
    else:
        settings = Path(pool.path, "pool.toml")
        settings.write_text(f'{settings.read_text()}owner = "{SOMEONE}:{GROUP}"\n')
        pool = Pool.open(pool.path)
        volume = pool[volume.id]
    if begin == "made ahead":
        volume.configure(precache="always")
        assert pool.backend.make_ahead(volume.id) == 1
    if begin == "no snapshots":
        volume.configure(snapshots=False)
    volume.start()
    if begin == "left over":
        os.chown(volume.path, 0, 0)
        volume.start()
    assert owner_and_mode(volume.path) == (SOMEONE, 0o600)
    assert os.stat(volume.path).st_gid == GROUP
    for directory in (pool.path, f"{pool.path}/{volume.vm}"):
        assert os.stat(directory).st_mode & 0o077 == 0o011
    if begin != "no snapshots":
        assert owner_and_mode(f"{pool.path}/ci-42/root.img") == (0, 0o600)
    volume.stop()


def test_the_owner_really_can(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE)
    volume.configure(owner=str(SOMEONE))
    volume.start()
    above = Path(xfs_pool.path)
    modes = {}
    while above != above.parent:  # a test's own directories are not for everyone
        above = above.parent
        modes[above] = above.stat().st_mode
        os.chmod(above, modes[above] | 0o011)
    try:
        assert as_someone("dd", "if=/dev/zero", f"of={volume.path}", "count=1", "conv=notrunc") == 0
        assert as_someone("ls", f"{xfs_pool.path}/ci-42") != 0
    finally:
        for directory, mode in modes.items():
            os.chmod(directory, mode)
    assert volume.stop().event == "commit"


def test_an_owner_that_is_not_known_stops_the_start_and_nothing_else(volume: Volume) -> None:
    volume.configure(owner="no-such-user")
    with pytest.raises(Unsupported, match="'no-such-user'"):
        volume.start()
    assert volume.state is State.COMMITTED
    volume.configure(owner=None)
    volume.start()


@pytest.mark.parametrize("owner", ["", "a b", "a:b:c", ":x", "x:", "a\nb"])
def test_what_is_no_owner_is_not_set(volume: Volume, owner: str) -> None:
    if owner:
        with pytest.raises(InvalidConfig, match="USER or USER:GROUP"):
            volume.configure(owner=owner)


TOO_HIGH = ["4294967295", "4294967296", "99999999999", "9" * 100, "0:4294967295"]


@pytest.mark.parametrize("owner", TOO_HIGH)
def test_a_number_that_no_user_has_is_not_set(call: Call, xfs_pool: Pool, owner: str) -> None:
    xfs_pool.create_volume("ci-42/root", SIZE)
    complaint = call("set", "ci-42/root", f"owner={owner}", status=2).complaint
    assert "and numbers end at 4294967294" in complaint
    assert call("start", "ci-42/root").out.startswith("ci-42/root: started")


@pytest.mark.parametrize("owner", TOO_HIGH)
def test_a_number_that_no_user_has_and_that_is_set_already_stops_the_start(owner: str) -> None:
    with pytest.raises(Unsupported, match="is not known on this machine"):
        ownership.resolve(owner)


def test_the_highest_numbers_can_be_set(volume: Volume) -> None:
    volume.configure(owner="4294967294:4294967294")
    volume.start()
    held = os.stat(volume.path)
    assert (held.st_uid, held.st_gid) == (4294967294, 4294967294)


# ---------------------------------------------------------------- what cannot be known


def not_told(_fd: int) -> None:
    """Instead of the kernel, where it gives no lease: EACCES without CAP_LEASE, EINVAL of some file systems."""


@pytest.fixture
def silent(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A volume, since the making of which the kernel says nothing."""
    monkeypatch.setattr(holders, "is_open_elsewhere", not_told)
    return volume


def test_what_is_not_known_counts_as_used(silent: Volume) -> None:
    volume = silent
    volume.start()
    draw(volume, b"second")
    for act in (volume.stop, volume.revert, volume.start):
        with pytest.raises(InUse, match="whether its image is in use cannot be known") as error:
            act()
        assert not error.value.known
        assert 'unknown_use = "ignore"' in str(error.value)
    (holder,) = volume.in_use_by
    assert not holder.known
    assert not volume.left_over
    volume.configure(on_crash="commit")
    (recovered,) = volume.pool.recover()
    assert isinstance(recovered.error, InUse)
    assert volume.state is State.DIRTY


def test_who_accepts_it_goes_on_but_not_past_whom_he_can_see(silent: Volume) -> None:
    settings = Path(silent.pool.path, "pool.toml")
    settings.write_text(settings.read_text() + 'unknown_use = "ignore"\n')
    volume = Pool.open(silent.pool.path)["ci-42/root"]
    volume.start()
    draw(volume, b"second")
    assert volume.left_over
    with by_this_process(volume.path) as holder:
        with pytest.raises(InUse) as error:
            volume.stop()
        assert error.value.holders == (holder,)
    assert volume.stop().event == "commit"


def test_without_cap_lease_a_file_is_made_one_s_own_to_ask(volume: Volume) -> None:
    """As in a container: root there may own files, and owners may ask."""
    real = holders.is_open_elsewhere

    def as_without_cap_lease(fd: int) -> bool | None:
        return real(fd) if os.fstat(fd).st_uid == os.geteuid() else None

    volume.start()
    draw(volume, b"second")
    os.chown(volume.path, SOMEONE, SOMEONE)
    with mock.patch.object(holders, "is_open_elsewhere", as_without_cap_lease):
        with by_this_process(volume.path), pytest.raises(InUse):
            volume.stop()
        assert owner_and_mode(volume.path)[0] == SOMEONE
        assert "64055" in volume.in_use_by[0].name
        assert volume.stop().event == "commit"


def test_show_and_list_say_that_it_is_not_known(
    xfs_pool: Pool, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    xfs_pool.create_volume("ci-42/root", SIZE).start()
    monkeypatch.setattr(holders, "is_open_elsewhere", not_told)
    shown = call("show", "--json", "ci-42/root").document
    (listed,) = call("list", "--json").document
    for document in (shown, listed):
        assert document["left_over"] is False
        assert document["in_use_by"][0]["pid"] is None
    assert "perhaps someone" in call("show", "ci-42/root").out


def test_a_holder_says_whether_it_is_one() -> None:
    assert str(Holder("qemu", 7)) == "qemu (pid 7)"
    assert str(Holder("no one says", known=False)) == "perhaps someone, since no one says"


# ---------------------------------------------------------------- looking is in no one's way


def test_looks_and_stops_side_by_side_never_meet(pool: Pool) -> None:
    """`show` in a loop, by another process, while a VM starts and stops a hundred times."""
    volume = pool.create_volume("ci-42/root", SIZE)
    script = (
        "import sys; from lifecycle import Pool\n"
        "volume = Pool.open(sys.argv[1])['ci-42/root']\n"
        "print('ready', flush=True)\n"
        "while True: volume.in_use_by, volume.left_over, volume.tagged('started_by')"
    )
    command = [os.sys.executable, "-c", script, pool.path]  # type: ignore[attr-defined]
    lookers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for looker in lookers:
            assert looker.stdout is not None
            looker.stdout.readline()
        for number in range(50):
            volume.start()
            with open(volume.path, "r+b", opener=without_waiting) as image:
                image.write(b"%d" % number)
            volume.stop()
    finally:
        for looker in lookers:
            looker.kill()
            looker.communicate()
    assert volume.current == 50


def without_waiting(path: str, flags: int) -> int:
    """Open as whoever does not wait for a lease; a look holds one for microseconds, and may be met once."""
    for _again in range(1000):
        try:
            return os.open(path, flags | os.O_NONBLOCK)
        except BlockingIOError:
            os.sched_yield()
    raise AssertionError("someone holds a lease for long")
