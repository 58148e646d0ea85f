"""What the file system under a pool can do, found out by trying."""

from __future__ import annotations

import os

from lifecycle.files import Directory, reflink, set_time


def has_reflinks(directory: Directory) -> bool:
    """Tell whether files in this directory can share blocks, by trying it.

    Raises:
        OSError: the directory cannot be written to, or trying failed for another reason.
    """
    with directory.draft("probe") as source, directory.draft("probe") as target:
        os.write(source.fd, b"probe" * 1000)
        return reflink(source.fd, target.fd)


def keeps_nanoseconds(directory: Directory) -> bool:
    """Tell whether files in this directory keep their times to the nanosecond, by trying it.

    Raises:
        OSError: the directory cannot be written to.
    """
    with directory.draft("probe") as draft:
        set_time(draft.fd, 7)
        return os.fstat(draft.fd).st_mtime_ns == 7  # noqa: PLR2004 - what was set
