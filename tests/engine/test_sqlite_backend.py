"""A backend without images as files, by the command line: the whole life of a volume, and what goes in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle import Pool
from support.attached_disks import attached
from support.command_line import SHOW, Call, call_apart, check_shape
from support.disks import MIB, SIZE, cycle, disk, draw, seen
from support.installed_packages import add_project
from support.mounts import FileSystem
from support.pools import create_pool

PROJECT = Path(__file__).parents[1] / "sqlite_backend"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The package, where this process finds it, and by PYTHONPATH those that it begins."""
    places = add_project(tmp_path_factory.mktemp("installed"), PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        for place in places:
            patch.syspath_prepend(place)
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        yield os.pathsep.join(places)


@pytest.fixture
def where(installed: str, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory that becomes a pool, which is the one that the command line uses."""
    assert installed
    place = str(xfs.new_directory())
    monkeypatch.setenv("LIFECYCLE_POOL", place)
    return place


def test_a_volume_s_life(call: Call, where: str, tmp_path: Path) -> None:
    assert "keeps last 5" in call("init", where, "--driver", "sqlite", "--name", "shelf").out
    assert call("create", "ci/root", "--size", "1M").out == "ci/root: created, persistent, 1 MiB\n"
    given = f"sqlite:///ci/root?database={where}/images.sqlite"
    assert call("start", "ci/root").out == f"ci/root: started, at {given}\n"
    volume = Pool.open(where)["ci/root"]
    with attached(volume) as opened:
        opened.write(MIB - 5, b"first")
        assert "in use by" in call("stop", "ci/root", status=3).err
    assert call("stop", "ci/root").out == "ci/root: committed as 1\n"
    assert cycle(volume, b"second") == 2
    assert [one["number"] for one in call("log", "ci/root", "--json").document["revisions"]] == [1]
    call("revert", "ci/root", "--to", "1")
    assert seen(volume) == bytes(MIB - 5) + b"first"

    shown = call("show", "ci/root", "--json").document
    check_shape(shown, SHOW)
    assert shown["path"] == given
    assert shown["attachment"] == {
        "kind": "network",
        "name": "ci/root",
        "protocol": "sqlite",
        "hosts": [],
        "options": {"database": f"{where}/images.sqlite"},
    }
    (listed,) = call("list", "--json").document
    assert listed == {key: value for key, value in shown.items() if key != "revisions"}

    out = tmp_path / "out"
    call("export", "ci/root", str(out))
    assert out.read_bytes() == seen(volume)
    out.write_bytes(disk(b"outside"))
    call("import", "ci/root", str(out), "--verify")
    assert seen(volume) == disk(b"outside")
    call("remove", "ci/root")
    assert call("list", "--json").document == []
    assert call("verify").status == 0


def test_content_goes_between_backends_both_ways(where: str, xfs: FileSystem) -> None:
    here, there = Pool.create(where, driver="sqlite"), create_pool(xfs)
    volume = here.create_volume("ci/root", 64 * MIB)
    cycle(volume, b"in the middle", at=32 * MIB)
    far = there.clone(volume, "far/root", verify=True)
    assert seen(far) == seen(volume)
    assert far.usage < MIB
    back = here.clone(far, "ci/back", verify=True)
    assert seen(back) == seen(volume)
    assert back.usage < MIB
    assert [one.cause for one in back.history] == ["clone"]


def test_what_looks_like_a_format_is_what_a_vm_wrote(where: str, xfs: FileSystem) -> None:
    here, there = Pool.create(where, driver="sqlite"), create_pool(xfs)
    volume = here.create_volume("ci/root", SIZE)
    cycle(volume, b"QFI\xfb\0\0\0\3")
    assert seen(there.clone(volume, "far/root")) == seen(volume)


def test_it_is_streamed_to_another_process(call: Call, where: str) -> None:
    call("init", where, "--driver", "sqlite")
    volume = Pool.open(where).create_volume("ci/root", SIZE)
    cycle(volume, b"first")
    called = call_apart("export", "ci/root", "-")
    assert (called.status, called.out.encode()) == (0, disk(b"first"))
    assert call_apart("clone", "-", "ci/copy", given="x" * 512).status == 0
    assert seen(volume.pool["ci/copy"]) == b"x" * 512


def test_what_cannot_be_given_to_a_hypervisor_is_said(call: Call, where: str) -> None:
    call("init", where, "--driver", "sqlite")
    call("create", "ci/root", "--size", "1M")
    call("start", "ci/root")
    for kind in ("qemu", "libvirt", "firecracker", "loop"):
        assert "is a network disk" in call("attach", "ci/root", "--for", kind, status=1).err


def test_what_a_killed_process_had_open_is_left_over(call: Call, where: str) -> None:
    """And its lock is no one's: the kernel takes it away."""
    call("init", where, "--driver", "sqlite")
    volume = Pool.open(where).create_volume("ci/root", SIZE, on_crash="commit")
    volume.start()
    draw(volume, b"first")
    pid = os.fork()
    if pid == 0:
        attached(volume).__enter__()
        os._exit(0)
    os.waitpid(pid, 0)
    assert volume.left_over
    (done,) = json.loads(call("recover", "--json").out)
    assert done["id"] == "ci/root"
    assert seen(volume) == disk(b"first")
