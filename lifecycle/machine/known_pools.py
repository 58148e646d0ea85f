"""The pools that this machine knows by name: one small file for each in `pools.d`.

`lifecycle init` and `adopt` enter a pool here, so that a hook finds the volume that a disk's path belongs to, `recover`
and `prune` find all pools, and a person can say a name instead of a directory. Nothing in a pool depends on it.

A file `NAME.toml` holds one line, `path = "/srv/vms"`. Someone who may write here decides which pools root's hooks
work on; the directory is the administrator's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tomllib
from typing import NamedTuple

from lifecycle import ids
from lifecycle.config import POOL_SIGNS
from lifecycle.errors import InAnotherPool, InvalidConfig, InvalidName, LifecycleError, printable
from lifecycle.linux.directories import Directory

log = logging.getLogger("lifecycle.known_pools")

_DIRECTORY = "pools.d"
_ENDING = ".toml"
_MAX_BYTES = 1 << 16
_LOST = "lost+found"
FSTAB = "/etc/fstab"


class KnownPool(NamedTuple):
    """A pool that has a name on this machine.

    Attributes:
        name: the name.
        path: its directory, absolute; there may be no pool there now.
    """

    name: str
    path: str


def config_directory() -> str | None:
    """Return where this user's settings of lifecycle lie: $LIFECYCLE_CONFIG, or the usual place.

    None if this user has no home for them.
    """
    chosen = os.environ.get("LIFECYCLE_CONFIG")
    if chosen:
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/etc/lifecycle"
    from lifecycle.machine import user_directories  # noqa: PLC0415 - not needed by root

    return user_directories.below_home("XDG_CONFIG_HOME", ".config")


class Unreadable(NamedTuple):
    """A file of a known pool, or their directory, that cannot be read: which pools are meant is not known.

    Attributes:
        path: the file or directory.
        error: why.
    """

    path: str
    error: Exception


def known() -> list[KnownPool]:
    """Return the known pools by name. What cannot be read or understood is passed over, with a warning."""
    pools, unreadable = read_all()
    for one in unreadable:
        log.warning("%s is passed over: %s", printable(one.path), printable(str(one.error)))
    return pools


def read_all() -> tuple[list[KnownPool], list[Unreadable]]:
    """Return the known pools by name, and what cannot be read or understood."""
    settings = config_directory()
    if settings is None:
        return [], []
    where = f"{settings}/{_DIRECTORY}"
    try:
        with Directory.open(where) as directory:
            found = [
                _read(directory, entry.name)
                for entry in directory.entries()
                if entry.name.endswith(_ENDING)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        return [], [Unreadable(where, error)]
    pools = [one for one in found if isinstance(one, KnownPool)]
    return sorted(pools), [one for one in found if isinstance(one, Unreadable)]


def name_of(path: str) -> str | None:
    """Return the name that the pool in this directory is known by; None if it is not."""
    real = os.path.realpath(path)
    return next((one.name for one in known() if os.path.realpath(one.path) == real), None)


def missing_at(path: str) -> str | None:
    """Say which known pool should be in this directory, or around it, and is not; None if none should.

    Whoever makes a pool there makes an empty one below the mount point of that one. A tree without its pool.toml is
    there, though it is no pool.
    """
    from lifecycle.machine.nesting import is_within  # noqa: PLC0415 - not needed by a start

    real = os.path.realpath(path)
    try:
        around = [one for one in known() if is_within(real, os.path.realpath(one.path))]
    except OSError:
        return None
    for one in around:
        if not _is_there(one.path):
            file = f"{config_directory()}/{_DIRECTORY}/{one.name}{_ENDING}"
            where = "here" if os.path.realpath(one.path) == real else f"at {one.path}"
            return (
                f"the pool {one.name}, which this machine knows, should be {where} and is not: its file system is"
                f" not mounted, or it is gone; {_how_to_mount(one.path)}, or, if it is gone for good, remove {file}"
            )
    return None


def _is_there(path: str) -> bool:
    if any(os.path.lexists(f"{path}/{file}") for file in POOL_SIGNS):
        return True
    try:
        with os.scandir(path) as found:
            return any(one.is_dir(follow_symlinks=False) and one.name != _LOST for one in found)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # something is, and whoever opens it is told what is wrong


def _how_to_mount(path: str) -> str:
    """Say how what a path lies on is mounted, as far as /etc/fstab knows (fstab(5))."""
    from lifecycle.machine.nesting import is_within, plain  # noqa: PLC0415 - not needed by a start

    real, points = os.path.realpath(path), []
    with contextlib.suppress(OSError), open(FSTAB, encoding="utf-8", errors="replace") as fstab:
        lines = [line.split() for line in fstab if not line.lstrip().startswith("#")]
        points = [plain(fields[1]) for fields in lines if len(fields) > 1]
    candidates = [one for one in points if is_within(real, one) and not os.path.ismount(one)]
    return f"`mount {max(candidates, key=len)}`" if candidates else "mount that first"


def enter(path: str | os.PathLike[str], name: str | None = None) -> KnownPool:
    """Let a pool be known; durable when this returns.

    Args:
        path: the pool's directory.
        name: its name; by default that of the directory, with a number behind it if another pool is called so.

    Returns:
        what is known of it now; a pool that is known already keeps its name, unless another is given.

    Raises:
        InvalidName: it cannot be a name, or another pool bears it.
        Unsupported: this user has no place for settings.
        OSError: the settings cannot be written to.
    """
    where = os.path.abspath(path)
    others = {one.name: one for one in known()}
    before = [
        one for one in others.values() if os.path.realpath(one.path) == os.path.realpath(where)
    ]
    if before and name in {None, *(one.name for one in before)}:
        return before[0]
    if name is None:
        name = _free_name(os.path.basename(where) or "root", others)
    _check(name)
    if name in others:
        raise InvalidName(name, f"the pool {others[name].path} is known by it")
    with _settings() as directory:
        directory.write(
            name + _ENDING, f"path = {json.dumps(where, ensure_ascii=False)}\n".encode()
        )
        for one in before:
            directory.remove(one.name + _ENDING)
        directory.sync()
    return KnownPool(name, where)


def forget(name: str) -> bool:
    """Let a pool be unknown, durably; return whether it was known. The pool itself stays as it is."""
    where = config_directory()
    if where is None:
        return False
    try:
        with Directory.open(f"{where}/{_DIRECTORY}") as directory:
            removed = directory.remove(name + _ENDING)
            directory.sync()
            return removed
    except FileNotFoundError:
        return False


def require_in_no_other(pool: str, vm: str, volume_id: str) -> None:
    """Check that a volume which is to be made in the pool of this directory would not lie in another known pool.

    One whose file system is not mounted now shows nothing that tells of it.

    Raises:
        InAnotherPool: it would.
    """
    root = os.path.realpath(pool)
    place = f"{root}/{vm}"
    for one in known():
        real = os.path.realpath(one.path)
        inside = os.path.commonpath([root, real]) == root and real != root
        if inside and os.path.commonpath([real, place]) == real:
            raise InAnotherPool(volume_id, pool, one.path)


def _settings() -> Directory:
    where = config_directory()
    if where is None:
        from lifecycle.machine import user_directories  # noqa: PLC0415 - seldom needed

        raise user_directories.no_home("the names of pools", "set $HOME or $LIFECYCLE_CONFIG")
    os.makedirs(where, exist_ok=True)
    with Directory.open(where) as directory:
        return directory.child(_DIRECTORY, create=True)


def _read(directory: Directory, file: str) -> KnownPool | Unreadable:
    name = file.removesuffix(_ENDING)
    try:
        _check(name)
        table = tomllib.loads(directory.read(file, _MAX_BYTES).decode())
        path = table.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            raise InvalidConfig(f"{directory.path}/{file}", "needs `path`, an absolute path")
    except (LifecycleError, OSError, ValueError, RecursionError) as error:
        return Unreadable(f"{directory.path}/{file}", error)
    return KnownPool(name, path)


def _check(name: str) -> None:
    ids.check_vm(name)
    if "/" in name or ":" in name:
        raise InvalidName(name, "a pool's name has no `/` and no `:`")


def _free_name(wanted: str, taken: dict[str, KnownPool]) -> str:
    numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *numbered) if name not in taken)
