"""What people and programs get wrong: each has its own clear error, and changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lifecycle import (
    InvalidConfig,
    InvalidName,
    InvalidPolicy,
    InvalidSize,
    LifecycleError,
    NoSuchRevision,
    NoSuchVolume,
    Pool,
    Volume,
)
from support.command_line import Call
from support.disks import SIZE, cycle
from support.mounts import FileSystem
from support.snapshots import snapshot


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume with content and a revision, which nothing here may change."""
    made = xfs_pool.create_volume("ci/root", SIZE)
    for mark in (b"one", b"two"):
        cycle(made, mark)
    return made


@contextmanager
def unchanged(pool: Pool) -> Iterator[None]:
    """Check that what is done meanwhile leaves the pool as it is, byte for byte."""
    before = snapshot(pool.path)
    yield
    assert snapshot(pool.path) == before


def check_text(text: str) -> None:
    """Check that it can be shown to a person: on a line or two, whatever the input was."""
    assert text.rstrip("\n").isprintable()
    assert len(text) < 500


# ---------------------------------------------------------------- names

BAD_IDS = {
    "": "it is empty",
    "root": "a volume's id is VM/NAME",
    "/": "absolute path",
    "/etc/passwd": "absolute path",
    "//ci/new": "absolute path",
    "..": "a volume's id is VM/NAME",
    "../new": "`.` or `..`",
    "ci/..": "`.` or `..`",
    "ci/../../new": "`.` or `..`",
    "./ci/new": "`.` or `..`",
    "ci//new": "empty part",
    "ci/": "empty part",
    "ci/root-dirty": "as another volume's file would",
    "ci/root-precache": "as another volume's file would",
    "ci/root-cow": "as another volume's file would",
    "ci/root-import": "as another volume's file would",
    "ci/root.img.1@2026-01-02T03:04:05Z": "mark revisions and temporary files",
    "ci/root.img~1a2b3c4d": "mark revisions and temporary files",
    "ci~/new": "mark revisions and temporary files",
    "ci/.new": "starts with `.` or `-`",
    ".git/new": "starts with `.` or `-`",
    "ci/-new": "starts with `.` or `-`",
    "-rf/new": "starts with `.` or `-`",
    "ci/n\new": "control character",
    "ci/\x00": "control character",
    "ci/\x1b[31mnew": "control character",
    "ci/\x7f": "control character",
    "ci/\u202enew": "control character",
    "ci/\u200bnew": "control character",
    "ci/\udcff": "control character",
    "ci/ new": "starts or ends with a space",
    "ci /new": "starts or ends with a space",
    "ci/e\u0301": "composed form",
    "ci/" + "x" * 5000: "longer than",
    "x" * 5000 + "/new": "longer than",
    "ci/" * 2000 + "new": "longer than",
    "ci/" + "x" * 191: "longer than",
}

COULD_BE_VMS = {"root", "ci/root-dirty", "ci/root-precache", "ci/root-import", "ci/root-cow"}
"""Those that name no volume, but could be VMs."""

WITH_AN_ID: dict[str, Callable[[Pool, str], Any]] = {
    "find": lambda pool, one: pool[one],
    "create": lambda pool, one: pool.create_volume(one, SIZE),
    "clone to": lambda pool, one: pool.clone(pool["ci/root"], one),
    "source": lambda pool, one: pool.create_volume("ci/dev", source=one),
    "new source": lambda pool, one: pool["ci/copy"].configure(source=one),
}


@pytest.mark.parametrize("use", WITH_AN_ID)
def test_a_name_that_cannot_be_is_refused_by_the_library(volume: Volume, use: str) -> None:
    pool = volume.pool
    pool.create_volume("ci/copy", source="ci/root")
    with unchanged(pool):
        for volume_id, said in BAD_IDS.items():
            with pytest.raises(InvalidName, match=re.escape(said)) as caught:
                WITH_AN_ID[use](pool, volume_id)
            check_text(str(caught.value))
            assert volume_id not in pool


@pytest.mark.parametrize("words", ["show --", "create --size 1M --", "clone ci/root --"])
def test_a_name_that_cannot_be_is_wrong_usage(call: Call, volume: Volume, words: str) -> None:
    with unchanged(volume.pool):
        for volume_id, said in BAD_IDS.items():
            complaint = call(*words.split(), volume_id, status=2).complaint
            assert said in complaint
            check_text(complaint)


