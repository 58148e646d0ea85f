"""Read-only pools: what is a volume there, what many VMs share, what is refused, and who may read."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conformance.conftest import plant
from conftest import miss
from lifecycle import (
    InvalidConfig,
    NoSuchVolume,
    NotAPool,
    Pool,
    ReadOnlyPool,
    Refused,
    State,
    Volume,
    events,
)
from lifecycle.engine import batch, endings, registry
from lifecycle.engine.endings import Ending
from lifecycle.errors import StorageFailed
from lifecycle.model import Finding, Note
from lifecycle.transfer.content import Content
from support.disks import SIZE, disk, seen
from support.holding_open import by_another_process, by_loop_device, by_this_process
from support.mounts import CannotMount, FileSystem, read_only, run
from support.snapshots import snapshot

KERNEL = "kernels/6.1/vmlinuz"


@pytest.fixture
def tree(xfs: FileSystem) -> Path:
    """A tree of images that is no pool yet."""
    tree = xfs.new_directory()
    plant(
        tree,
        {
            KERNEL: b"kernel",
            "kernels/6.1/modules.img": disk(b"modules"),
            "media/debian-12.iso": disk(b"installer"),
        },
    )
    return tree


@pytest.fixture
def pool(tree: Path) -> Pool:
    """A pool of the tree, in a directory that could be written to."""
    return Pool.create(tree, driver="directory")


@pytest.fixture
def read_only_pool(pool: Pool) -> Iterator[Pool]:
    """The pool on a mount that cannot be written to."""
    with read_only(Path(pool.path)):
        yield Pool.open(pool.path)


def ids(pool: Pool) -> list[str]:
    return [volume.id for volume in pool]


# ---------------------------------------------------------------- what is a volume


def test_each_file_is_a_volume(pool: Pool) -> None:
    assert ids(pool) == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso"]
    (Path(pool.path) / "hooks.d").mkdir()
    assert list(pool.backend.vms()) == ["kernels/6.1", "media"]
    assert list(pool.verify()) == []


@pytest.mark.parametrize(
    ("files", "volumes"),
    [
        (["vmlinuz"], {"vmlinuz": "vmlinuz"}),
        (["root.img"], {"root": "root.img"}),
        (["a.iso", "a.iso.img"], {"a.iso": "a.iso.img"}),
        (["modules", "modules.img"], {"modules": "modules.img"}),
        (["x.img.img"], {"x.img": "x.img.img"}),
        (["x.img", "x.img.img"], {"x": "x.img", "x.img": "x.img.img"}),
        (["initrd.img-6.1"], {"initrd.img-6.1": "initrd.img-6.1"}),
        ([".img"], {}),
        (["root-dirty.img", "root.img~1", "root.img.1@2026-01-02T03:04:05Z"], {}),
        (["größe"], {"größe": "größe"}),
    ],
    ids=str,
)
def test_a_volume_is_named_as_its_file_without_img(
    xfs: FileSystem, files: list[str], volumes: dict[str, str]
) -> None:
    tree = xfs.new_directory()
    plant(tree, {f"vm/{file}": file.encode() for file in files})
    pool = Pool.create(tree, driver="directory")

    assert ids(pool) == [f"vm/{name}" for name in sorted(volumes)]
    for name, file in volumes.items():
        volume = pool[f"vm/{name}"]
        assert volume.path == f"{tree}/vm/{file}"
        assert pool.backend.id_at(f"vm/{file}") == volume.id
        assert seen(volume) == file.encode()
    for file in {one for one in files if one.endswith(".img")} - set(volumes):
        assert f"vm/{file}" not in pool
    for file in set(files) - set(volumes.values()):
        assert pool.backend.id_at(f"vm/{file}") is None
        assert f"vm/{file}" in [finding.path for finding in pool.verify()]


def bind_socket(path: Path) -> None:
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(
                f"/proc/self/fd/{parent}/{path.name}"
            )  # its path may be longer than a socket's
    finally:
        os.close(parent)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "vm/link": (lambda path: path.symlink_to("image"), "a symbolic link"),
    "vm/link.img": (lambda path: path.symlink_to("image"), "a symbolic link"),
    "vm/outside": (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
    "vm/nowhere": (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    "vm/pipe": (os.mkfifo, "a pipe"),
    "vm/null": (
        lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)),
        "a device",
    ),
    "vm/disk": (
        lambda path: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 9999)),
        "a device",
    ),
    "vm/socket": (bind_socket, "a socket"),
    "vm/.hidden": (lambda path: path.touch(), "starts with `.`"),
    "vm/-rf": (lambda path: path.touch(), "starts with `.` or `-`"),
    "vm/a~": (lambda path: path.touch(), "`~`"),
    "vm/" + "x" * 200: (lambda path: path.touch(), "longer than 190"),
    "lying-about": (lambda path: path.touch(), "lies in no VM"),
    ".git": (lambda path: path.mkdir(), "is no VM"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_no_volume(xfs: FileSystem, name: str) -> None:
    tree = xfs.new_directory()
    plant(tree, {"vm/image": b"image"})
    pool = Pool.create(tree, driver="directory")
    make, what = PLANTED[name]
    make(tree / name)

    assert ids(pool) == ["vm/image"]
    assert pool.backend.id_at(name) is None
    (finding,) = pool.verify()
    assert (finding.path, finding.harmful) == (name, False)
    assert what in finding.text
    if name.startswith("vm/") and name != "vm/link.img":
        assert name not in pool
    if name.startswith("vm/"):
        assert list(pool.verify("vm")) == [finding]


def test_a_link_beside_an_image_of_its_name_does_not_hide_it(pool: Pool) -> None:
    os.symlink("modules.img", f"{pool.path}/{KERNEL}.img")

    assert pool[KERNEL].path == f"{pool.path}/{KERNEL}"


def test_directories_behind_links_are_not_of_the_tree(pool: Pool, xfs: FileSystem) -> None:
    outside = xfs.new_directory()
    plant(outside, {"vm/image": b"image"})
    os.symlink(outside, f"{pool.path}/linked")
    os.symlink("kernels", f"{pool.path}/media/again")
    assert ids(pool) == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso"]

    for missing in ("linked/vm/image", "media/again/6.1/vmlinuz"):
        assert missing not in pool
        with pytest.raises(NoSuchVolume):
            pool[missing]
        with pytest.raises(Refused, match="absent"):
            Volume(pool, missing).start()
        assert pool.volumes(missing.rpartition("/")[0]) == []


def test_what_vanishes_is_absent(pool: Pool) -> None:
    volume = pool[KERNEL]
    volume.start()
    os.unlink(volume.path)

    assert volume.state is State.ABSENT
    assert (volume.usage, volume.in_use_by, volume.allowed) == (0, (), ())
    assert volume.path == f"{pool.path}/{KERNEL}.img"
    with pytest.raises(NoSuchVolume):
        volume.export()
    with pytest.raises(Refused, match="not running"):
        volume.stop()


def test_an_empty_file_is_worth_a_note(pool: Pool, tree: Path) -> None:
    (tree / "media" / "empty.iso").touch()

    (finding,) = pool.verify()
    assert finding.path == "media/empty.iso"
    assert "is empty" in finding.text


# ---------------------------------------------------------------- many VMs


def test_several_vms_share_an_image(read_only_pool: Pool) -> None:
    volume = read_only_pool[KERNEL]
    with ExitStack() as vms:
        holders = []
        for hold in (by_this_process, by_another_process, by_loop_device):
            volume.start()
            holders.append(vms.enter_context(hold(volume.path)))
            assert volume.state is State.CREATED
        assert set(volume.in_use_by) == set(holders)
        assert not volume.left_over
        for _vm in range(2):
            assert volume.stop().event == "release"
            assert volume.state is State.CREATED
        read_only_pool.vm("kernels/6.1").start()
        read_only_pool.vm("kernels/6.1").stop()
    volume.stop()


def test_hosts_that_say_who_they_are_share_it_too(read_only_pool: Pool) -> None:
    volume = read_only_pool[KERNEL]
    for who in ("libvirt/one", "libvirt/two"):
        batch.start([volume], by=who)

    assert batch.started_by(volume) is None
    batch.stop([volume])
    batch.stop([volume])


@pytest.mark.parametrize("how", Ending)
def test_however_a_vm_ends_the_image_is_released(read_only_pool: Pool, how: Ending) -> None:
    volume = read_only_pool[KERNEL]
    volume.start()
    with by_this_process(volume.path):
        (ended,) = endings.end([volume], how)

    assert ended.error is None
    assert ended.change is not None
    assert ended.change.event == "release"


def test_if_a_start_fails_those_before_it_are_released_again(pool: Pool) -> None:
    heard = []

    def hear(sender: Pool, *, volume: Volume, change: Any) -> None:
        heard.append(volume.name)

    def lose(sender: Pool, *, volume: Volume, change: Any) -> None:
        if volume.id == KERNEL:
            os.unlink(f"{pool.path}/{KERNEL}")

    with (
        events.starting.connected_to(lose, sender=pool),
        events.released.connected_to(hear, sender=pool),
        pytest.raises(NoSuchVolume, match="vmlinuz"),
    ):
        pool.vm("kernels/6.1").start()

    assert heard == ["modules"]


# ---------------------------------------------------------------- what is refused


def with_a_stream(act: Callable[[Volume, Content], object]) -> Callable[[Volume], object]:
    """Return the act with content that must be read to its end before it can be imported."""

    def act_on(volume: Volume) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"streamed")
        os.close(writing)
        with Content(reading, "a pipe") as content:
            act(volume, content)

    return act_on


WRITING: dict[str, Callable[[Volume], object]] = {
    "create": lambda volume: volume.pool.create_volume("ci/root", SIZE),
    "create from a source": lambda volume: volume.pool.create_volume("ci/root", source=volume),
    "create what is there": lambda volume: volume.pool.create_volume(volume.id, SIZE),
    "create, a clone": lambda volume: volume.pool.clone(volume, "ci/root"),
    "create, a clone from outside": lambda volume: volume.pool.clone(__file__, "ci/root"),
    "create, a clone of a stream": with_a_stream(
        lambda volume, content: volume.pool.clone(content, "ci/root")
    ),
    "write": Volume.write,
    "commit": Volume.commit,
    "checkpoint": Volume.checkpoint,
    "revert": Volume.revert,
    "revert to 0": lambda volume: volume.revert(0),
    "resize": lambda volume: volume.resize(2 * SIZE),
    "import": lambda volume: volume.import_from(__file__),
    "import a stream": with_a_stream(Volume.import_from),
    "remove": Volume.remove,
    "set rw": lambda volume: volume.configure(rw=True),
    "set keep": lambda volume: volume.configure(keep="last 3"),
    "set on_crash": lambda volume: volume.configure(on_crash="revert"),
    "set snapshots": lambda volume: volume.configure(snapshots=False),
    "set source": lambda volume: volume.configure(source="media/debian-12.iso"),
    "pin or label": lambda volume: volume.pin(1),
    "pin or label 0": lambda volume: volume.unpin(0),
    "pin or label a label": lambda volume: volume.label(1, "the first"),
    "forget": lambda volume: volume.forget(1),
}
"""What would write, by the event that the error names; what is behind that tells variants apart."""


@pytest.fixture(params=["at rest", "started", "in use"])
def situation(request: pytest.FixtureRequest, pool: Pool) -> Iterator[None]:
    volume = pool[KERNEL]
    with ExitStack() as vm:
        if request.param != "at rest":
            volume.start()
        if request.param == "in use":
            vm.enter_context(by_this_process(volume.path))
        yield


@pytest.mark.usefixtures("situation")
@pytest.mark.parametrize("event", WRITING)
@pytest.mark.parametrize("mounted_read_only", [False, True])
def test_what_would_write_is_refused_by_name(
    pool: Pool, event: str, mounted_read_only: bool
) -> None:
    with ExitStack() as mount:
        if mounted_read_only:
            mount.enter_context(read_only(Path(pool.path)))
        before = snapshot(pool.path)
        heard: list[str] = []

        def hear(sender: Pool, *, change: Any, **_: object) -> None:
            heard.append(change.event)

        for tenses in events.EVENTS.values():
            tenses.announced.connect(hear, sender=pool)
        with pytest.raises(ReadOnlyPool, match="read-only") as refusal:
            WRITING[event](pool[KERNEL])

        assert event.startswith(refusal.value.event)
        assert refusal.value.state in {State.CREATED, State.ABSENT}
        assert heard == []
        assert snapshot(pool.path) == before


@pytest.mark.parametrize(
    "event",
    ["create", "write", "commit", "checkpoint", "revert", "resize", "import", "remove", "prune"],
)
def test_the_backend_refuses_who_sends_the_signal_past_the_rulebook(pool: Pool, event: str) -> None:
    volume = pool[KERNEL]
    change = volume.start()
    before = snapshot(pool.path)
    with pytest.raises(ReadOnlyPool):
        events.EVENTS[event].done.send(pool, volume=volume, change=change)
    with pytest.raises(ReadOnlyPool):
        pool.backend.configure(KERNEL, volume.config)
    with pytest.raises(ReadOnlyPool):
        pool.backend.annotate(KERNEL, 1, lambda note: Note(label=note.label))
    assert snapshot(pool.path) == before


def test_what_is_allowed_is_said(pool: Pool) -> None:
    assert pool[KERNEL].allowed == ("start", "release")
    with pytest.raises(ReadOnlyPool, match="Allowed now: start, release"):
        pool[KERNEL].remove()


def test_nothing_is_written_by_what_is_allowed(pool: Pool) -> None:
    before = snapshot(pool.path)
    vm = pool.vm("kernels/6.1")
    vm.start()
    vm.stop()
    assert pool.recover() == []
    for volume in pool:
        assert volume.plan().remove == ()
        assert volume.prune().remove == ()
        assert volume.revisions == volume.history == ()
        volume.tag("who", "someone")
        assert volume.tagged("who") is None

    assert list(pool.verify()) == []
    assert snapshot(pool.path) == before


# ---------------------------------------------------------------- making one


def test_pool_toml_is_for_all_to_read(pool: Pool) -> None:
    assert stat.S_IMODE(os.stat(f"{pool.path}/pool.toml").st_mode) == 0o644
    assert Pool.open(pool.path).config.driver == "directory"


def test_a_reflink_pools_is_for_its_owner(xfs: FileSystem) -> None:
    pool = Pool.create(xfs.new_directory())

    assert stat.S_IMODE(os.stat(f"{pool.path}/pool.toml").st_mode) == 0o600


@pytest.mark.parametrize(
    "setting",
    [
        {"keep": "last 3"},
        {"on_crash": "revert"},
        {"timezone": "Europe/Berlin"},
        {"setup_check": False},
        {"lock_timeout": 1.0},
        {"reserve": "5%"},
        {"prune_for_reserve": True},
    ],
    ids=str,
)
def test_a_setting_of_no_use(tree: Path, setting: dict[str, Any]) -> None:
    before = snapshot(tree)
    (name,) = setting
    with pytest.raises(InvalidConfig, match=f"`{name}` is of no use in a read-only pool"):
        Pool.create(tree, driver="directory", **setting)
    assert snapshot(tree) == before


def test_a_setting_of_no_use_that_someone_wrote(tree: Path) -> None:
    Pool.create(tree, driver="directory")
    with (tree / "pool.toml").open("a") as file:
        file.write('reserve = "99%"\n')
    pool = Pool.open(tree)

    assert list(pool.verify()) == [
        Finding(
            "pool.toml", "`reserve` has no effect, for nothing is ever written here", harmful=False
        )
    ]
    pool[KERNEL].start()


def test_no_xfs_is_embedded_in_one(xfs: FileSystem) -> None:
    place = xfs.new_directory() / "new"
    with pytest.raises(InvalidConfig, match="for the driver reflink"):
        Pool.create(place, driver="directory", loop="1G")
    assert not place.exists()


@pytest.fixture
def medium(xfs: FileSystem, tree: Path) -> Iterator[Path]:
    """The tree as a squashfs, mounted in an otherwise empty directory that can be written to."""
    above = xfs.new_directory()
    image, here = xfs.new_directory() / "medium.squashfs", above / "medium"
    here.mkdir()
    try:
        run("mksquashfs", str(tree), str(image), "-quiet", "-no-progress")
        run("mount", "-t", "squashfs", "-o", "loop", str(image), str(here))
    except CannotMount as error:
        miss(f"needs a squashfs: {error}")
    yield here
    run("umount", "--lazy", str(here))


def test_a_medium_that_cannot_be_written_to_says_the_way_out(medium: Path) -> None:
    with pytest.raises(NotAPool, match="make the directory above it a pool") as error:
        Pool.create(medium, driver="directory")
    assert "mount --bind" in str(error.value)


def test_a_medium_below_a_pool(medium: Path, xfs: FileSystem) -> None:
    pool = Pool.create(medium.parent, driver="directory")
    volume = pool["medium/kernels/6.1/modules"]

    assert ids(pool) == [
        "medium/kernels/6.1/modules",
        f"medium/{KERNEL}",
        "medium/media/debian-12.iso",
    ]
    assert list(pool.verify()) == []
    volume.start()
    with by_another_process(volume.path) as holder:
        assert volume.in_use_by == (holder,)
        volume.stop()
    assert volume.size == SIZE
    assert volume.usage > 0
    assert seen(volume) == disk(b"modules")
    clone = Pool.create(xfs.new_directory()).clone(volume, "ci/modules")
    assert seen(clone) == disk(b"modules")


# ---------------------------------------------------------------- a user who may only read

NOBODY = 65534


@pytest.fixture
def open_pool(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """The pool where every user can reach it, with what is needed to open it loaded already.

    The tests' own directories, and perhaps this package's, are for root alone.
    """
    for path in (Path(pool.path), *Path(pool.path).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.setitem(
        registry.BACKENDS, "directory", "lifecycle.directory.backend:DirectoryBackend"
    )
    monkeypatch.setenv("LIFECYCLE_CONFIG", "/mnt/no-settings")
    run("mount", "--bind", pool.path, "/mnt")
    try:
        use(Pool.open("/mnt"))
        yield pool
    finally:
        run("umount", "--lazy", "/mnt")


@pytest.fixture
def as_nobody(open_pool: Pool) -> Iterator[Pool]:
    """The pool, for a user who is neither root nor the owner of anything in it, which this process is now."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield Pool.open("/mnt")
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def use(pool: Pool) -> None:
    """Do all that one may do with a pool that is only read."""
    vm = pool.vm("kernels/6.1")
    vm.start()
    with by_this_process(f"{pool.path}/{KERNEL}"):
        vm.stop()
    assert seen(pool["media/debian-12.iso"]) == disk(b"installer")
    assert list(pool.verify()) == []
    assert pool.recover() == []
    assert [volume.prune().remove for volume in pool] == [()] * 3
    with pytest.raises(ReadOnlyPool):
        pool[KERNEL].remove()


