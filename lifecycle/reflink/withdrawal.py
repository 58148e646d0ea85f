"""Renames an image, so that no one can open it any more, and only then asks who has it open.

How this works. Before an event pulls an image away, no one may have it open: whoever has would go on writing into what
is current then, or into a file without a name. If that is asked while the image still bears its name, a VM can open it
after the answer. So its name is taken away first. Then no one can open it any more, and the answer stands for good.
If someone has it, it gets its name back, and nothing has happened.

Once it is no one's, it is made this user's own, so that a hypervisor's user, whom it was given to, cannot reopen what
becomes current. A crash in between leaves the image under the other name, which whoever looks takes for its own
(reflink/scan.py), and the next event gives its name back.

Another name wants room, which a full btrfs does not have. What is to be thrown away may be what makes room, so it is
asked under its own name then, and once more in the moment before it is removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle.config import UnknownUse
from lifecycle.errors import ForeignFile, InUse
from lifecycle.linux import files, holders
from lifecycle.reflink.names import WITHDRAWN, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifecycle.errors import Holder
    from lifecycle.linux.directories import Directory
    from lifecycle.model import Change
    from lifecycle.reflink.images import VolumeImages

log = logging.getLogger("lifecycle.backend")


@contextlib.contextmanager
def withdrawn(
    opened: VolumeImages, change: Change, kind: str = Kind.WORKING, *, throws_away: bool = False
) -> Iterator[str]:
    """Take the name of the volume's image away, and yield the other name that it bears within the block.

    If the block fails while the image still bears that name, it gets its own back. Where it is thrown away (by `drop`)
    and the disk has no room for another name, it keeps its own.

    Raises:
        InUse: someone has it open, or that cannot be known; it has its name again.
    """
    file, away = opened.name + kind, opened.name + WITHDRAWN[kind]
    name = away
    if kind not in opened.evidence.withdrawn:
        try:
            opened.directory.rename(file, away)
        except OSError as error:
            if not throws_away or error.errno not in files.NO_ROOM:
                raise
            name = file
    try:
        _require_unused(opened, change, kind, name, make_own=not throws_away)
        yield name
    except BaseException:
        _give_back_if_there_is_room(opened.directory, away, file)
        raise


def drop(opened: VolumeImages, change: Change, file: str, kind: str = Kind.WORKING) -> None:
    """Remove an image that is thrown away, by the name that `withdrawn` yielded.

    Raises:
        InUse: it has kept its own name, and someone has opened it meanwhile.
    """
    if file == opened.name + kind:
        # as near to the removal as can be: a VM that opens it in between writes to a file without a name
        _require_unused(opened, change, kind, file, make_own=False)
    opened.directory.remove(file)


def _require_unused(
    opened: VolumeImages, change: Change, kind: str, file: str, *, make_own: bool
) -> None:
    """Check that no one has the image open, and if `make_own` let it be this user's own.

    Raises:
        InUse: someone has, or that cannot be known.
    """
    fd = opened.directory.open_file(file)
    try:
        found = count(_ask(fd), kind, opened.unknown_use)
        if found:
            wanted = opened.view.goes_back_to(change.event, change.source, change.asked.get("to"))
            raise InUse(opened.volume_id, change.source, change.event, found, wanted=wanted)
        if make_own and os.fstat(fd).st_nlink == 1:  # another name is another's: a backup's, say
            files.make_own(fd)
    finally:
        os.close(fd)


def _ask(fd: int) -> tuple[Holder, ...]:
    """Return who else has the image open. Who owns a file may ask the kernel, so it is made one's own if need be."""
    found = holders.users(lambda: holders.ask(fd))
    if all(one.known for one in found):
        return found
    before = os.fstat(fd)
    try:
        files.give(fd, os.geteuid())
    except PermissionError:
        return found
    found = holders.users(lambda: holders.ask(fd))
    if found:
        files.give(fd, before.st_uid)
    return found


def count(found: Sequence[Holder], kind: str, unknown_use: UnknownUse) -> tuple[Holder, ...]:
    """Return those of the holders of an image who count as using it.

    The process that makes the next working image ahead does not, for it only reads the current image, and gives way.
    """
    return tuple(
        one
        for one in found
        if not (kind == Kind.CURRENT and one.name == holders.BACKGROUND)
        and (one.known or unknown_use is UnknownUse.REFUSE)
    )


def give_back(directory: Directory, away: str, file: str) -> None:
    """Give an image that still bears the other name its own again, unless another file has taken that meanwhile."""
    try:
        directory.link(away, file)
    except FileNotFoundError:
        return  # it has become another image, or is gone
    except FileExistsError:
        log.error("%s/%s was made meanwhile; the image is %s", directory.path, file, away)
    else:
        directory.remove(away)


def _give_back_if_there_is_room(directory: Directory, away: str, file: str) -> None:
    """Give an image its own name back; where there is no room for that, a later event does."""
    try:
        give_back(directory, away, file)
    except OSError as error:
        if error.errno not in files.NO_ROOM:
            raise
        log.warning("%s/%s stays %s: %s", directory.path, file, away, error.strerror)


def put_back(opened: VolumeImages) -> None:
    """Give the images their names back that were taken away by an event that was cut off, if there is room.

    Without it an event that makes room can do with the other names.
    """
    for kind in opened.evidence.withdrawn:
        _give_back_if_there_is_room(
            opened.directory, opened.name + WITHDRAWN[kind], opened.name + kind
        )


def require_own_name(opened: VolumeImages) -> None:
    """See that the working image bears its own name, by which its VM opens it.

    Raises:
        OSError: it does not, and there is no room for it.
    """
    if Kind.WORKING in opened.evidence.withdrawn:
        away, file = opened.name + WITHDRAWN[Kind.WORKING], opened.name + Kind.WORKING
        give_back(opened.directory, away, file)
        withdrawn = opened.evidence.withdrawn - {Kind.WORKING}
        opened.evidence = opened.evidence._replace(withdrawn=withdrawn)


def require_own_name_only(opened: VolumeImages) -> None:
    """Check that the working image has no other name.

    Raises:
        ForeignFile: it has, and what bears that would be changed too.
    """
    # asked now, for what a crash left may have been cleared since
    working = opened.directory.stat(opened.working)
    if working is not None and working.st_nlink > 1:
        raise ForeignFile(
            f"{opened.directory.path}/{opened.working}",
            "a file with a second name elsewhere (a hard link)",
            "remove the other name, or put a copy in its place",
        )
