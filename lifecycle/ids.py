"""The ids of volumes, the names of VMs, and the numbers of revisions: what they can be.

A volume's id is `VM/NAME`. The VM may lie below others (`appvms/work`). Where a pool is a directory, so is the VM, and
NAME is the stem of the volume's files in it. So that no two volumes can claim one file, a name that ends as another
volume's file would, or holds a mark that the files use, is refused.
"""

from __future__ import annotations

import functools
import os
import re

from lifecycle import errors
from lifecycle.errors import InvalidName

MAX_NUMBER = 10**9 - 1
"""The highest number a revision can have: it must fit in the nanoseconds of a second (reflink/seals.py)."""

HOOKS = "hooks.d"
"""The directory of a pool with its hooks: no VM."""

_MAX_NAME = 190
"""Bytes. A name of 255, the most a file system takes, less the longest ending that is put behind it."""
_MAX_ID = 1000
"""Bytes. Well under what the kernel takes as a path (4096), the pool's own path before it included."""
_RESERVED_ENDINGS = ("-dirty", "-precache", "-import", "-cow")
"""What a volume's file has behind its NAME, before `.img`."""
_ENDINGS_OF_FILES = (".img", ".json")
"""What the name of a volume's file ends in, but for those with a mark that no name can hold."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of characters that control, break lines, or cannot be shown."""


def printable(name: str) -> str:
    """Return a file's name as it can be printed anywhere; names on disk are bytes of any kind."""
    return errors.printable(os.fsencode(name).decode(errors="backslashreplace"))


def split_id(volume_id: str) -> tuple[str, str]:
    """Check a volume's id and return its VM and its NAME.

    Raises:
        InvalidName: it is none, with the reason.
    """
    _check_is_text(volume_id)
    return _split_id(volume_id)


@functools.lru_cache(maxsize=1000)
def _split_id(volume_id: str) -> tuple[str, str]:
    _check_path(volume_id)
    vm, slash, name = volume_id.rpartition("/")
    if not slash:
        raise InvalidName(volume_id, "a volume's id is VM/NAME, as in `ci-42/root`")
    _check_part(volume_id, name, last=True)
    try:
        check_vm(vm)
    except InvalidName as error:
        raise InvalidName(volume_id, error.reason) from None
    return vm, name


def check_vm(vm: str) -> None:
    """Check a VM's name.

    Raises:
        InvalidName: it is none, with the reason.
    """
    _check_is_text(vm)
    _check_path(vm)
    for depth, part in enumerate(vm.split("/")):
        _check_part(vm, part, last=False)
        if not depth and part == HOOKS:
            raise InvalidName(vm, "a pool's own hooks are there")
        if depth and part.endswith(_ENDINGS_OF_FILES):
            raise InvalidName(
                vm, f"`{part}` would lie where a volume of the VM above it has a file of that name"
            )


def _check_is_text(path: object) -> None:
    if not isinstance(path, str):
        raise InvalidName(path, "a name is a string")


def _check_path(path: str) -> None:
    if not path:
        raise InvalidName(path, "it is empty")
    if path.startswith("/"):
        raise InvalidName(path, "it is an absolute path; names are relative to the pool")
    if len(path.encode(errors="surrogatepass")) > _MAX_ID:
        raise InvalidName(path, f"it is longer than {_MAX_ID} bytes")


def _check_part(path: str, part: str, *, last: bool) -> None:
    objection = objection_to(part, last=last)
    if objection:
        raise InvalidName(path, objection)


@functools.lru_cache(maxsize=4096)
def objection_to(part: str, *, last: bool) -> str | None:
    """Say why a part of a path cannot be one of a name, `last` for a volume's own; None if it can."""
    if _PLAIN.fullmatch(part) and not (last and part.endswith(_RESERVED_ENDINGS)):
        return None  # most names by far: nothing below can object to one
    import unicodedata  # noqa: PLC0415 - most names need none of it

    checks = (
        (not part, "it has an empty part"),
        (part in {".", ".."}, "it has a part that is `.` or `..`"),
        (part.startswith((".", "-")), "a part of it starts with `.` or `-`"),
        ("@" in part or "~" in part, "`@` and `~` mark revisions and temporary files"),
        (
            any(unicodedata.category(char) in _UNSEEN for char in part),
            "it has a control character or one that cannot be shown",
        ),
        (part != part.strip(), "a part of it starts or ends with a space"),
        (
            not unicodedata.is_normalized("NFC", part),
            "it is not in Unicode's composed form (NFC), so two names could look the same",
        ),
        (
            last and part.endswith(_RESERVED_ENDINGS),
            "it ends in -dirty, -precache, -import or -cow, as another volume's file would",
        ),
        (
            len(part.encode(errors="surrogatepass")) > _MAX_NAME,
            f"a part of it is longer than {_MAX_NAME} bytes",
        ),
    )
    return next((reason for wrong, reason in checks if wrong), None)
