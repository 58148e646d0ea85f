"""Makes one image of another: shares its blocks or, where that cannot be and was accepted, copies."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from lifecycle.errors import NoReflinks, NotTheSame, Unsupported
from lifecycle.linux import copying, files, holders, reflinks
from lifecycle.linux.directories import Draft
from lifecycle.linux.failed_flush import Image
from lifecycle.readable import Readable, difference
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.names import Kind
from lifecycle.reflink.store import Store

if TYPE_CHECKING:
    from lifecycle.backend import Pool

log = logging.getLogger("lifecycle.backend")


def clone(store: Store, pool: Pool, origin: int, draft: Draft, what: str) -> None:
    """Let the draft share the origin's blocks; where only these two cannot, or that was accepted, copy.

    Raises:
        NoReflinks: there are none where the draft is, and that was not accepted.
    """
    objection = Image(origin, f"{store.root}/{what}{Kind.CURRENT}").share_with(draft.fd)
    if objection is None:
        log.info("reflinked the current image of %r", what)
        return
    if store.config.setup_check:
        if not reflinks.has_reflinks(draft.directory):
            raise NoReflinks(draft.directory.path)
        log.warning(
            "%s is copied in full into %s, as the two share no blocks: %s",
            os.readlink(f"/proc/self/fd/{origin}"),
            draft.directory.path,
            objection,
        )
    copying.copy(origin, draft.fd, pool.progress(f"copy {what}"))
    log.info("copied the current image of %r", what)


def clone_current(store: Store, pool: Pool, opened: VolumeImages, draft: Draft) -> None:
    """Let the draft share the volume's current image's blocks, or copy it."""
    origin = opened.open_current()
    try:
        clone(store, pool, origin, draft, opened.volume_id)
    finally:
        os.close(origin)


def copy_unused(pool: Pool, origin: int, draft: Draft, what: str) -> None:
    """Copy an image that no one else has open.

    Raises:
        Unsupported: someone has.
    """
    if holders.is_open_elsewhere(origin) is not False:
        raise Unsupported(
            f"{what}: a checkpoint of a running VM needs reflinks, for a copy of an image that is"
            " being written to is not of one moment; stop the VM instead"
        )
    copying.copy(origin, draft.fd, pool.progress(f"copy {what}"))


def require_same(pool: Pool, content: Readable, draft: Draft, volume_id: str, name: str) -> None:
    """Read content and its copy again, from the disk, and compare.

    Raises:
        NotTheSame: they differ.
    """
    files.sync_content(draft.fd)
    for fd in (content.fd, draft.fd):
        if fd is not None:
            copying.drop_cache(fd)
    written = copying.OpenFile(draft.fd)
    where = difference(content, written, pool.progress(f"verify {volume_id}"))
    if where is not None:
        raise NotTheSame(name, f"they differ at byte {where}")
