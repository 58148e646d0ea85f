"""The pools that this machine knows by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle import InvalidName, Pool
from lifecycle.engine.lookup import volume_at
from lifecycle.errors import Unsupported
from lifecycle.hosts.libvirt import settings as settings_
from lifecycle.machine import known_pools
from lifecycle.machine.known_pools import KnownPool
from support.mounts import FileSystem

SIZE = 1 << 20
HAS_NO_ENTRY = 4242
"""A user whom passwd does not know."""


@pytest.mark.parametrize(
    ("variables", "user", "expected"),
    [
        ({"LIFECYCLE_CONFIG": "/x"}, 0, "/x"),
        ({}, 0, "/etc/lifecycle"),
        ({"HOME": "/home/me"}, 1000, "/home/me/.config/lifecycle"),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "/home/me/c"}, 1000, "/home/me/c/lifecycle"),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "c"}, 1000, "/home/me/.config/lifecycle"),
        ({"HOME": "home"}, 0, "/etc/lifecycle"),
        ({"HOME": "home"}, HAS_NO_ENTRY, None),
        ({"HOME": ""}, HAS_NO_ENTRY, None),
        ({}, HAS_NO_ENTRY, None),
        ({"XDG_CONFIG_HOME": "/c"}, HAS_NO_ENTRY, "/c/lifecycle"),
        ({"LIFECYCLE_CONFIG": "/x"}, HAS_NO_ENTRY, "/x"),
    ],
)
def test_where_the_settings_lie(
    variables: dict[str, str], user: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "LIFECYCLE_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert known_pools.config_directory() == expected


def test_who_has_no_home_keeps_no_names(
    tmp_path: Path, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool.create(xfs.new_directory())
    volume = pool.create_volume("ci/root", SIZE)
    for name in ("HOME", "LIFECYCLE_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: HAS_NO_ENTRY)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Unsupported, match="no home directory"):
        known_pools.enter(pool.path)
    assert known_pools.known() == []
    assert not known_pools.forget("vms")
    assert settings_.read() == settings_.DEFAULTS
    volume.start()
    assert os.listdir(tmp_path) == []


def test_none_is_known_at_first(settings: Path) -> None:
    assert known_pools.known() == []
    assert not settings.exists()


def test_a_pool_gets_its_directory_s_name_once(settings: Path) -> None:
    assert known_pools.enter("/srv/vms") == KnownPool("vms", "/srv/vms")
    assert known_pools.enter("/srv/vms") == KnownPool("vms", "/srv/vms")
    assert known_pools.enter("/other/vms") == KnownPool("vms-2", "/other/vms")
    assert known_pools.enter("/third/vms") == KnownPool("vms-3", "/third/vms")
    assert [one.name for one in known_pools.known()] == ["vms", "vms-2", "vms-3"]
    assert (settings / "pools.d/vms.toml").read_text() == 'path = "/srv/vms"\n'


def test_a_pool_can_be_given_another_name(settings: Path) -> None:
    known_pools.enter("/srv/vms")
    known_pools.enter("/srv/vms", "fast")
    assert known_pools.known() == [KnownPool("fast", "/srv/vms")]


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "..", ".hidden", "-x", "a\n", "x" * 5000])
def test_what_is_no_name(settings: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        known_pools.enter("/srv/vms", name)
    assert known_pools.known() == []


def test_a_name_belongs_to_one_pool(settings: Path) -> None:
    known_pools.enter("/srv/vms")
    with pytest.raises(InvalidName, match="/srv/vms"):
        known_pools.enter("/other", "vms")


def test_a_pool_is_forgotten(settings: Path) -> None:
    known_pools.enter("/srv/vms")
    assert known_pools.forget("vms")
    assert not known_pools.forget("vms")
    assert known_pools.known() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"path = 3\n", b'path = "relative"\n', b"path = \n", b"\xff", b'path = "/a\\u0000b"\n'],
)
def test_a_file_that_cannot_be_understood_is_passed_over(
    settings: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    known_pools.enter("/srv/vms")
    (settings / "pools.d/bad.toml").write_bytes(content)
    (settings / "pools.d/README").write_text("not a pool's")
    assert known_pools.known() == [KnownPool("vms", "/srv/vms")]
    assert "bad.toml is passed over" in caplog.text


# ---------------------------------------------------------------- by the path of a disk


def test_a_volume_is_found_by_its_working_image(
    settings: Path, xfs: FileSystem, tmp_path: Path
) -> None:
    pool = Pool.create(xfs.new_directory())
    disk = pool.create_volume("below/ci/root", SIZE)
    assert volume_at(disk.path) is None  # the pool is not known
    known_pools.enter(pool.path)
    assert volume_at(disk.path) == disk
    link = tmp_path / "link"
    link.symlink_to(pool.path)
    found = volume_at(f"{link}/below/ci/../ci/root-dirty.img")
    assert found is not None
    assert found.id == "below/ci/root"


@pytest.mark.parametrize(
    "file",
    ["ci/root.img", "ci/root.json", "ci/other-dirty.img", "ci/-dirty.img", "root-dirty.img", "ci"],
)
def test_another_file_of_a_pool_is_no_volume(settings: Path, xfs: FileSystem, file: str) -> None:
    pool = Pool.create(xfs.new_directory())
    pool.create_volume("ci/root", SIZE)
    known_pools.enter(pool.path)
    assert volume_at(f"{pool.path}/{file}") is None


def test_of_pools_within_pools_the_innermost_counts(settings: Path, xfs: FileSystem) -> None:
    outer = Pool.create(xfs.new_directory())
    inner = Pool.create(f"{outer.path}/in/ner")
    for pool in (outer, inner):
        known_pools.enter(pool.path)
    disk = inner.create_volume("ci/root", SIZE)
    found = volume_at(disk.path)
    assert found is not None
    assert (found.id, found.pool.path) == ("ci/root", inner.path)


def test_a_directory_whose_name_only_begins_like_a_pool_s(settings: Path, xfs: FileSystem) -> None:
    where = str(xfs.new_directory())
    pool = Pool.create(f"{where}/foo")
    pool.create_volume("ci/root", SIZE)
    known_pools.enter(pool.path)
    assert volume_at(f"{where}/foobar/ci/root-dirty.img") is None
