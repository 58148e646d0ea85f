"""Working images made ahead: finds a fresh one, takes it for a start, drops stale ones.

A volume's next working image is `NAME-precache.img`; those waiting for the disposables that begin from it are
`.ready/NAME.….img` beside it. Each is sealed as every unwritten working image is (reflink/seals.py): so one that was
made from another image is told at a glance, though that had the same number, as one put back from a backup has.
"""

from __future__ import annotations

import errno
import logging
import os
import stat

from lifecycle.errors import ForeignFile, blames_file
from lifecycle.linux.directories import Directory, temporary_name
from lifecycle.linux.files import set_mode
from lifecycle.linux.status import status_of
from lifecycle.reflink import seals
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.seals import Origin

log = logging.getLogger("lifecycle.backend")

READY = ".ready"
"""The directory, within a VM's, of the images that wait for disposables."""


def is_fresh(status: os.stat_result, origin: Origin, size: int) -> bool:
    """Tell whether this is an unwritten image that was made from the origin, which holds so many bytes."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_nlink == 1
        and status.st_size == size
        and seals.is_unwritten(status, origin)
    )


def fresh_precache(opened: VolumeImages) -> os.stat_result | None:
    """Return the status of the volume's next working image; None if there is none that is fresh."""
    status = status_of(opened.directory, opened.name + Kind.PRECACHE)
    size, origin = opened.evidence.current_size, opened.origin
    if not isinstance(status, os.stat_result) or size is None or origin is None:
        return None
    return status if is_fresh(status, origin, size) else None


def take_precache(opened: VolumeImages, mode: int) -> bool:
    """Make the next working image the working image, with these permissions; False if there is no fresh one."""
    status = fresh_precache(opened)
    if status is None:
        return False
    file = opened.name + Kind.PRECACHE
    try:
        if stat.S_IMODE(status.st_mode) != mode:
            fd = opened.directory.open_file(file)
            try:
                set_mode(fd, mode)
            finally:
                os.close(fd)
        opened.directory.rename(file, opened.working)
    except OSError as error:
        if not blames_file(error):
            raise
        log.warning("%s/%s is passed over: %s", opened.directory.path, file, error.strerror)
        return False
    return True


def fresh_ready(directory: Directory, name: str, origin: Origin, size: int) -> list[str]:
    """Return the files in a `.ready` that wait for disposables of this volume, and are fresh."""
    found = [entry for entry in _listed(directory) if _is_of(entry, name)]
    statuses = ((file, status_of(directory, file)) for file in found)
    return [
        file
        for file, status in statuses
        if isinstance(status, os.stat_result) and is_fresh(status, origin, size)
    ]


def can_wait(directory: Directory) -> bool:
    """Tell whether images can wait in a VM's directory: there is no `.ready` yet, or one that is of use.

    On another file system, or in another subvolume, it is of none: nothing could be moved from there to a disposable.
    """
    status, here = status_of(directory, READY), directory.stat(".")
    if status is None:
        return True
    return (
        isinstance(status, os.stat_result)
        and stat.S_ISDIR(status.st_mode)
        and here is not None
        and status.st_dev == here.st_dev
        and directory.lets_change(READY)
    )


def open_ready(directory: Directory) -> Directory | None:
    """Open the `.ready` in a VM's directory; None if there is none. One that cannot be opened is passed over.

    What is made ahead can be done without, so it never keeps a VM from starting, or a stop from being kept.
    """
    try:
        return directory.child(READY)
    except FileNotFoundError:
        return None
    except (ForeignFile, OSError) as error:
        if isinstance(error, OSError) and not blames_file(error):
            raise
        log.warning("images made ahead are passed over: %s", error)
        return None


def _listed(directory: Directory) -> list[str]:
    """Return the names in a `.ready`; none, if it cannot be listed."""
    try:
        return [entry.name for entry in directory.entries()]
    except OSError as error:
        if not blames_file(error):
            raise
        log.warning("images made ahead are passed over: %s", error)
        return []


def claim_ready(
    there: Directory,
    name: str,
    origin: Origin,
    size: int,
    here: Directory,
    working: str,
) -> str | None:
    """Take one image that waits, out of its source's VM, to a temporary name in a disposable's.

    Args:
        there: the source's VM's directory.
        name: the source's NAME.
        origin: the image that the disposable begins from.
        size: bytes that it holds.
        here: the disposable's VM's directory.
        working: the name that the image is to get in the end.

    Returns:
        the temporary name; None if none waits, or none can be moved from there to here.
    """
    waiting = open_ready(there)
    if waiting is None:
        return None
    with waiting:
        for file in fresh_ready(waiting, name, origin, size):
            claimed = temporary_name(working)
            try:
                waiting.move(file, here, claimed)
            except FileNotFoundError:
                continue  # another disposable was quicker
            except OSError as error:
                if not blames_file(error):
                    raise
                # between two subvolumes, projects or mounts only a clone goes, and that is no fault of anyone's
                level = logging.INFO if error.errno == errno.EXDEV else logging.WARNING
                whence, why = f"{waiting.path}/{file}", error.strerror
                log.log(level, "%s cannot be moved into %s: %s", whence, here.path, why)
                return None
            return claimed
    return None


def new_ready_name(name: str) -> str:
    """Return a name for one more image to wait."""
    return f"{name}.{os.urandom(8).hex()}.img"


def drop(opened: VolumeImages) -> None:
    """Remove all that was made ahead."""
    drop_precache(opened)
    drop_ready(opened)


def drop_precache(opened: VolumeImages) -> None:
    """Remove the volume's next working image, if there is one.

    What makes another image current leaves it, to be replaced in the background, since it is told to be stale at a
    glance: to remove a fragmented one takes longer than all else.
    """
    file = opened.name + Kind.PRECACHE
    try:
        opened.directory.remove(file)
    except OSError as error:
        if not blames_file(error):
            raise
        log.warning("%s/%s stays: %s", opened.directory.path, file, error.strerror)


def drop_ready(opened: VolumeImages, *, keep: int = 0) -> None:
    """Remove what waits for disposables, but for so many."""
    waiting = open_ready(opened.directory)
    if waiting is None:
        return
    try:
        with waiting:
            files = sorted(entry for entry in _listed(waiting) if _is_of(entry, opened.name))
            for file in files[keep:]:
                waiting.remove(file)
        if not keep:
            opened.directory.remove_directory(READY)  # unless another volume's images wait there
    except OSError as error:
        if not blames_file(error):
            raise
        # they are told to be stale at a glance
        log.warning("%s: images made ahead stay: %s", waiting.path, error.strerror)


def _is_of(file: str, name: str) -> bool:
    """Tell whether this is an image that waits for disposables of that volume: NAME.sixteen digits.img."""
    return file.startswith(f"{name}.") and len(file) == len(name) + len(new_ready_name(""))
