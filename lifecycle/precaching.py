"""Precaching at work: a subscriber that has the next working image made ahead, by a process of its own.

The process is detached, has the lowest priority for processor and disk, and no one waits for it: without it a start
makes its own working image. It is ahead_worker.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lifecycle import events
from lifecycle.errors import LifecycleError

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
        """Begin, if there is something to be made; what goes wrong is logged, for a start can do without."""
        with _logged(volume_id):
            wanting = pool.backend.wants_ahead(volume_id)
            if wanting is None:
                return
            waiting: dict[str, list[str]] | None = getattr(_this_thread, "waiting", None)
            if waiting is None:
                begin(pool.path, wanting)
            else:
                waiting.setdefault(pool.path, []).append(wanting)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Let one process make ahead all that is wanted within the block."""
    around: dict[str, list[str]] | None = getattr(_this_thread, "waiting", None)
    waiting: dict[str, list[str]] = {}
    _this_thread.waiting = waiting
    try:
        yield
    finally:
        _this_thread.waiting = around
        for path, wanting in waiting.items():
            with _logged(path):
                begin(path, *dict.fromkeys(wanting))


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except (LifecycleError, OSError) as error:
        log.warning("%s: nothing is made ahead: %s", what, error)


_this_thread = threading.local()
"""`waiting`: what is wanted within `together`, by the pool's path."""


def begin(path: str, *volume_ids: str) -> int:
    """Begin to make volumes' working images ahead, in a process that outlives this one; return its id."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    pid = os.posix_spawn(
        sys.executable,
        # -P: nothing is loaded from the directory that the caller happens to be in
        [sys.executable, "-P", "-m", "lifecycle.ahead_worker", path, *volume_ids],
        os.environ,
        file_actions=null,
        setsid=True,
        setsigmask=(),
    )
    _reap()
    _begun.append(pid)
    return pid


_begun: list[int] = []
"""The processes begun here that have not been seen to end."""


def _reap() -> None:
    """Let those go that have ended; waiting for each in a thread would hold up who begins it."""
    for pid in list(_begun):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # someone else in this process waits for all its children
            ended = True
        if ended:
            _begun.remove(pid)
