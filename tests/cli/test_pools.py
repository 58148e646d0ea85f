"""The command line on pools: which one it uses, making one, looking at it, checking it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.cli import session
from lifecycle.machine import known_pools
from support.command_line import SCRIPT, Call
from support.disks import cycle
from support.mounts import FileSystem

POOL_KEYS = {
    "name",
    "path",
    "driver",
    "size",
    "usage",
    "reflinks",
    "volumes",
    "keep",
    "retention",
    "included_in",
}


# ---------------------------------------------------------------- which pool


@pytest.mark.parametrize(
    ("user", "environment", "expected"),
    [
        (0, {"HOME": "/root"}, "/var/lib/lifecycle"),
        (0, {"HOME": "/root", "XDG_DATA_HOME": "/xdg"}, "/var/lib/lifecycle"),
        (1000, {"HOME": "/home/ann"}, "/home/ann/.local/share/lifecycle"),
        (1000, {"HOME": "/home/ann", "XDG_DATA_HOME": "/xdg"}, "/xdg/lifecycle"),
        (1000, {"HOME": "/home/ann", "XDG_DATA_HOME": ""}, "/home/ann/.local/share/lifecycle"),
        (1000, {"HOME": "/home/ann", "XDG_DATA_HOME": "x"}, "/home/ann/.local/share/lifecycle"),
        (4242, {"HOME": ""}, None),
        (4242, {"HOME": "home"}, None),
    ],
)
def test_without_a_word_the_pool_is_in_the_users_place(
    user: int, environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert session.default_pool() == expected


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("init POOL", 0, "not known by a name: this user has no home directory"),
        ("init", 1, "no place for the usual pool: name one with --pool or $LIFECYCLE_POOL"),
        ("list", 1, "name one with --pool"),
        ("start ci", 1, "name one with --pool"),
        ("list --pool POOL", 1, "is not a pool"),
        ("pools", 0, ""),
        ("recover --all-pools", 0, ""),
        ("diagram", 0, ""),
    ],
)
def test_for_who_has_no_home_nothing_is_put_below_where_he_stands(
    xfs: FileSystem, tmp_path: Path, words: str, status: int, said: str
) -> None:
    gone = {"HOME", "LIFECYCLE_CONFIG", "LIFECYCLE_POOL", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    pool = xfs.new_directory()
    os.chown(pool, 4242, -1)
    # as a user whom passwd does not know, but who may read the programs wherever they are
    user = ["setpriv", "--reuid=4242", "--clear-groups"]
    may = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    done = subprocess.run(
        [*user, *may, SCRIPT, *words.replace("POOL", str(pool)).split()],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in gone},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (status, True), done
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
    assert (pool / "pool.toml").exists() is (words == "init POOL")


def test_the_default_place_is_used(
    call: Call, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = xfs.new_directory()
    monkeypatch.delenv("LIFECYCLE_POOL", raising=False)
    monkeypatch.setattr(session, "default_pool", lambda: str(place / "lifecycle"))
    call("init")
    assert call("pool", "--json").document["path"] == str(place / "lifecycle")


def test_the_environment_names_the_pool_and_the_option_overrides_it(
    call: Call, xfs_pool: Pool, xfs: FileSystem
) -> None:
    other = Pool.create(xfs.new_directory())
    assert call("pool", "--json").document["path"] == xfs_pool.path
    assert call("pool", "--json", "--pool", other.path).document["path"] == other.path


# ---------------------------------------------------------------- init


def test_init_makes_the_directory_a_pool(call: Call, xfs: FileSystem) -> None:
    place = xfs.new_directory() / "deep" / "down"
    (line,) = call("init", str(place)).out.splitlines()
    assert line.startswith(f"{place} is a pool now: ")
    assert "reflinks, keeps last 5" in line
    assert (place / "pool.toml").exists()
    assert place.stat().st_mode & 0o777 == 0o700
    assert call("list", "--pool", str(place), "--json").document == []


def test_init_takes_the_pool_option_where_no_directory_is_given(
    call: Call, xfs: FileSystem
) -> None:
    place = xfs.new_directory()
    document = call("init", "--pool", str(place), "--json").document
    assert document["path"] == str(place)
    assert Pool.open(place).path == str(place)


def test_init_takes_a_relative_directory(
    call: Call, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = xfs.new_directory()
    monkeypatch.chdir(place)
    assert call("init", "here", "--json").document["path"] == str(place / "here")


def test_init_sets_what_is_kept(call: Call, xfs: FileSystem) -> None:
    place = str(xfs.new_directory())
    document = call("init", place, "--keep", "last 2, 7 daily", "--json").document
    assert set(document) == POOL_KEYS
    assert document["keep"] == "last 2, 7 daily"
    assert call("pool", "--pool", place, "--json").document["keep"] == "last 2, 7 daily"


def test_init_takes_images_as_they_are(call: Call, xfs: FileSystem) -> None:
    place = xfs.new_directory()
    (place / "ci").mkdir()
    (place / "ci" / "root.img").write_bytes(b"as it was".ljust(1 << 20, b"\0"))
    call("init", str(place))
    (found,) = call("list", "--pool", str(place), "--json").document
    assert (found["id"], found["state"], found["size"]) == ("ci/root", "committed", 1 << 20)
    assert (place / "ci" / "root.img").read_bytes().startswith(b"as it was")


def test_init_without_reflinks_is_refused_with_the_ways_out(
    call: Call, mounted: Callable[[str], FileSystem]
) -> None:
    place = mounted("plain").new_directory()
    complaint = call("init", str(place), status=1).complaint
    for way in ("XFS or btrfs", "--loop", "--no-setup-check"):
        assert way in complaint
    assert os.listdir(place) == []


def test_init_without_the_setup_check_does_without_reflinks(
    call: Call, mounted: Callable[[str], FileSystem]
) -> None:
    place = str(mounted("plain").new_directory())
    assert "each start copies the whole image" in call("init", place, "--no-setup-check").out
    assert call("pool", "--pool", place, "--json").document["reflinks"] is False
    assert "each start copies" in call("pool", "--pool", place).out
    call("create", "ci/root", "--size", "1M", "--pool", place)
    call("start", "ci", "--pool", place)


def test_a_pool_is_not_made_twice(call: Call, xfs_pool: Pool) -> None:
    before = Path(xfs_pool.path, "pool.toml").read_bytes()
    complaint = call("init", "--keep", "all", status=1).complaint
    assert "is a pool already" in complaint
    assert Path(xfs_pool.path, "pool.toml").read_bytes() == before


@pytest.mark.parametrize("keep", ["", "last", "last -1", "7 daily,", "whatever 3", "within 2 days"])
def test_init_with_a_policy_that_is_none_makes_nothing(
    call: Call, xfs: FileSystem, keep: str
) -> None:
    place = xfs.new_directory() / "pool"
    assert "not a retention policy" in call("init", str(place), "--keep", keep, status=2).complaint
    assert not place.exists()


# ---------------------------------------------------------------- pool


def test_pool_shows_the_pool(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    document = call("pool", "--json").document
    capacity = os.statvfs(xfs_pool.path)
    assert set(document) == POOL_KEYS
    assert document["name"] == os.path.basename(xfs_pool.path)
    assert document["path"] == xfs_pool.path
    assert document["driver"] == "reflink"
    assert document["size"] == capacity.f_blocks * capacity.f_frsize
    assert 0 < document["usage"] < document["size"]
    assert document["reflinks"] is True
    assert document["volumes"] == 1
    assert document["keep"] == "last 5"


def test_pool_shows_the_pool_to_people(call: Call, xfs_pool: Pool) -> None:
    words = dict(line.split(maxsplit=1) for line in call("pool").out.splitlines())
    assert list(words) == ["path", "driver", "size", "reflinks", "volumes", "keep"]
    assert words["path"] == xfs_pool.path
    assert words["reflinks"] == "yes"
    assert words["volumes"] == "0"


# ---------------------------------------------------------------- verify


def test_verify_finds_nothing_in_a_sound_pool(call: Call, xfs_pool: Pool) -> None:
    cycle(xfs_pool.create_volume("ci/root", "1M"), b"one")
    assert call("verify").out == "all is well\n"
    assert call("verify", "--json").document == []
    assert call("verify", "ci").out == "all is well\n"


def test_verify_tells_what_is_strange_and_what_is_damaged(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", "1M")
    xfs_pool.create_volume("db/root", "1M")
    Path(xfs_pool.path, "ci", "notes.txt").write_text("not of the pool")
    assert call("verify").out == "note    ci/notes.txt: not a file of any volume; left alone\n"
    Path(xfs_pool.path, "db", "root.json").write_text("{")
    found = call("verify", "--json", status=1).document
    assert [set(one) for one in found] == [{"path", "text", "harmful"}] * 2
    assert [(one["path"], one["harmful"]) for one in found] == [
        ("ci/notes.txt", False),
        ("db/root", True),
    ]
    assert call("verify", status=1).out.splitlines()[1].startswith("DAMAGED db/root: ")


@pytest.mark.parametrize(("target", "status"), [("ci", 0), ("ci/root", 0), ("db", 1), ("db/x", 1)])
def test_verify_looks_only_where_it_is_told(
    call: Call, xfs_pool: Pool, target: str, status: int
) -> None:
    for volume_id in ("ci/root", "db/x"):
        xfs_pool.create_volume(volume_id, "1M")
    Path(xfs_pool.path, "db", "x.json").write_text("{")
    call("verify", target, status=status)


# ---------------------------------------------------------------- the name it is known by


def test_init_lets_the_pool_be_known(call: Call, xfs: FileSystem) -> None:
    place = str(xfs.new_directory() / "vms")
    assert call("init", place, "--json").document["name"] == "vms"
    other = str(xfs.new_directory() / "vms")
    assert call("init", other, "--name", "fast", "--json").document["name"] == "fast"
    assert call("pool", "--pool", other, "--json").document["name"] == "fast"
    assert [(one.name, one.path) for one in known_pools.known()] == [
        ("fast", other),
        ("vms", place),
    ]


def test_a_pool_whose_name_is_taken_is_a_pool_all_the_same(call: Call, xfs: FileSystem) -> None:
    call("init", str(xfs.new_directory()), "--name", "vms")
    other = str(xfs.new_directory())
    called = call("init", other, "--name", "vms")
    assert f"{other} is a pool, but not known by a name" in called.err
    assert call("list", "--pool", other, "--json").document == []
