"""A file system that refuses to let one file or directory be read: injected at the calls that read."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Read = str
"""The call that is refused: `stat`, `open`, `read`, `seek`, `list`, `xattr`; or `entry`: a listed name's kind too."""


class _Entry:
    """A listed name of which nothing more can be told."""

    def __init__(
        self, entry: os.DirEntry[str], refuse: Callable[[], None], *, knows_kind: bool
    ) -> None:
        self._knows_kind = knows_kind
        self.name = entry.name
        self.path = entry.path
        self._entry = entry
        self._refuse = refuse

    def inode(self) -> int:
        return self._entry.inode()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        self._refuse()
        return self._entry.stat(follow_symlinks=follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        if not self._knows_kind:
            self._refuse()
        return self._entry.is_file(follow_symlinks=follow_symlinks)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        if not self._knows_kind:
            self._refuse()
        return self._entry.is_dir(follow_symlinks=follow_symlinks)


@contextmanager
def refusing(
    path: Path, read: Read, code: int, *, times: int | None = None, after: int = 0
) -> Iterator[list[str]]:
    """Refuse that call on that path with this error, always or so often; yield the calls that were refused.

    Args:
        path: the file or directory.
        read: the call.
        code: the error's number.
        times: how often; None for always.
        after: how many such calls are let through before.
    """
    wanted = os.path.join(os.path.realpath(path.parent), path.name)
    refused: list[str] = []
    let_through: list[str] = []

    def refuse(asked: Any, dir_fd: int | None) -> None:
        found = (_full(asked, dir_fd) or "").removesuffix("@withdrawn")  # an event takes names away
        if (times is None or len(refused) < times) and found == wanted:
            if len(let_through) < after:
                let_through.append(read)
                return
            refused.append(read)
            raise OSError(code, os.strerror(code), asked if isinstance(asked, str) else None)

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(asked: Any, *others: Any, **options: Any) -> Any:
            refuse(asked, options.get("dir_fd"))
            return real(asked, *others, **options)

        return call

    real_scandir = os.scandir

    @contextmanager
    def scandir(asked: Any) -> Iterator[Any]:
        with real_scandir(asked) as found:
            yield [
                _Entry(one, functools.partial(refuse, one.name, asked), knows_kind=read == "stat")
                for one in found
            ]

    patches = {
        "stat": {"stat": guarded(os.stat), "lstat": guarded(os.lstat), "scandir": scandir},
        "open": {"open": guarded(os.open)},
        "read": {"read": guarded(os.read), "pread": guarded(os.pread)},
        "seek": {"lseek": guarded(os.lseek)},
        "list": {"scandir": guarded(os.scandir), "listdir": guarded(os.listdir)},
        "entry": {"scandir": scandir},
        "xattr": {"listxattr": guarded(os.listxattr), "getxattr": guarded(os.getxattr)},
    }[read]
    with mock.patch.multiple(os, **patches):
        yield refused


def _full(asked: Any, dir_fd: int | None) -> str | None:
    """Return the path that a call asks for, by name, from a directory, or by descriptor."""
    if isinstance(asked, int):
        return os.readlink(f"/proc/self/fd/{asked}")
    if not isinstance(asked, str):
        return None
    if dir_fd is not None:
        return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), asked)
    above, name = os.path.split(os.path.abspath(asked))
    return os.path.join(os.path.realpath(above), name)
