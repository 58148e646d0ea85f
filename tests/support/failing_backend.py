"""A backend that fails: the real one, but for the events that a test wants to fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lifecycle import Pool, Volume, events


def no_space() -> OSError:
    """Return what a full file system says."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _behind(pool: Pool) -> object:
    """Return the backend behind what stands before one of another package."""
    return getattr(pool.backend, "_backend", None)


@contextmanager
def backend_fails(
    pool: Pool,
    event: str,
    *,
    only: str | None = None,
    error: Callable[[], BaseException] = no_space,
) -> Iterator[None]:
    """Let the pool's backend fail each such event, or those on the volume `only`, before it does anything."""
    done = events.EVENTS[event].done
    real = next(
        receiver
        for receiver in done.receivers_for(pool)
        if getattr(receiver, "__self__", None) in {pool.backend, _behind(pool)}
    )

    def act(sender: Pool, *, volume: Volume, change: Any) -> Any:
        if only in {None, volume.id}:
            raise error()
        return real(sender, volume=volume, change=change)

    done.disconnect(real, sender=pool)
    done.connect(act, sender=pool)
    try:
        yield
    finally:
        done.disconnect(act, sender=pool)
        done.connect(real, sender=pool)
