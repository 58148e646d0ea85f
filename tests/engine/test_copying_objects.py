"""What can be copied, and sent to other processes: volumes and pools by their path, all else by its content."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import lifecycle
from lifecycle import (
    VM,
    Change,
    CrashPolicy,
    Event,
    LifecycleError,
    Pool,
    Revision,
    State,
    Vetoed,
    Volume,
    errors,
    events,
    policies,
)
from lifecycle.errors import Holder
from lifecycle.transfer.content import Content
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.mounts import FileSystem
from support.pools import create_pool

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    return create_pool(xfs, keep="last 7")


@pytest.fixture
def volume(pool: Pool) -> Volume:
    made = pool.create_volume("ci-42/root", SIZE)
    cycle(made, b"one")
    cycle(made, b"two")
    return made


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {n}": lambda value, n=n: pickle.loads(pickle.dumps(value, n))
        for n in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}

ERRORS: dict[str, LifecycleError] = {
    "Refused": errors.Refused("a/b", "dirty", "start", "no", ["stop"]),
    "InUse": errors.InUse("a/b", "dirty", "stop", [Holder("qemu", 4242), Holder("/dev/loop1")]),
    "Vetoed": errors.Vetoed("a/b", "dirty", "stop", "not now", "house.rules"),
    "ReadOnlyPool": errors.ReadOnlyPool("a/b", "created", "set", ["start"]),
    "InvalidName": errors.InvalidName("a b", "it has a space"),
    "InvalidSize": errors.InvalidSize(-1, "it is below 0"),
    "InvalidPolicy": errors.InvalidPolicy("lats 5", "there is no term `lats`"),
    "InvalidConfig": errors.InvalidConfig("/p/pool.toml", "has no format"),
    "NewerFormat": errors.NewerFormat("/p/pool.toml", 2, 1),
    "NotAPool": errors.NotAPool("/p", "is not a directory"),
    "NoReflinks": errors.NoReflinks("/p"),
    "NoSuchVolume": errors.NoSuchVolume("a/b", "/p"),
    "NoSuchPool": errors.NoSuchPool("vms", ["ci"]),
    "NoSuchRevision": errors.NoSuchRevision("a/b", 7, [1, 2]),
    "Locked": errors.Locked("a", 0.5, [Holder("python3", 1)]),
    "InAnotherPool": errors.InAnotherPool("a/b", "/srv/vms", "/srv/vms/a"),
    "FlushFailed": errors.FlushFailed(
        "a/b",
        "commit",
        errors.FlushError(OSError(errno.EIO, "I/O error"), "/p/x", own=True, unnoted="full"),
    ),
    "StorageFailed": errors.StorageFailed("a/b", "commit", OSError(errno.EIO, "I/O error", "/p/x")),
    "HookFailed": errors.HookFailed("/h/pre-start", "exited with 1", "no"),
    "PluginFailed": errors.PluginFailed("`weekends` (x:y of z 1)", "raised KeyError"),
    "NotASubscriber": errors.NotASubscriber("house.rules", "a coroutine function"),
    "ForeignFile": errors.ForeignFile("/p/x", "a symbolic link"),
    "NotContent": errors.NotContent("/p/x", "is no file"),
    "NotTheSame": errors.NotTheSame("x.img", "at byte 7"),
    "Unsupported": errors.Unsupported("it cannot be"),
    "LifecycleError": LifecycleError("something"),
}


def test_the_table_has_every_error() -> None:
    there = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, LifecycleError)
    }
    assert set(ERRORS) == there


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_keeps_its_class_its_text_and_its_fields(name: str, way: str) -> None:
    error = ERRORS[name]
    error.add_note("met at night")
    found = WAYS[way](error)
    assert type(found) is type(error)
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    if isinstance(error, OSError):
        assert (found.errno, found.strerror, found.filename) == (errno.EIO, "I/O error", "/p/x")


VALUES: dict[str, Callable[[Volume], Any]] = {
    "Change": lambda volume: volume.resize(2 * SIZE),
    "CrashPolicy": lambda _volume: CrashPolicy.COMMIT,
    "Event": lambda _volume: Event.START,
    "Kind": lambda volume: volume.kind,
    "Revision": lambda volume: volume.revisions[0],
    "State": lambda volume: volume.state,
    "VM": lambda volume: volume.pool.vm("ci-42"),
    "Volume": lambda volume: volume,
    "Pool": lambda volume: volume.pool,
    "a plan": Volume.plan,
    "a policy": lambda volume: volume.pool.policy_for(volume.config),
    "what was recovered": lambda volume: volume.pool.recover(),
    "a view": Volume.look,
    "a volume's settings": lambda volume: volume.config,
    "a pool's settings": lambda volume: volume.pool.config,
    "a survey": lambda volume: list(volume.pool.backend.survey()),
    "what verify finds": lambda volume: list(volume.pool.verify()),
    "a pool's capacity": lambda volume: volume.pool.capacity(),
    "several in one": lambda volume: {volume: [volume, volume.pool], "of": {volume.pool.vm("x")}},
}
MODULES = {"errors", "events", "policies"}


def test_the_table_has_every_public_name() -> None:
    assert set(lifecycle.__all__) <= {*ERRORS, *VALUES, *MODULES}


def plain(value: Any) -> Any:
    """Return what a value says of itself, for those that are compared by who they are."""
    if isinstance(value, Pool):
        return value.path, value.config
    if isinstance(value, VM):
        return value.name, plain(value.pool)
    if isinstance(value, policies.Policy):
        return value.line, value.zone
    if isinstance(value, (dict, set, list)):
        return sorted(repr(plain(one)) for one in value)
    return value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", VALUES)
def test_everything_public_can_be_copied_and_sent(name: str, way: str, volume: Volume) -> None:
    value = VALUES[name](volume)
    found = WAYS[way](value)
    assert type(found) is type(value)
    assert plain(found) == plain(value)


def test_what_was_sent_works(volume: Volume) -> None:
    policy, view, change = pickled(
        (
            volume.pool.policy_for(volume.config),
            volume.look(),
            Change("resize", State.CREATED, State.CREATED, NOW, asked={"size": 1}),
        )
    )
    assert policy.plan([Revision(1, NOW)], NOW).keep == (1,)
    assert list(view.numbers) == numbers(volume)
    assert view.allowed == volume.allowed
    with pytest.raises(TypeError):
        change.asked["size"] = 2


def test_a_copy_in_this_process_has_the_same_subscribers(volume: Volume) -> None:
    def refuse(_pool: Pool, **_: Any) -> None:
        raise RuntimeError("not now")

    events.starting.connect(refuse, sender=volume.pool)
    for made in (
        copy.copy(volume),
        copy.deepcopy(volume),
        copy.deepcopy([volume.pool])[0]["ci-42/root"],
    ):
        with pytest.raises(Vetoed, match="not now"):
            made.start()


def test_content_that_is_open_cannot(volume: Volume) -> None:
    with volume.export() as content:
        for way in WAYS.values():
            with pytest.raises(
                TypeError, match="ci-42/root: an open descriptor can neither be copied"
            ):
                way(content)
        assert isinstance(content, Content)
        assert content.size == SIZE


def work(volume: Volume, pool: Pool, vm: VM, error: LifecycleError) -> tuple[Any, ...]:
    """Do, in another process, what it was sent for; and send back what came of it."""
    volume.start()
    draw(volume, b"sent")
    change = volume.stop()
    return change, volume, volume.look(), volume.plan(), pool, vm.volumes, error


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that there are threads is known
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_work_on_what_they_are_sent(method: str, volume: Volume) -> None:
    vm = volume.pool.vm("ci-42")
    with multiprocessing.get_context(method).Pool(1) as others:
        change, sent, view, plan, pool, volumes, error = others.apply(
            work, (volume, volume.pool, vm, ERRORS["InUse"])
        )
    assert change.revision == 3
    assert sent == volume
    assert (view.current, view.state) == (3, State.COMMITTED)
    assert plan.keep == (1, 2)
    assert pool.path == volume.pool.path
    assert volumes == vm.volumes
    assert str(error) == str(ERRORS["InUse"])
    assert seen(volume) == disk(b"sent")


def test_what_another_process_raises_arrives(volume: Volume) -> None:
    with (
        multiprocessing.get_context("spawn").Pool(1) as others,
        pytest.raises(errors.Refused) as caught,
    ):
        others.apply(Volume.stop, (volume,))
    assert (caught.value.volume, caught.value.state) == ("ci-42/root", "committed")


def test_a_pool_that_is_gone_meanwhile_is_told(pool: Pool, volume: Volume) -> None:
    sent = pickle.dumps(volume)
    volume.remove()
    assert pickle.loads(sent).state is State.ABSENT
    os.unlink(f"{pool.path}/pool.toml")
    with pytest.raises(errors.NotAPool):
        pickle.loads(sent)
