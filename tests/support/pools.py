"""Pools for tests, each in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle import Pool
from support.mounts import FileSystem

NewPool = Callable[..., Pool]
"""A function that makes a pool, with settings of `Pool.create`."""


def create_pool(where: FileSystem, **settings: Any) -> Pool:
    """Make a pool in a fresh directory of the file system."""
    return Pool.create(where.new_directory(), setup_check=where.has_reflinks, **settings)
