"""Which pool or volume holds a pool's file system: on made-up machines, and on a real one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lifecycle import Pool, config
from lifecycle.hosts.libvirt import xml
from lifecycle.linux import embedded_xfs
from lifecycle.machine import known_pools, nesting
from lifecycle.machine.known_pools import KnownPool
from lifecycle.machine.nesting import Ground, Storage, counted
from lifecycle.reflink import names
from support.command_line import Call
from support.disks import MIB
from support.mounts import CannotMount, FileSystem, run

ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw"
LVM = "LVM-" + "a" * 32 + "b" * 32


def volume_in(_directory: str, file: str) -> str | None:
    """Return the volume that a file of a made-up pool is an image of, by its name."""
    vm, _, name = file.rpartition("/")
    parsed = names.parse_file(name)
    return None if parsed is None or vm[:1] in {"", "."} else f"{vm}/{parsed.volume}"


class Machine:
    """A made-up machine: its mounts, and its sysfs."""

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        self.mounts = [ROOT]
        self.device("sda", "8:0")
        self.device("sda/sda1", "8:1", partition="1")

    def device(self, path: str, number: str, *, slaves: tuple[str, ...] = (), **files: str) -> None:
        """Add a block device, with files like `loop/backing_file` (written as `loop__backing_file`)."""
        place = self.sysfs / "devices" / path
        place.mkdir(parents=True)
        for file, text in files.items():
            target = place / file.replace("__", "/")
            target.parent.mkdir(exist_ok=True)
            target.write_text(text + "\n")
        for group, name in (("dev/block", number), ("class/block", place.name)):
            (self.sysfs / group).mkdir(parents=True, exist_ok=True)
            (self.sysfs / group / name).symlink_to(place)
        for slave in slaves:
            (place / "slaves").mkdir(exist_ok=True)
            (place / "slaves" / slave).symlink_to((self.sysfs / "class/block" / slave).resolve())

    def loop(self, number: int, file: str) -> None:
        """Add a loop device."""
        self.device(f"loop{number}", f"7:{number}", loop__backing_file=file)

    def mount(self, device: str, point: str, source: str, *, root: str = "/", over: int = 1) -> int:
        """Mount a device; return the number of the mount."""
        number = len(self.mounts) + 1
        self.mounts.append(f"{number} {over} {device} {root} {point} rw shared:1 - xfs {source} rw")
        return number

    def ground(self, path: str, **pools: str) -> Ground:
        """Return what the pool there stands on."""
        storage = Storage("\n".join(self.mounts) + "\n", str(self.sysfs))
        known = [KnownPool(name, where) for name, where in pools.items()]
        return storage.ground(path, known, volume_in)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A made-up machine with one disk, the root file system on its first partition."""
    return Machine(tmp_path / "sys")


# ---------------------------------------------------------------- directories


@pytest.mark.parametrize(
    ("path", "pools", "expected"),
    [
        ("/made-up/foo/bar", {"a": "/made-up/foo"}, "a"),
        ("/made-up/foobar", {"a": "/made-up/foo"}, None),
        ("/made-up/foo", {"a": "/made-up/foo"}, None),
        ("/made-up/foo", {"a": "/made-up/foo", "b": "/made-up/foo"}, None),
        ("/made-up/foo", {"a": "/made-up/foo/bar"}, None),
        ("/made-up/foo/x/y", {"a": "/made-up/foo", "b": "/made-up/foo/x"}, "b"),
        ("/made-up/foo/x/y", {"b": "/made-up/foo/x", "a": "/made-up/foo"}, "b"),
        ("/made-up/foo", {"all": "/"}, "all"),
        ("/made-up/foo", {}, None),
    ],
)
def test_a_directory_in_another_pool(
    machine: Machine, path: str, pools: dict[str, str], expected: str | None
) -> None:
    assert machine.ground(path, **pools) == Ground(expected, ("8:1",))


def test_symbolic_links_do_not_hide_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "outer" / "vm" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "outer")
    (tmp_path / "deep").symlink_to(tmp_path / "link" / "vm" / "inner")
    for outer in ("outer", "link"):
        for inner in ("outer/vm/inner", "link/vm/inner", "deep"):
            ground = machine.ground(str(tmp_path / inner), outer=str(tmp_path / outer))
            assert ground.included_in == "outer"


def test_bind_mounts_do_not_hide_it(machine: Machine) -> None:
    machine.mount("8:1", "/made-up/bound", "/dev/sda1", root="/made-up/outer/vm")
    for path in ("/made-up/outer/vm/inner", "/made-up/bound/inner"):
        assert machine.ground(path, outer="/made-up/outer").included_in == "outer"
    assert machine.ground("/made-up/outer/vm/inner", outer="/made-up/bound").included_in == "outer"
    assert machine.ground("/made-up/bound", outer="/made-up/outer").included_in == "outer"


