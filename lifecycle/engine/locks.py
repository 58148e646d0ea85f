"""The lock of a VM, and which thread of this process holds it.

A thread that holds it already goes on; another process waits. But what a hook calls must not wait for the event that
waits for the hook: the hook's environment names the VMs that are locked meanwhile (subscribers/hooks.py), and it is
refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lifecycle.errors import Locked, Refused
from lifecycle.linux.fork_safety import ThreadState

if TYPE_CHECKING:
    from lifecycle.backend import Pool

CHANGING = "LIFECYCLE_CHANGING"
"""The variable that names to a hook the VMs that are locked while it runs: DIRECTORY OF THE POOL/VM, one a line."""


class _ThisThread(ThreadState):
    """What a thread is at, over all pools.

    Attributes:
        locked: the VMs whose locks it holds, each by its pool's identity and its name.
        changing: the volumes that are in transition, by their pool's identity and their id.
    """

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.changing: set[tuple[str, str]] = set()


this_thread = _ThisThread()


@contextmanager
def locked(pool: Pool, vm: str, *, create: bool = False) -> Iterator[None]:
    """Hold the VM's lock.

    Raises:
        NoSuchVolume: there is no such VM, and `create` is not set. Locked: another process did not finish in time.
        Refused: the other process waits for a hook, and this was called from that.
    """
    held = this_thread.locked
    name = f"{pool.identity}/{vm}"
    if name in held:
        yield
        return
    in_hook = CHANGING in os.environ and name in os.environ[CHANGING].split("\n")
    lock = _lock_from_hook(pool, vm, create) if in_hook else pool.backend.lock(vm, create=create)
    with lock:
        held.add(name)
        try:
            yield
        finally:
            held.discard(name)


@contextmanager
def _lock_from_hook(pool: Pool, vm: str, create: bool) -> Iterator[None]:
    """Lock the VM without waiting for the event that waits for the hook that this was called from."""
    with ExitStack() as lock:
        try:
            lock.enter_context(pool.backend.lock(vm, create=create, wait=False))
        except Locked:
            reason = "a hook of that event asks for it; ask when the event is over"
            raise Refused(vm, "in the middle of an event", "begin another", reason) from None
        yield


def for_hooks() -> dict[str, str]:
    """Return `CHANGING` for a hook that this thread runs: its own VMs, and those it was called under."""
    above = os.environ.get(CHANGING)
    own = sorted(this_thread.locked)
    return {CHANGING: "\n".join([*([above] if above else []), *own])}
