"""The command line on a read-only pool, and the page of the docs that shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.hosts import attach
from support.command_line import SHOW, Call, check_shape
from support.image_trees import plant
from support.mounts import FileSystem, read_only
from support.snapshots import snapshot

KERNEL = "kernels/6.1/vmlinuz"
PAGE = Path(__file__).parents[2] / "docs" / "read-only-pools.md"


@pytest.fixture
def tree(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of images that the command line takes for its pool, and that is none yet."""
    tree = xfs.new_directory()
    plant(tree, {KERNEL: b"kernel", "kernels/6.1/modules.img": b"modules"})
    monkeypatch.setenv("LIFECYCLE_POOL", str(tree))
    return tree


@pytest.fixture
def pool(tree: Path) -> Pool:
    return Pool.create(tree, driver="directory")


def test_init_makes_a_tree_a_pool(call: Call, tree: Path) -> None:
    out = call("init", "--driver", "directory").out

    assert out == f"{tree} is a pool now: driver directory, 2 volumes\n"
    document = call("pool", "--json").document
    assert (document["driver"], document["volumes"]) == ("directory", 2)
    assert document["reflinks"] is None
    assert ["driver", "directory"] in [line.split() for line in call("pool").out.splitlines()]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--keep", "last 3"], "`keep` is of no use"),
        (["--no-setup-check"], "`setup_check` is of no use"),
        (["--loop", "1G"], "is for the driver reflink"),
    ],
)
def test_init_with_what_is_of_no_use(call: Call, tree: Path, words: list[str], reason: str) -> None:
    before = snapshot(tree)
    assert reason in call("init", "--driver", "directory", *words, status=2).complaint
    assert snapshot(tree) == before


def test_init_where_nothing_can_be_written(call: Call, tree: Path) -> None:
    with read_only(tree):
        complaint = call("init", "--driver", "directory", status=1).complaint
    assert "make the directory above it a pool" in complaint


def test_what_is_shown(call: Call, pool: Pool) -> None:
    document = call("show", KERNEL, "--json").document
    check_shape(document, SHOW)
    assert (document["state"], document["rw"], document["kind"]) == ("created", False, "persistent")
    assert document["allowed"] == ["start", "release"]
    assert document["current"] is None
    assert [one["id"] for one in call("list", "--json").document] == ["kernels/6.1/modules", KERNEL]
    assert call("log", KERNEL).out == f"{KERNEL}  created read-only  6 B\n"


def test_a_life(call: Call, pool: Pool) -> None:
    with read_only(Path(pool.path)):
        for _vm in range(2):
            (found,) = call("start", KERNEL, "--json").document
            assert found["path"] == f"{pool.path}/{KERNEL}"
            assert found["state"] == "created"
        call("start", "kernels/6.1")
        call("stop", "kernels/6.1")
        for _vm in range(2):
            assert "released" in call("stop", KERNEL).out
        ran = call("run", "kernels/6.1", "--", "cat", "{vmlinuz}", "{modules}")
        assert ran.out == "kernelmodules"
        assert call("recover").out == "nothing to recover\n"
        assert call("verify").out == "all is well\n"
        assert call("prune", "--json").document == [
            {"id": "kernels/6.1/modules", "revisions": []},
            {"id": KERNEL, "revisions": []},
        ]


@pytest.mark.parametrize("kind", attach.FRAGMENTS)
def test_attach_gives_the_image_itself(call: Call, pool: Pool, kind: str) -> None:
    called = call("attach", KERNEL, "--for", kind, "--json")

    assert called.err == ""  # it need not be started first
    assert called.document["path"] == f"{pool.path}/{KERNEL}"
    assert f"{pool.path}/{KERNEL}" in json.dumps(called.document["fragment"])


def test_export(call: Call, pool: Pool, tmp_path: Path) -> None:
    call("export", KERNEL, str(tmp_path / "out"))

    assert (tmp_path / "out").read_bytes() == b"kernel"


@pytest.mark.parametrize(
    "words",
    [
        ["create", "ci/root", "--size", "1M"],
        ["create", "ci/root", "--source", KERNEL],
        ["clone", KERNEL, "ci/root"],
        ["import", KERNEL, __file__],
        ["resize", KERNEL, "1M"],
        ["revert", KERNEL],
        ["revert", KERNEL, "--to", "empty"],
        ["remove", KERNEL],
        ["remove", "kernels/6.1"],
        ["set", KERNEL, "rw=yes"],
        ["set", KERNEL, "keep=last 3"],
        ["set", KERNEL, "revisions_to_keep=3"],
        ["set", KERNEL, "on_crash=revert"],
        ["set", KERNEL, "source=kernels/6.1/modules"],
        ["set", KERNEL, "snapshots=no"],
        ["set", KERNEL, "label=the first"],
        ["pin", KERNEL, "1"],
        ["unpin", KERNEL, "1"],
        ["label", KERNEL, "1", "the first"],
        ["forget", KERNEL, "1"],
    ],
    ids=" ".join,
)
def test_what_would_write_is_refused(call: Call, pool: Pool, words: list[str]) -> None:
    before = snapshot(pool.path)

    assert "its pool is read-only" in call(*words, status=3).complaint
    error = call(*words, "--json", status=3).document["error"]
    assert error["kind"] == "ReadOnlyPool"
    assert snapshot(pool.path) == before


@pytest.fixture
def place(xfs: FileSystem) -> Iterator[str]:
    """A directory for large files, which are gone afterwards."""
    place = str(xfs.new_directory())
    yield place
    shutil.rmtree(place)


def test_the_page_shows_what_the_commands_print(place: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("LIFECYCLE_POOL", None)
    shown = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(shown), re.MULTILINE)
    assert commands
    for command, output in commands:
        done = subprocess.run(
            ["sh", "-c", command.replace("/srv/", f"{place}/")],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.stdout.replace(f"{place}/", "/srv/") == output, command