def test_what_is_mounted_inside_a_pool_is_not_held_by_it(machine: Machine) -> None:
    machine.device("sdb", "8:16")
    machine.mount("8:16", "/made-up/outer/inner", "/dev/sdb")
    assert machine.ground("/made-up/outer/inner", outer="/made-up/outer") == Ground(None, ("8:16",))


def test_names_with_spaces(machine: Machine) -> None:
    machine.device("sdb", "8:16")
    machine.mount("8:16", r"/made\040up\134x", "/dev/sdb")
    ground = machine.ground("/made up\\x/outer/inner", outer="/made up\\x/outer")
    assert ground == Ground("outer", ("8:16",))


# ---------------------------------------------------------------- loop devices


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/outer/ci/root-dirty.img", "outer:ci/root"),
        ("/outer/ci/root.img", "outer:ci/root"),
        ("/outer/ci/root.img.3@2026-01-02T03:04:05Z", "outer:ci/root"),
        ("/outer/a/b/root-dirty.img", "outer:a/b/root"),
        ("/outer/ci/root-dirty.img (deleted)", "outer"),
        ("/outer/ci/notes", "outer"),
        ("/outer/root-dirty.img", "outer"),
        ("/outer/.git/root-dirty.img", "outer"),
        ("/outer2/ci/root-dirty.img", None),
        ("/elsewhere.img", None),
    ],
)
def test_a_file_system_on_a_loop_device(machine: Machine, file: str, expected: str | None) -> None:
    machine.loop(0, file)
    machine.mount("7:0", "/inner", "/dev/loop0")
    assert machine.ground("/inner/pool", outer="/outer", inner="/inner/pool") == Ground(
        expected, ("7:0", "8:1")
    )
    assert machine.ground("/outer", inner="/inner/pool").included_in is None


def test_a_partition_of_a_loop_device(machine: Machine) -> None:
    machine.loop(0, "/outer/ci/root-dirty.img")
    machine.device("loop0/loop0p1", "259:3", partition="1")
    machine.mount("259:3", "/inner", "/dev/loop0p1")
    assert machine.ground("/inner", outer="/outer").included_in == "outer:ci/root"


def test_device_mapper_over_a_partition(machine: Machine) -> None:
    machine.loop(0, "/outer/ci/root-dirty.img")
    machine.device("loop0/loop0p1", "259:3", partition="1")
    machine.device("dm-0", "252:0", slaves=("loop0p1",), dm__uuid="CRYPT-LUKS2-x", dm__name="open")
    machine.mount("252:0", "/inner", "/dev/mapper/open")
    assert machine.ground("/inner", outer="/outer").included_in == "outer:ci/root"


def test_two_devices_in_files_of_one_file_system(machine: Machine) -> None:
    machine.loop(0, "/elsewhere.img")
    machine.loop(1, "/outer/ci/root-dirty.img")
    machine.device("md0", "9:0", slaves=("loop0", "loop1"))
    machine.mount("9:0", "/inner", "/dev/md0")
    assert machine.ground("/inner", outer="/outer").included_in == "outer:ci/root"


def test_pools_three_deep(machine: Machine) -> None:
    machine.loop(0, "/one/ci/root-dirty.img")
    over = machine.mount("7:0", "/two", "/dev/loop0")
    machine.loop(1, "/two/ci/data-dirty.img")
    machine.mount("7:1", "/two/deep/three", "/dev/loop1", over=over)
    pools = {"one": "/one", "two": "/two", "three": "/two/deep/three"}
    grounds = [machine.ground(path, **pools) for path in pools.values()]
    assert [one.included_in for one in grounds] == [None, "one:ci/root", "two:ci/data"]
    assert grounds[2].file_systems == ("7:1", "7:0", "8:1")
    assert counted(grounds) == [True, False, False]


def test_an_image_on_a_file_system_that_a_volume_holds(machine: Machine) -> None:
    machine.loop(0, "/one/ci/root-dirty.img")
    machine.mount("7:0", "/between", "/dev/loop0")
    machine.loop(1, "/between/some.img")
    machine.mount("7:1", "/two", "/dev/loop1")
    assert machine.ground("/two", one="/one").included_in == "one:ci/root"


def test_an_embedded_pool_hides_its_own_file(machine: Machine) -> None:
    machine.loop(0, "/outer/embedded/pool.xfs")
    machine.mount("7:0", "/outer/embedded", "/dev/loop0")
    pools = {"outer": "/outer", "embedded": "/outer/embedded"}
    assert machine.ground("/outer/embedded", **pools) == Ground("outer", ("7:0", "8:1"))
    assert machine.ground("/outer/embedded", embedded="/outer/embedded").included_in is None
    assert machine.ground("/outer", **pools) == Ground(None, ("8:1",))


