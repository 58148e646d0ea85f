"""Which backend keeps a directory: opens a pool by its file, or makes the directory a pool."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from lifecycle import config as settings
from lifecycle import plugins
from lifecycle.config import PoolConfig
from lifecycle.errors import InvalidConfig, LifecycleError, NotAPool, PluginFailed
from lifecycle.linux import files
from lifecycle.linux.directories import Directory

if TYPE_CHECKING:
    from lifecycle.backend import Backend

BACKENDS = plugins.Group(
    "lifecycle.backends",
    "driver",
    {settings.DEFAULT_DRIVER: "lifecycle.backend_reflink:ReflinkBackend"},
)

_MAX_POOL_FILE = 1 << 20


def set_up(where: str, config: PoolConfig, loop: int | None) -> Backend:
    """Make the directory a pool, and return its backend."""
    backend = backend_of(where, config)
    if loop is not None:
        _embed(where, config, loop)
    try:
        backend.set_up()
        with Directory.open(where) as directory:
            with directory.draft(settings.POOL_FILE) as draft:
                files.write_all(draft.fd, settings.write_pool(config))
                files.set_mode(draft.fd, backend.pool_file_mode)
                draft.publish(settings.POOL_FILE)
            directory.sync()
    except FileExistsError:
        raise NotAPool(where, "was made a pool meanwhile; `lifecycle list` shows it") from None
    except OSError as error:
        # not taken back: by now others may have put something there
        rest = (
            ""
            if loop is None
            else "; its XFS is made and mounted; repeat `lifecycle init` without --loop"
        )
        raise NotAPool(where, f"cannot be made a pool: {error.strerror}{rest}") from error
    return backend


def _embed(where: str, config: PoolConfig, size: int) -> None:
    from lifecycle.linux import embedded_xfs  # noqa: PLC0415 - seldom needed

    if config.driver != settings.DEFAULT_DRIVER:
        raise InvalidConfig(
            where,
            f"an embedded XFS is for the driver {settings.DEFAULT_DRIVER}, not {config.driver}",
        )
    embedded_xfs.create(where, size)


def is_image(path: str) -> bool | None:
    """Tell whether a file is an image of the pool that it lies in; None if that pool cannot be asked.

    Args:
        path: the file's, absolute.
    """
    directory = os.path.dirname(path)
    while not os.path.lexists(os.path.join(directory, settings.POOL_FILE)):
        above = os.path.dirname(directory)
        if above == directory:
            return False
        directory = above
    try:
        content = read_pool_file(directory)
        if content is None:
            return None
        config = settings.read_pool(f"{directory}/{settings.POOL_FILE}", content)
        return backend_of(directory, config).is_image(path)
    except (LifecycleError, OSError):
        return None


def make_directory(path: str) -> bool:
    """Make the directory of a new pool, if it is not there; return whether it was made here.

    Raises:
        NotAPool: it is a pool already, is no directory, or cannot be made.
    """
    if os.path.isdir(path):
        _require_no_pool(path)
    from lifecycle.machine import known_pools  # noqa: PLC0415 - seldom needed

    missing = known_pools.missing_at(path)
    if missing is not None:
        raise NotAPool(path, missing)
    is_new = False
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            is_new = True
        if not os.path.isdir(path):
            raise NotAPool(path, "is not a directory")
    except (FileExistsError, NotADirectoryError) as error:
        raise NotAPool(path, "is not a directory") from error
    except OSError as error:
        raise NotAPool(path, f"cannot be made a pool: {error.strerror}") from error
    return is_new


def _require_no_pool(path: str) -> None:
    from lifecycle.linux import embedded_xfs  # noqa: PLC0415 - seldom needed

    if read_pool_file(path) is not None:
        raise NotAPool(path, f"is a pool already; its settings are in its {settings.POOL_FILE}")
    if embedded_xfs.is_there(path):
        raise NotAPool(path, f"is a pool already, in {embedded_xfs.IMAGE}; any command mounts it")


def not_a_pool(path: str, otherwise: str) -> NotAPool:
    """Return the error for a directory where there is no pool: which one should be there, or else what to do."""
    from lifecycle.machine import known_pools  # noqa: PLC0415 - seldom needed

    missing = known_pools.missing_at(path)
    if missing is None and (name := known_pools.name_of(path)) is not None:
        missing = (
            f"is the pool {name} without its pool.toml; put that back, or `lifecycle init` makes one"
            " (say --keep, if it is not to keep what is usual)"
        )
    return NotAPool(path, missing or otherwise)


def read_pool_file(
    path: str, otherwise: str = "there is no such directory; `lifecycle init` makes a pool"
) -> bytes | None:
    """Return the content of the directory's pool.toml; None if it has none.

    Raises:
        NotAPool: it cannot be read, or there is no such directory (`otherwise` says so).
    """
    try:
        with Directory.open(path) as directory:
            return directory.read(settings.POOL_FILE, _MAX_POOL_FILE)
    except FileNotFoundError:
        if not os.path.isdir(path):
            raise not_a_pool(path, otherwise) from None
        return None
    except NotADirectoryError as error:
        raise NotAPool(path, "is not a directory") from error
    except OSError as error:
        raise NotAPool(path, f"cannot be read: {error.strerror}") from error


def backend_of(path: str, config: PoolConfig) -> Backend:
    """Return a backend of the driver that the pool is set up with.

    Raises:
        InvalidConfig: there is no such driver, or what the package that offers it names is no backend.
    """
    try:
        found = BACKENDS.find(config.driver)
        if found.label is None:
            own: Backend = found.value(path, config)
            return own
        from lifecycle.engine import plugged_backend  # noqa: PLC0415 - seldom needed

        return plugged_backend.opened(found.label, found.value, path, config)
    except plugins.NoSuchPlugin as error:
        raise InvalidConfig(path, str(error)) from error
    except PluginFailed as error:
        raise InvalidConfig(path, f"the driver {error.plugin} {error.problem}") from error
