"""Backends of other packages: found by their entry point, and told when they cannot be used."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from conformance.promises import PROMISES, READING, WRITING
from lifecycle import InvalidConfig, Pool
from lifecycle.directory.backend import DirectoryBackend
from support.mounts import FileSystem

SUITE = Path(__file__).parents[1] / "conformance"


def test_every_file_of_the_suite_runs_on_a_backend() -> None:
    assert {one.stem for one in SUITE.glob("test_*.py")} == READING | WRITING
    assert not READING & WRITING
    assert all(promised >= READING for promised in PROMISES.values())
    assert PROMISES["reflink"] == READING | WRITING


def test_the_directory_backend_comes_by_the_way_that_others_come() -> None:
    (entry,) = entry_points(group="lifecycle.backends", name="directory")

    assert entry.load() is DirectoryBackend


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two backends, where this process finds it: one that works, and one that does not."""
    (tmp_path / "lifecycle_shelf.py").write_text(
        "from lifecycle.directory.backend import DirectoryBackend\n\n\n"
        "class Shelf(DirectoryBackend):\n    driver = 'shelf'\n"
    )
    (tmp_path / "lifecycle_broken.py").write_text("raise ImportError('out of order')\n")
    about = tmp_path / "shelf-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[lifecycle.backends]\nshelf = lifecycle_shelf:Shelf\nbroken = lifecycle_broken:Broken\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_a_backend_of_another_package(xfs: FileSystem) -> None:
    place = xfs.new_directory()
    (place / "vm").mkdir()
    (place / "vm" / "image").write_bytes(b"image")
    Pool.create(place, driver="shelf")
    pool = Pool.open(place)

    assert (pool.config.driver, pool.backend.driver) == ("shelf", "shelf")
    assert [volume.id for volume in pool] == ["vm/image"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (
            "broken",
            (
                "the driver `broken` .lifecycle_broken:Broken of shelf 1. cannot be loaded: it raised"
                " ImportError: out of order"
            ),
        ),
        ("floppy", "there is no driver `floppy`: known are reflink, broken, directory, shelf"),
    ],
)
def test_a_driver_that_cannot_be_used(xfs: FileSystem, driver: str, reason: str) -> None:
    place = xfs.new_directory() / "new"
    with pytest.raises(InvalidConfig, match=reason):
        Pool.create(place, driver=driver)
    assert not place.exists()

    place.mkdir()
    (place / "pool.toml").write_text(f"format = 1\ndriver = '{driver}'\n")
    with pytest.raises(InvalidConfig, match=reason):
        Pool.open(place)