@pytest.mark.parametrize("command", ["start", "stop", "checkpoint", "remove", "verify", "prune"])
def test_a_target_that_cannot_be_is_refused(call: Call, volume: Volume, command: str) -> None:
    with unchanged(volume.pool):
        for target in BAD_IDS.keys() - {"ci/"}:
            status = 1 if target in COULD_BE_VMS else 2
            check_text(call(command, "--", target, status=status).complaint)


@pytest.mark.parametrize("name", [None, 5, b"ci/root", ["ci", "root"]])
def test_a_name_is_a_string(volume: Volume, name: Any) -> None:
    with pytest.raises(InvalidName, match="a name is a string"):
        volume.pool[name]
    with pytest.raises(InvalidName, match="a name is a string"):
        volume.pool.vm(name)


# ---------------------------------------------------------------- sizes

BAD_SIZES: list[tuple[Any, str]] = [
    (0, "at least one sector"),
    ("0", "at least one sector"),
    ("0G", "at least one sector"),
    (-512, "at least one sector"),
    ("-512", "write a number of bytes"),
    ("", "write a number of bytes"),
    ("lots", "write a number of bytes"),
    ("1.5G", "write a number of bytes"),
    ("1e9", "write a number of bytes"),
    ("0x200", "write a number of bytes"),
    ("10X", "write a number of bytes"),
    ("٣G", "write a number of bytes"),
    ("1" * 5000, "write a number of bytes"),
    ("inf", "write a number of bytes"),
    ("1", "whole number of sectors"),
    ("513", "whole number of sectors"),
    (2**63, "more than a file can hold"),
    ("8E", "more than a file can hold"),
    ("99999999999999999999E", "more than a file can hold"),
]
NO_SIZES: list[Any] = [1.0, float("nan"), True, b"512", [512]]


@pytest.mark.parametrize(("size", "said"), [*BAD_SIZES, *((one, "neither") for one in NO_SIZES)])
def test_a_size_that_cannot_be_is_refused_by_the_library(
    volume: Volume, size: Any, said: str
) -> None:
    running = volume.pool.create_volume("ci/running", SIZE)
    running.start()
    with unchanged(volume.pool):
        for attempt in (
            lambda: volume.pool.create_volume("new/root", size),
            lambda: volume.pool.create_volume("ci/dev", size, source="ci/root"),
            lambda: volume.resize(size),
            lambda: running.resize(size, shrink=True),
        ):
            with pytest.raises(InvalidSize, match=said) as caught:
                attempt()
            check_text(str(caught.value))


@pytest.mark.parametrize(
    ("size", "said"), [(str(size), said) for size, said in BAD_SIZES if isinstance(size, str)]
)
def test_a_size_that_cannot_be_is_wrong_usage(
    call: Call, volume: Volume, size: str, said: str
) -> None:
    with unchanged(volume.pool):
        for words in (("create", "ci/new", "--size", size), ("resize", "ci/root", "--", size)):
            complaint = call(*words, status=2).complaint
            assert said in complaint
            check_text(complaint)


def test_a_size_beyond_what_the_file_system_can_hold(
    mounted: Callable[[str], FileSystem], call: Call
) -> None:
    # ext4 holds files of up to 16 TiB
    pool = Pool.create(mounted("plain").new_directory(), setup_check=False)
    empty = pool.create_volume("ci/empty", SIZE)
    full = pool.create_volume("ci/full", SIZE)
    cycle(full, b"one")
    running = pool.create_volume("ci/running", SIZE)
    running.start()
    with unchanged(pool):
        for words in ("create ci/new --size 17T", "resize ci/full 17T", "resize ci/running 17T"):
            complaint = call(*words.split(), "--pool", pool.path, status=2).complaint
            assert "more than this file system can hold" in complaint
        for volume in (empty, full, running):
            with pytest.raises(InvalidSize, match="more than this file system can hold"):
                volume.resize("17T")


def test_a_disposable_beyond_what_the_file_system_can_hold(
    mounted: Callable[[str], FileSystem],
) -> None:
    pool = Pool.create(mounted("plain").new_directory(), setup_check=False)
    pool.create_volume("ci/root", SIZE)
    with unchanged(pool), pytest.raises(InvalidSize, match="more than this file system can hold"):
        pool.create_volume("ci/dev", "17T", source="ci/root")


