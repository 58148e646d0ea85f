"""Locks and state of threads that a forked process must not take over from its parent.

A child inherits every descriptor, and with it the lock (flock) that belongs to the open file; and of the threads the
one that forked, with all that it believes. So in the child, before anything else runs there, the descriptors of locks
are closed, and what is kept for each thread begins anew. A process that is begun by exec inherits neither: all
descriptors are opened close-on-exec. What C code forks without Python's knowing keeps the descriptors; so a lock is not
only closed but taken off (LOCK_UN), which frees it whoever else has the descriptor.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import Any, Self
from weakref import WeakSet


class ThreadState(threading.local):
    """What a thread is at. A forked process begins with none, and `__init__` is called anew there."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Make it known to what happens at a fork."""
        state = super().__new__(cls, *args, **options)
        _states.add(state)
        return state

    def begin_anew(self) -> None:
        """Forget what this thread was at."""
        self.__dict__.clear()
        self.__init__()  # type: ignore[misc]  # as it is called in each new thread


class Lock:
    """A lock (flock) on a directory, of the process that takes it. The kernel frees it however that process ends."""

    __slots__ = ("__weakref__", "_fd")

    def __init__(self, directory: int) -> None:
        """Prepare to lock the directory of this descriptor, by an opening of its own.

        Raises:
            OSError: it cannot be opened.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with _no_fork:  # or a child would get a descriptor of which it does not know
            self._fd = os.open(".", flags, dir_fd=directory)
            _locks.add(self)

    def take(self, timeout: float) -> bool:
        """Take it; return False if that was not possible within `timeout` seconds."""
        waited, pause = 0.0, 0.0001
        while not self._was_free():
            if waited >= timeout:
                return False
            # the pauses are added up, not read off a clock: clocks may be frozen, or jump
            time.sleep(pause)
            waited += pause
            pause = min(pause * 2, 0.05)
        return True

    def take_at_once(self) -> bool:
        """Take it; return False if someone has it for longer than a look takes."""
        for _again in range(_LOOKS):
            if self._was_free():
                return True
            os.sched_yield()
        return False

    def _was_free(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Free it, if this process took it."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.let_go()

    def let_go(self) -> None:
        """Have no part in it any more, and leave it to the process that took it."""
        fd, self._fd = self._fd, -1
        _locks.discard(self)
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_LOOKS = 100
_states: WeakSet[ThreadState] = WeakSet()
_locks: set[Lock] = set()
_no_fork = threading.RLock()
"""Held by who must not be forked in the middle; reentrant, since a signal's handler may come there."""


def _forget() -> None:
    _no_fork.release()  # the thread that forked held it, and is the one there is
    for lock in list(_locks):
        lock.let_go()
    for state in list(_states):
        state.begin_anew()


os.register_at_fork(
    before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_forget
)