def test_the_mount_on_top_counts(machine: Machine) -> None:
    machine.device("sdb", "8:16")
    machine.device("sdc", "8:32")
    machine.mount("8:16", "/srv/pool", "/dev/sdb")
    hides = machine.mount("8:32", "/srv", "/dev/sdc")
    assert machine.ground("/srv/pool").file_systems == ("8:32",)
    machine.mount("8:16", "/srv", "/dev/sdb", over=hides)
    assert machine.ground("/srv/pool").file_systems == ("8:16",)


# ---------------------------------------------------------------- LVM


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vg-pool", "vg/pool"), ("v--g-thin--pool--1", "v-g/thin-pool-1"), ("odd", "odd")],
)
def test_an_lvm_volume_is_named(machine: Machine, name: str, expected: str | None) -> None:
    machine.device(
        "dm-1", "252:1", dm__uuid=LVM + "-tpool", dm__name="vg-tp-tpool", slaves=("sda",)
    )
    machine.device("dm-0", "252:0", dm__uuid=LVM, dm__name=name, slaves=("dm-1",))
    machine.mount("252:0", "/pool", f"/dev/mapper/{name}")
    assert machine.ground("/pool", outer="/outer") == Ground(expected, ("252:0",))


def test_a_pool_below_an_lvm_volume_is_said_rather_than_that(machine: Machine) -> None:
    machine.loop(0, "/outer/ci/root-dirty.img")
    machine.device("dm-0", "252:0", dm__uuid=LVM, dm__name="vg-lv", slaves=("loop0",))
    machine.mount("252:0", "/pool", "/dev/mapper/vg-lv")
    assert machine.ground("/pool", outer="/outer").included_in == "outer:ci/root"
    assert machine.ground("/pool").included_in == "vg/lv"


# ---------------------------------------------------------------- file systems without a number of their own


def test_btrfs_is_found_by_the_name_of_its_device(machine: Machine) -> None:
    machine.loop(90, "/outer/ci/root-dirty.img")
    machine.mount("0:44", "/inner", "/dev/loop90", root="/@pools")
    assert machine.ground("/inner/x", outer="/outer") == Ground("outer:ci/root", ("0:44", "8:1"))


def test_btrfs_on_an_lvm_volume(machine: Machine) -> None:
    machine.device("dm-0", "252:0", dm__uuid=LVM, dm__name="made--up-lv")
    machine.mount("0:44", "/inner", "/dev/mapper/made--up-lv")
    assert machine.ground("/inner").included_in == "made-up/lv"


def test_btrfs_on_several_devices(machine: Machine) -> None:
    machine.loop(90, "/elsewhere.img")
    machine.loop(91, "/outer/ci/root-dirty.img")
    for name in ("loop90", "loop91"):
        (machine.sysfs / "fs/btrfs/uuid/devices" / name).mkdir(parents=True)
    (machine.sysfs / "fs/btrfs/features").mkdir()
    machine.mount("0:44", "/inner", "/dev/loop90")
    assert machine.ground("/inner", outer="/outer").included_in == "outer:ci/root"


def test_subvolumes_of_one_btrfs_are_one_file_system(machine: Machine) -> None:
    machine.mount("0:44", "/all", "/dev/sdb")
    machine.mount("0:44", "/inner", "/dev/sdb", root="/pool/sub")
    assert machine.ground("/inner", outer="/all/pool").included_in == "outer"


def test_a_file_system_without_a_device(machine: Machine) -> None:
    machine.mount("0:50", "/tmp/made-up", "tmpfs")
    assert machine.ground("/tmp/made-up/x") == Ground(None, ("0:50",))


def test_what_cannot_be_seen_is_not_known(machine: Machine) -> None:
    machine.mount("8:99", "/pool", "/dev/gone")
    assert machine.ground("/pool", outer="/outer") == Ground(None, ("8:99",))
    machine.mounts.clear()
    assert machine.ground("/pool", outer="/outer") == Ground(None, ())


# ---------------------------------------------------------------- a total


@pytest.mark.parametrize(
    ("grounds", "expected"),
    [
        ([("1",)], [True]),
        ([("1",), ("2",)], [True, True]),
        ([("1",), ("1",)], [True, False]),
        ([("2", "1"), ("1",)], [False, True]),
        ([("3", "2", "1"), ("1",)], [False, True]),
        ([("2", "1"), ("3", "1")], [True, True]),
        ([None, ("2", "1"), ("1",)], [False, False, True]),
        ([("2", "1"), None], [True, False]),
        ([(), ()], [True, True]),
    ],
)
def test_no_space_is_counted_twice(
    grounds: list[tuple[str, ...] | None], expected: list[bool]
) -> None:
    stands = [None if one is None else Ground(None, one) for one in grounds]
    assert counted(stands) == expected


