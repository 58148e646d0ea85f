"""Makes one image of another, above all the working image that a start begins with."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from lifecycle import ids
from lifecycle.config import VolumeConfig
from lifecycle.errors import NoReflinks, NoSuchVolume, NotTheSame, Unsupported
from lifecycle.linux import copying, files, holders, reflinks
from lifecycle.linux.directories import Draft
from lifecycle.linux.durability import Steps
from lifecycle.linux.failed_flush import Image
from lifecycle.reflink import precached
from lifecycle.reflink.names import Kind
from lifecycle.reflink.seals import Origin
from lifecycle.reflink.steps import VolumeFiles, seal_unwritten, truncate
from lifecycle.reflink.store import ReflinkTelling

if TYPE_CHECKING:
    from lifecycle.backend import Pool

log = logging.getLogger("lifecycle.backend")

_READ_ONLY = 0o400


class ReflinkCloning(ReflinkTelling):
    """The part of the reflink backend that clones, or where that cannot be and was accepted, copies."""

    def begin(self, pool: Pool, opened: VolumeFiles) -> Steps:
        """Make the working image, named but not durably so."""
        config = opened.record.config
        mode = files.FILE_MODE if config.rw else _READ_ONLY
        if config.source is None:
            made_from = opened.origin
            if made_from is None:
                raise NoSuchVolume(opened.volume_id, self.root)
            if precached.take_precache(opened, mode):
                return
            precached.drop_precache(opened)
            origin, of_image = opened.open_current(), made_from
        else:
            origin, of_image = self.open_current(config.source)
            # the source may move on while this runs: its number is what is written down
            made_from = Origin(of_image.number)
            opened.record = opened.record._replace(begun=made_from.number)
        try:
            with self._working_image(pool, opened, origin, of_image) as image:
                self._grow(image.fd, config)
                files.set_mode(image.fd, mode)
                seal_unwritten(image.fd, made_from)
                if config.source is None:
                    yield [image.fd]
                else:
                    with opened.ready(opened.record) as record:
                        yield [image.fd, record.fd]
                image.give_name(opened.working)
        finally:
            os.close(origin)

    def hand_over(self, opened: VolumeFiles) -> None:
        """Give the working image to the user whom the hypervisor runs as, if one is set."""
        owner = opened.record.config.owner or self.config.owner
        if not owner:
            return
        from lifecycle.linux import ownership  # noqa: PLC0415 - only where one is set

        fd = opened.open_working()
        try:
            ownership.hand_over(fd, owner, self.root, opened.vm)
        finally:
            os.close(fd)

    def _working_image(
        self, pool: Pool, opened: VolumeFiles, origin: int, of_image: Origin
    ) -> Draft:
        """Return a clone of what is open at `origin`, or an image of the source's that waits to be taken."""
        source = opened.record.config.source
        if source is not None:
            vm, name = ids.split_id(source)
            with self.directory(vm) as there:
                size = os.fstat(origin).st_size
                claimed = precached.claim_ready(
                    there, name, of_image, size, opened.directory, opened.working
                )
            if claimed is not None:
                return opened.directory.reopened(claimed)
        draft = opened.draft()
        try:
            self.clone(pool, origin, draft, source or opened.volume_id)
        except BaseException:
            draft.close()
            raise
        return draft

    def clone(self, pool: Pool, origin: int, draft: Draft, what: str) -> None:
        """Let the draft share the origin's blocks; where only these two cannot, or that was accepted, copy.

        Raises:
            NoReflinks: there are none where the draft is, and that was not accepted.
        """
        objection = Image(origin, f"{self.root}/{what}{Kind.CURRENT}").share_with(draft.fd)
        if objection is None:
            log.info("reflinked the current image of %r", what)
            return
        if self.config.setup_check:
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

    def require_same(
        self, pool: Pool, content: int, draft: Draft, volume_id: str, name: str
    ) -> None:
        """Read content and its copy again, from the disk, and compare.

        Raises:
            NotTheSame: they differ.
        """
        files.sync_content(draft.fd)
        for fd in (content, draft.fd):
            copying.drop_cache(fd)
        where = copying.difference(content, draft.fd, pool.progress(f"verify {volume_id}"))
        if where is not None:
            raise NotTheSame(name, f"they differ at byte {where}")

    def clone_current(self, pool: Pool, opened: VolumeFiles, draft: Draft) -> None:
        """Let the draft share the volume's current image's blocks, or copy it."""
        origin = opened.open_current()
        try:
            self.clone(pool, origin, draft, opened.volume_id)
        finally:
            os.close(origin)

    def copy_unused(self, pool: Pool, origin: int, draft: Draft, what: str) -> None:
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

    def _grow(self, fd: int, config: VolumeConfig) -> None:
        """Give a disposable's working image the size it is set up with, if its source is smaller."""
        wanted = config.size if config.source is not None else None
        if wanted is not None and wanted > os.fstat(fd).st_size:
            truncate(fd, wanted)
