"""The lock of a VM, as a thread of this process holds it.

A thread that holds it already goes on; another process waits. But what a hook calls must not wait for the event that
waits for the hook: the hook's environment names the VMs that are locked meanwhile (own_hooks.py), and it is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lifecycle.errors import Locked, NoSuchVolume, Refused

if TYPE_CHECKING:
    from lifecycle.pool import Pool

CHANGING = "LIFECYCLE_CHANGING"
"""The variable that names to a hook the VMs that are locked while it runs: their paths, one a line."""

_this_thread = threading.local()
"""`locked`: the VMs, of all pools, that this thread holds the locks of."""


@contextmanager
def locked(pool: Pool, vm: str, *, create: bool = False) -> Iterator[None]:
    """Hold the VM's lock.

    Raises:
        NoSuchVolume: there is no such VM, and `create` is not set. Locked: another process did not finish in time.
        Refused: the other process waits for a hook, and this was called from that.
    """
    held: set[str] = _this_thread.__dict__.setdefault("locked", set())
    path = f"{pool.identity}/{vm}"
    if path in held:
        yield
        return
    in_hook = path in os.environ.get(CHANGING, "").split("\n")
    with ExitStack() as lock:
        try:
            lock.enter_context(pool.backend.lock(vm, create=create, wait=not in_hook))
        except FileNotFoundError:
            raise NoSuchVolume(vm, pool.path) from None
        except Locked:
            if not in_hook:
                raise
            reason = "a hook of that event asks for it; ask when the event is over"
            raise Refused(vm, "in the middle of an event", "begin another", reason) from None
        held.add(path)
        lock.callback(held.discard, path)
        yield


def for_hooks() -> str:
    """Return the value of `CHANGING` for a hook that this thread runs: its own VMs, and those it was called under."""
    above = os.environ.get(CHANGING)
    own = sorted(getattr(_this_thread, "locked", ()))
    return "\n".join([*([above] if above else []), *own])