# ---------------------------------------------------------------- a real machine


@pytest.fixture
def nested(mounted: Callable[[str], FileSystem]) -> Iterator[Callable[[str, str], Pool]]:
    """Return a function that makes a pool on a file system of that kind, mounted from an image."""
    with ExitStack() as made:

        def make(image: str, kind: str) -> Pool:
            mounted("xfs")  # or skip here
            where = mounted("xfs").new_directory()
            made.callback(where.rmdir)
            run(f"mkfs.{kind}", "-q", image)
            run("mount", "-o", "loop", image, str(where))
            made.callback(run, "umount", str(where))
            return Pool.create(where)

        yield make


def included_in(pool: Pool) -> str | None:
    return Storage.now().ground(pool.path, known_pools.known(), volume_in).included_in


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_pool_on_a_volume_of_another(
    call: Call, xfs_pool: Pool, nested: Callable[[str, str], Pool], kind: str
) -> None:
    known_pools.enter(xfs_pool.path, "outer")
    volume = xfs_pool.create_volume("ci/root", 320 * MIB)
    volume.start()
    inner = nested(volume.path, kind)
    known_pools.enter(inner.path, "inner")
    assert included_in(inner) == "outer:ci/root"
    assert included_in(xfs_pool) is None
    assert call("pool", "--json", "--pool", "inner").document["included_in"] == "outer:ci/root"
    assert call("pool", "--json", "--pool", "outer").document["included_in"] is None
    found = {one["name"]: one for one in call("pools", "--json").document}
    assert (found["inner"]["included_in"], found["inner"]["counted"]) == ("outer:ci/root", False)
    assert (found["outer"]["included_in"], found["outer"]["counted"]) == (None, True)


def test_a_pool_in_a_directory_of_another_by_way_of_links(xfs_pool: Pool, tmp_path: Path) -> None:
    known_pools.enter(xfs_pool.path, "outer")
    Path(xfs_pool.path, "deep").mkdir()
    (tmp_path / "link").symlink_to(xfs_pool.path)
    inner = Pool.create(tmp_path / "link" / "deep" / "inner")
    known_pools.enter(inner.path, "inner")
    beside = Pool.create(xfs_pool.path + "2")
    assert [included_in(one) for one in (inner, xfs_pool, beside)] == ["outer", None, None]
    shutil.rmtree(beside.path)


def test_an_embedded_pool_in_a_directory_of_another(
    mounted: Callable[[str], FileSystem],
) -> None:
    outer = Pool.create(mounted("plain").new_directory(), setup_check=False)
    known_pools.enter(outer.path, "outer")
    inner = Pool.create(Path(outer.path, "inner"), loop=300 * MIB)
    known_pools.enter(inner.path, "inner")
    assert [included_in(one) for one in (inner, outer)] == ["outer", None]
    run("umount", inner.path)
    shutil.rmtree(outer.path)


@pytest.fixture
def logical_volume(mounted: Callable[[str], FileSystem]) -> Iterator[str]:
    """A real LVM volume, `lifecycle-test/lv`, where the kernel has device-mapper."""
    if not os.path.exists("/sys/class/misc/device-mapper"):
        pytest.skip("needs device-mapper, which this kernel has not")
    image = mounted("xfs").new_directory() / "physical"
    group = f"lifecycle-{os.getpid()}"
    with ExitStack() as made:
        try:
            image.touch()
            os.truncate(image, 512 * MIB)
            device = run("losetup", "--find", "--show", str(image)).strip()
            made.callback(run, "losetup", "--detach", device)
            run("vgcreate", "-q", group, device)
            made.callback(run, "vgremove", "-q", "--force", group)
            run("lvcreate", "-q", "-y", "-n", "lv", "-l", "100%FREE", group)
        except CannotMount as error:
            pytest.skip(f"needs LVM: {error}")
        yield f"{group}/lv"


def test_a_pool_on_a_real_lvm_volume(
    logical_volume: str, nested: Callable[[str, str], Pool]
) -> None:
    assert included_in(nested(f"/dev/{logical_volume}", "xfs")) == logical_volume


def test_the_kernel_s_own_texts_can_be_read() -> None:
    ground = Storage.now().ground("/", [], volume_in)
    assert ground.file_systems
    assert nesting.is_within("/foo/bar", "/foo")
    assert not nesting.is_within("/foobar", "/foo")


def test_all_agree_on_what_makes_a_directory_a_pools() -> None:
    """The light gate of libvirt's hook and the embedded pools say it for themselves: they import next to nothing."""
    assert (config.POOL_FILE, embedded_xfs.IMAGE) == config.POOL_SIGNS == xml.SIGNS
