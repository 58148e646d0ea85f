"""The subscriber that has the next working image made ahead, by a process in the background.

The process is detached, has the lowest priority for processor and disk, and no one waits for it: without it a start
makes its own working image. Not even its beginning is waited for, which takes a good part of the time of a stop: a
thread does that.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lifecycle import events
from lifecycle.errors import LifecycleError, printable
from lifecycle.linux.fork_safety import ThreadState
from lifecycle.linux.holders import BACKGROUND

if TYPE_CHECKING:
    from queue import SimpleQueue

    from lifecycle.backend import Pool, Volume
    from lifecycle.model import Change

log = logging.getLogger("lifecycle.precaching")

_WORKER = "lifecycle.engine.precache_worker"
"""The module that the process runs: it asks the pool's backend, whichever that is, to make them."""


class Precaching:
    """Has working images made ahead, after whatever used one up or made another image current."""

    def __init__(self) -> None:
        self._this_thread = _ThisThread()

    def connect(self, pool: Pool) -> None:
        """Subscribe to this pool's signals."""
        events.started.connect(self.after_start, sender=pool)
        for signal in (
            events.released,
            events.committed,
            events.reverted,
            events.resized,
            events.imported,
        ):
            signal.connect(self.after, sender=pool)

    def after_start(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """See to what waits for disposables, if this is one, which begins from no image of its own."""
        if change.revision is None:
            self.see_to(pool, volume.id)

    def after(self, pool: Pool, *, volume: Volume, change: Change) -> None:  # noqa: ARG002
        """See to what the volume's next start will want."""
        self.see_to(pool, volume.id)

    def see_to(self, pool: Pool, volume_id: str) -> None:
        """Begin, if there is something to be made; what goes wrong is logged, for a start can do without."""
        waiting = self._this_thread.waiting
        if waiting is None:
            _see_to(pool, [volume_id])
        else:
            waiting.setdefault(pool, []).append(volume_id)

    @contextlib.contextmanager
    def batch(self, _volumes: Iterable[Volume]) -> Iterator[None]:
        """Let one process for each pool make ahead all that is wanted, at the end of the block."""
        around = self._this_thread.waiting
        waiting: dict[Pool, list[str]] = {}
        self._this_thread.waiting = waiting
        try:
            yield
        finally:
            self._this_thread.waiting = around
            for pool, volume_ids in waiting.items():
                _see_to(pool, volume_ids)


class _ThisThread(ThreadState):
    """What a thread is at.

    Attributes:
        waiting: the volumes to be seen to at the end of `batch`, by their pools; None outside of it.
    """

    def __init__(self) -> None:
        self.waiting: dict[Pool, list[str]] | None = None


def _see_to(pool: Pool, volume_ids: Sequence[str]) -> None:
    wanting = dict.fromkeys(_wanting(pool, volume_ids))
    if wanting:
        begin_soon(pool.path, *wanting)


def _wanting(pool: Pool, volume_ids: Sequence[str]) -> Iterator[str]:
    """Yield the volumes of which something should be made ahead, these or their sources."""
    for volume_id in volume_ids:
        try:
            wanting = pool.backend.wants_ahead(volume_id)
        except (LifecycleError, OSError) as error:
            log.warning("%s: nothing is made ahead: %s", volume_id, error)
        else:
            if wanting is not None:
                yield wanting


def begin_soon(path: str, *volume_ids: str) -> None:
    """Have `begin` called once this thread waits for something, or at the process's end.

    Not if it is cut off before (`os._exit`, a signal): the start makes its own working image then.
    """
    _beginner.ask(_Asked(path, volume_ids, os.environ.copy()))


class _Asked(NamedTuple):
    """What a process is to be begun for, with the environment of the moment it was asked for."""

    path: str
    volume_ids: tuple[str, ...]
    environment: Mapping[str, str]

    def begin(self) -> None:
        """Begin it; what goes wrong is logged."""
        try:
            begin(self.path, *self.volume_ids, environment=self.environment)
        except Exception as error:  # noqa: BLE001 - it must end neither the thread nor what has happened
            log.warning("%s: nothing is made ahead: %s", self.path, printable(str(error)))


class _Beginner:
    """The thread that begins processes, begun when it is first asked. Where there can be none, whoever asks waits.

    No lock is needed, nor would it do, since a signal's handler may ask in the middle: of two that begin a thread at
    the same moment, each serves a queue of its own.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Asked | None] | None = None
        self._thread: threading.Thread
        self._is_over = False

    def ask(self, asked: _Asked) -> None:
        """Have a process begun."""
        if self._asked is None and not self._is_over:
            self._begin_thread()
        if self._asked is None:
            asked.begin()
        else:
            self._asked.put(asked)

    def finish(self) -> None:
        """Wait until all that was asked for is begun. From then on there is no thread."""
        self._is_over, self._asked, asked = True, None, self._asked
        if asked is not None:
            asked.put(None)
            self._thread.join()

    def _begin_thread(self) -> None:
        from queue import SimpleQueue  # noqa: PLC0415 - not needed by a start

        asked: SimpleQueue[_Asked | None] = SimpleQueue()
        thread = threading.Thread(target=_serve, args=(asked,), name=BACKGROUND, daemon=True)
        try:
            with _all_signals_blocked():
                thread.start()
        except RuntimeError:  # no room for one, or the process is ending
            return
        atexit.register(self.finish)
        self._thread, self._asked = thread, asked


@contextlib.contextmanager
def _all_signals_blocked() -> Iterator[None]:
    """Let a thread that is begun in the block get no signal of the process.

    Else one that all others hold back, so that it does not cut off a stop, would end the process by way of this one.
    """
    import signal  # noqa: PLC0415 - not needed by a start

    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(asked: SimpleQueue[_Asked | None]) -> None:
    while (one := asked.get()) is not None:
        one.begin()


_beginner = _Beginner()


def _forget_beginner() -> None:
    """Begin anew in a process that was forked: the thread is not there, and what it was asked for is its parent's."""
    global _beginner  # noqa: PLW0603 - there is one a process
    _beginner = _Beginner()


os.register_at_fork(after_in_child=_forget_beginner)


def begin(path: str, *volume_ids: str, environment: Mapping[str, str] | None = None) -> int:
    """Begin to make volumes' working images ahead, in a process that outlives this one; return its id."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    pid = os.posix_spawn(
        sys.executable,
        # -P: nothing is loaded from the directory that the caller happens to be in
        [sys.executable, "-P", "-m", _WORKER, path, *volume_ids],
        os.environ if environment is None else environment,
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
    """Let those go that have ended, and wait for none: it would hold up the next."""
    for pid in list(_begun):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # someone else in this process waits for all its children
            ended = True
        if ended:
            _begun.remove(pid)
