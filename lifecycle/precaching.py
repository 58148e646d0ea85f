"""Precaching at work: a subscriber that has the next working image made ahead, by a process of its own.

The process is detached, has the lowest priority for processor and disk, and no one waits for it: without it a start
makes its own working image. `python -m lifecycle.precaching POOL VOLUME` is that process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifecycle import events

if TYPE_CHECKING:
    from lifecycle.change import Change
    from lifecycle.pool import Pool
    from lifecycle.volume import Volume

log = logging.getLogger("lifecycle.precaching")

WORKER = "lifecycle-ahead"
"""What such a process is called; one that reads a current image is in no one's way."""


class Precaching:
    """Has working images made ahead, after whatever used one up or made another image current."""

    def connect(self, pool: Pool) -> None:
        """Subscribe to this pool's signals."""
        for signal in (
            events.started,
            events.released,
            events.committed,
            events.reverted,
            events.resized,
            events.imported,
        ):
            signal.connect(self.after, sender=pool)

    def after(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """See to what the volume's next start will want."""
        self.see_to(pool, volume.id)

    def see_to(self, pool: Pool, volume_id: str) -> None:
        """Begin, if there is something to be made."""
        wanting = pool.backend.wants_ahead(volume_id)
        if wanting is not None:
            begin(pool.path, wanting)


def begin(path: str, volume_id: str) -> subprocess.Popen[bytes]:
    """Begin to make a volume's working images ahead, in a process that outlives this one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lifecycle.precaching", path, volume_id],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie
    return process


def main(arguments: Sequence[str]) -> None:
    """Make a volume's working images ahead."""
    from lifecycle.pool import Pool  # noqa: PLC0415 - only in the process of its own

    path, volume_id = arguments
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(WORKER)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # for processor and disk alike
    Pool.open(path).backend.make_ahead(volume_id)


if __name__ == "__main__":
    main(sys.argv[1:])
