"""Gives a working image to the user that its hypervisor runs as (the setting `owner`)."""

from __future__ import annotations

from lifecycle.errors import Unsupported
from lifecycle.linux import files
from lifecycle.linux.directories import Directory

KEPT = -1
"""The group's number where only a user is named: it stays as it is."""
_NONE = KEPT % 2**32
"""The same as the kernel has it: from here on there are no numbers of users and groups."""


def hand_over(fd: int, owner: str, root: str, vm: str) -> None:
    """Give the image to that owner, and let him pass through the directories from the pool's down to the VM's.

    Raises:
        Unsupported: there is no such user or group here.
        PermissionError: this user may not give a file away.
    """
    user, group = resolve(owner)
    files.give(fd, user, group)
    let_through(root, vm)


def let_through(root: str, vm: str) -> None:
    """Let every user pass through the pool's directory and those down to the VM's; they still cannot list them."""
    with Directory.open(root) as here:
        here.let_through()
        parts = vm.split("/")
        for depth in range(1, len(parts) + 1):
            with here.child("/".join(parts[:depth])) as directory:
                directory.let_through()


def resolve(owner: str) -> tuple[int, int]:
    """Return the numbers of a user and a group, written `USER` or `USER:GROUP`, each by name or number.

    Raises:
        Unsupported: there is no such user or group here.
    """
    import grp  # noqa: PLC0415 - only where a working image has an owner of its own
    import pwd  # noqa: PLC0415

    user, _, group = owner.partition(":")
    try:
        number = _number(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        if not group:
            return number, KEPT
        return number, _number(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Unsupported(
            f"the owner {owner!r}, to whom working images are to be given, is not known on this machine; make that"
            " user and group, or set `owner` otherwise"
        ) from None


def _number(text: str) -> int:
    """Return the number of a user or a group.

    Raises:
        KeyError: there can be none of that number.
    """
    number = int(text)
    if number >= _NONE:
        raise KeyError(number)
    return number