def test_a_user_who_may_only_read(as_nobody: Pool) -> None:
    assert not os.access(as_nobody.path, os.W_OK, effective_ids=True)
    use(as_nobody)
    with pytest.raises(NotAPool, match="cannot be written to"):
        Pool.create(f"{as_nobody.path}/media", driver="directory")


def test_a_directory_and_a_file_that_one_may_not_read(open_pool: Pool, tree: Path) -> None:
    plant(tree, {"lost+found/image": b"lost", "media/secret": b"secret"})
    plant(tree, {"listed/image": b"listed"})
    (tree / "listed").chmod(0o744)
    (tree / "lost+found").chmod(0o700)
    (tree / "media" / "secret").chmod(0o600)
    assert "lost+found/image" in ids(open_pool)
    os.seteuid(NOBODY)
    try:
        pool = Pool.open("/mnt")
        found = ids(pool)
        findings = list(pool.verify())
        secret = pool["media/secret"]
        told = secret.state, secret.size, secret.in_use_by
        with pytest.raises(StorageFailed, match="Permission denied"):
            secret.export()
        with pytest.raises(StorageFailed, match="Permission denied"):
            secret.start()
    finally:
        os.seteuid(0)

    assert found == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso", "media/secret"]
    assert told == (State.CREATED, 6, ())
    assert [(one.path, one.harmful) for one in findings] == [
        ("listed/image", True),
        ("lost+found", False),
        ("media/secret", True),
    ]
