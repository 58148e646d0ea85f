"""Content into volumes and out of them: import, export, and clones, which are made whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lifecycle.engine import registry
from lifecycle.engine.plan import plan, require_allowed
from lifecycle.errors import LifecycleError, storage
from lifecycle.sizes import round_up
from lifecycle.states import Event
from lifecycle.transfer.content import Content, Origin, path_of, prepared

if TYPE_CHECKING:
    from lifecycle.backend import Volume
    from lifecycle.model import Change

log = logging.getLogger("lifecycle.contents")


def import_into(volume: Volume, origin: Origin, how: Mapping[str, Any]) -> Change:
    """Make content current, as `Volume.import_from` says; durable when this returns.

    Args:
        volume: the volume.
        origin: the content.
        how: how it is read and checked, as `prepared` takes it.
    """
    with ExitStack() as opened:
        content = opened.enter_context(Content.using(origin))
        require_allowed(volume, Event.IMPORT)  # before what may take long
        content = opened.enter_context(prepared(content, volume, registry.is_image, **how))
        asked = {
            "content": content.readable,
            "name": content.name,
            "verify": how["verify"],
            "own": content.own,
        }
        with volume.pool.changing(volume, what=Event.IMPORT):
            return plan(volume, Event.IMPORT, reason=content.cause, asked=asked).run()


def export_of(volume: Volume, revision: int | None) -> Content:
    """Open the current image, or a revision, for reading, as `Volume.export` says."""
    volume.require(volume.look())
    backend = volume.pool.backend
    image = backend.open_image(volume.id, revision)
    try:
        own = image.fd is not None and backend.is_image(path_of(image.fd))
        # asked only now: what was opened before cannot hold what a run writes that is not over yet
        before_start = revision is None and volume.look().running
    except BaseException:
        image.close()
        raise
    return Content(image, volume.id, "clone", raw=True, own=own, before_start=before_start)


def clone(
    origin: Origin, volume: Volume, create: Callable[[int], object], how: Mapping[str, Any]
) -> None:
    """Make a volume that is not there yet, with this content, as `Pool.clone` says; durable when this returns.

    Args:
        origin: the content.
        volume: the volume.
        create: creates it, empty, with so many bytes.
        how: how the content is read and checked, as `prepared` takes it.
    """
    with ExitStack() as opened:
        content = opened.enter_context(Content.using(origin))
        if content.size != 0:
            require_allowed(volume, Event.CREATE)  # before what may take long
        content = opened.enter_context(prepared(content, volume, registry.is_image, **how))
        with storage(volume.id, "lock"):
            # not given up before the end: what is taken back is still what was made here
            opened.enter_context(volume.pool.locked(volume.vm, create=True))
        create(round_up(content.size or 0))
        try:
            import_into(volume, content, {"verify": how["verify"]})
        except BaseException:
            try:
                with volume.pool.changing(volume):
                    plan(volume, Event.REMOVE).run()
            except LifecycleError:
                log.exception("%s: it stays, empty: it could not be removed again", volume.id)
            raise