def test_an_image_without_content_is_named(call: Call, volume: Volume, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch()
    with unchanged(volume.pool):
        for words in (("import", "ci/root", str(image)), ("clone", str(image), "ci/new")):
            complaint = call(*words, status=2).complaint
            check_text(complaint)
            assert f"{image} is empty" in complaint


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize(
    ("source", "error", "said", "status"),
    [
        ("ci/nothing", NoSuchVolume, "no such volume", 1),
        ("nothing/root", NoSuchVolume, "no such volume", 1),
        ("ci/new", InvalidConfig, "a volume cannot be its own source", 2),
        ("ci/dev", InvalidConfig, "that is disposable itself and keeps nothing", 2),
        ("ci/swap", InvalidConfig, "that is volatile itself and keeps nothing", 2),
        ("ci", InvalidName, "VM/NAME", 2),
        ("", InvalidName, "it is empty", 2),
    ],
)
def test_a_source_that_cannot_be(
    call: Call, volume: Volume, source: str, error: type[LifecycleError], said: str, status: int
) -> None:
    pool = volume.pool
    pool.create_volume("ci/dev", source="ci/root")
    pool.create_volume("ci/swap", SIZE, save_on_stop=False)
    with unchanged(pool):
        with pytest.raises(error, match=said):
            pool.create_volume("ci/new", source=source)
        assert said in call("create", "ci/new", "--source", source, status=status).complaint
        if source == "ci/new":
            source = "ci/dev"
        with pytest.raises(error):
            pool["ci/dev"].configure(source=source)
        call("set", "ci/dev", f"source={source}", status=status)


def test_a_source_larger_than_the_disk(call: Call, volume: Volume) -> None:
    with unchanged(volume.pool):
        with pytest.raises(InvalidSize, match=f"its source ci/root holds {SIZE} bytes"):
            volume.pool.create_volume("ci/new", 512, source="ci/root")
        call("create", "ci/new", "--size", "512", "--source", "ci/root", status=2)


def test_a_source_and_save_on_stop_are_not_both(volume: Volume) -> None:
    with unchanged(volume.pool), pytest.raises(InvalidConfig, match="not both"):
        volume.pool.create_volume("ci/new", source="ci/root", save_on_stop=True)


def test_a_disposable_whose_source_is_gone_does_not_start(call: Call, volume: Volume) -> None:
    pool = volume.pool
    pool.create_volume("new/root", source="ci/root")
    for file in os.listdir(f"{pool.path}/ci"):
        os.unlink(f"{pool.path}/ci/{file}")
    with unchanged(pool):
        complaint = call("start", "new", status=3).complaint
        assert "its source ci/root is absent; mend that first" in complaint
        assert call("show", "new/root", "--json").document["size"] is None
        assert call("show", "new/root").out


# ---------------------------------------------------------------- revisions, settings


@pytest.mark.parametrize("number", [2 * 10**9, 99, 3, -1])
def test_a_revision_that_is_not_there(volume: Volume, number: int) -> None:
    with unchanged(volume.pool):
        for attempt in (volume.revert, volume.export, volume.pin, volume.unpin, volume.forget):
            with pytest.raises(NoSuchRevision) as caught:
                attempt(number)
            assert str(caught.value) == f"ci/root has no revision {number}. Its revisions: 1."
            assert caught.value.available == (1,)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"keep": ""}, InvalidPolicy),
        ({"keep": "last many"}, InvalidPolicy),
        ({"keep": 5}, InvalidConfig),
        ({"on_crash": "panic"}, InvalidConfig),
        ({"rw": "yes"}, InvalidConfig),
        ({"size": 512}, InvalidConfig),
        ({"save_on_stop": False}, InvalidConfig),
        ({"source": "ci/other"}, InvalidConfig),
        ({"colour": "red"}, InvalidConfig),
    ],
)
def test_a_setting_that_cannot_be(
    volume: Volume, settings: dict[str, Any], error: type[LifecycleError]
) -> None:
    volume.pool.create_volume("ci/other", SIZE)
    with unchanged(volume.pool), pytest.raises(error) as caught:
        volume.configure(**settings)
    check_text(str(caught.value))
