"""Seals images anew that a person has declared to be right."""

from __future__ import annotations

import os

from lifecycle.errors import Refused
from lifecycle.linux import failed_flush
from lifecycle.reflink import recording, seals
from lifecycle.reflink.images import VolumeImages
from lifecycle.reflink.verify import sealed_images


def reseal(opened: VolumeImages) -> tuple[int, ...]:
    """Seal the images of a volume at rest that do not bear their seal; return their numbers. Durable.

    Raises:
        Refused: a flush of one failed before. FlushError: it failed now.
    """
    accepted = []
    for number, file, status, at in sealed_images(
        opened.directory, opened.evidence, opened.view, opened.record
    ):
        if failed_flush.is_marked(status):
            reason = f"a flush of {file} failed, so the disk may hold less than was written; copy it anew"
            raise Refused(opened.volume_id, opened.view.state, "accept", reason)
        if seals.is_sealed(status, number, at):
            continue
        fd = opened.directory.open_file(file)
        try:
            second = recording.seal(opened, fd, number, at)
            opened.image(fd, file).sync()
        finally:
            os.close(fd)
        if number == opened.view.current:
            opened.record = opened.record._replace(stamp=second)
        accepted.append(number)
    if accepted:
        recording.write(opened, opened.record)
        opened.directory.sync()
    return tuple(accepted)
