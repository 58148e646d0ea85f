"""What the tests of the reflink backend ask for: a volume that things are done to, and its neighbour in the same VM."""

from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from support.disks import SIZE, cycle


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume `ci/root` that holds `two` and has revision 1, and beside it `ci/other`, which holds `other`."""
    made = xfs_pool.create_volume("ci/root", SIZE)
    for mark in (b"one", b"two"):
        cycle(made, mark)
    cycle(xfs_pool.create_volume("ci/other", SIZE), b"other")
    return made


@pytest.fixture
def vm(volume: Volume) -> Path:
    """The VM's directory."""
    return Path(volume.pool.path, "ci")
