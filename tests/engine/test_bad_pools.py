"""What is no pool, or none that this version can use: each has its own clear error, and is left as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifecycle import InvalidConfig, InvalidPolicy, NotAPool, Pool, Volume, errors
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, seen
from support.snapshots import snapshot


@contextmanager
def unchanged(directory: str | Path) -> Iterator[None]:
    """Check that what is done meanwhile leaves the directory as it is, byte for byte."""
    before = snapshot(directory)
    yield
    assert snapshot(directory) == before


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume in the pool, with content."""
    made = xfs_pool.create_volume("ci/root", SIZE)
    cycle(made, b"two")
    return made


def test_a_pool_that_is_a_file(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "pool"
    file.write_text("mine")
    for attempt in (Pool.open, Pool.create):
        with pytest.raises(NotAPool, match="is not a directory"):
            attempt(file)
    for words in ("list", "init", "start ci", "pool --json"):
        assert "is not a directory" in call(*words.split(), "--pool", str(file), status=1).said
    assert file.read_text() == "mine"


def test_a_pool_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for attempt in (Pool.open, Pool.create):
        with pytest.raises(NotAPool, match="not a directory"):
            attempt(tmp_path / "file" / "pool")


def test_a_pool_that_is_not_there(call: Call, tmp_path: Path) -> None:
    place = tmp_path / "nothing"
    with pytest.raises(NotAPool, match="no such directory"):
        Pool.open(place)
    assert "`lifecycle init`" in call("list", "--pool", str(place), status=1).complaint
    assert not place.exists()


def test_a_directory_that_is_no_pool(call: Call, tmp_path: Path) -> None:
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "root.img").write_bytes(disk(b"mine"))
    with unchanged(tmp_path):
        with pytest.raises(NotAPool, match=r"no pool\.toml; `lifecycle init` makes it one"):
            Pool.open(tmp_path)
        call("list", "--pool", str(tmp_path), status=1)
        call("remove", "ci", "--pool", str(tmp_path), status=1)


BAD_POOL_FILES = [
    (b"", "has no `format` number"),
    (b"format = 2", "newer version of lifecycle (format 2, this one reads 1)"),
    (b"format = 99\nshape = 'new'\n", "upgrade lifecycle"),
    (b"format = 0", "unknown format 0"),
    (b"format = '1'", "has no `format` number"),
    (b"format = true", "has no `format` number"),
    (b"format = 1\nkepe = 'all'", "unknown key `kepe`"),
    (b"format = 1\nkeep = 5", "`keep` cannot be 5"),
    (b"format = 1\nkeep = 'last'", "is not a retention policy"),
    (b"format = 1\nkeep = ''", "is not a retention policy"),
    (b"format = 1\nkeep = 'all'\nrevisions_to_keep = 5", "has both"),
    (b"format = 1\nrevisions_to_keep = -1", "whole number"),
    (b"format = 1\non_crash = 'panic'", "one of resume, commit, revert"),
    (b"format = 1\ntimezone = 'Mars/Olympus'", "there is no time zone"),
    (b"format = 1\ndriver = 'floppy'", "there is no driver `floppy`"),
    (b"format = 1\nlock_timeout = -1", "from 0 to 86400"),
    (b"format = 1\nlock_timeout = nan", "from 0 to 86400"),
    (b"format = 1\nsetup_check = 'no'", "`setup_check` cannot be"),
    (b"format = 1\nformat = 1", "is not TOML"),
    (b"\xff\xfe", "is not TOML"),
    (b"[" * 50_000, "is not TOML"),
]


@pytest.mark.parametrize(("content", "said"), BAD_POOL_FILES)
def test_a_pool_file_that_cannot_be_understood(
    call: Call, volume: Volume, content: bytes, said: str
) -> None:
    Path(volume.pool.path, "pool.toml").write_bytes(content)
    with unchanged(volume.pool.path):
        with pytest.raises((InvalidConfig, InvalidPolicy), match=re.escape(said)):
            Pool.open(volume.pool.path)
        for words in ("list", "start ci", "create ci/new --size 1M", "init", "init --loop 300M"):
            complaint = call(*words.split(), status=1).complaint
            assert len(complaint) < 600
        assert said in call("list", status=1).complaint


def test_a_pool_of_a_newer_version_is_known_as_such(volume: Volume) -> None:
    Path(volume.pool.path, "pool.toml").write_bytes(b"format = 7\n")
    with pytest.raises(errors.NewerFormat) as caught:
        Pool.open(volume.pool.path)
    assert (caught.value.found, caught.value.known) == (7, 1)


def test_what_is_in_use_is_not_taken_for_a_pool_by_mistake(volume: Volume) -> None:
    # an image drawn on directly, which is what the pool is there to avoid, is no reason to lose anything
    volume.start()
    draw(volume, b"three")
    with unchanged(volume.pool.path), pytest.raises(NotAPool, match="is a pool already"):
        Pool.create(volume.pool.path)
    assert seen(volume) == disk(b"two")
