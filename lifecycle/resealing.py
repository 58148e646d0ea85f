"""Images that do not bear their seal are sealed anew, since a person knows them to be right."""

from __future__ import annotations

import os

from lifecycle import files, seals
from lifecycle.verify_reflink import sealed_images
from lifecycle.volume_files import VolumeFiles


def reseal(opened: VolumeFiles) -> tuple[int, ...]:
    """Seal the images of a volume at rest that do not bear their seal; return their numbers. Durable."""
    accepted = []
    for number, file, status, at in sealed_images(
        opened.directory, opened.evidence, opened.view, opened.record
    ):
        if seals.is_sealed(status, number, at):
            continue
        fd = opened.directory.open_file(file)
        try:
            second = opened.seal(fd, number, at)
            files.sync_content(fd)
        finally:
            os.close(fd)
        if number == opened.view.current:
            opened.record = opened.record._replace(stamp=second)
        accepted.append(number)
    if accepted:
        opened.write(opened.record)
        opened.directory.sync()
    return tuple(accepted)
