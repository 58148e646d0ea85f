"""What the tests of hooks ask for: where hooks lie, a volume, a file to write to, what is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, Volume
from support.disks import SIZE


@pytest.fixture
def hooks(xfs_pool: Pool) -> Path:
    """The pool's hooks.d, not there yet."""
    return Path(xfs_pool.path, "hooks.d")


@pytest.fixture
def machine_hooks(settings: Path) -> Path:
    """The machine's hooks.d, not there yet."""
    return settings / "hooks.d"


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    return xfs_pool.create_volume("ci/root", SIZE)


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A file that hooks write to."""
    return tmp_path / "noted"


@pytest.fixture
def caplog_of_hooks(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return a function to what is logged of hooks at a level."""
    caplog.set_level(logging.INFO, "lifecycle.hooks")

    def logged(level: int) -> list[str]:
        return [
            one.getMessage()
            for one in caplog.records
            if (one.name, one.levelno) == ("lifecycle.hooks", level)
        ]

    return logged
