"""Which subscribers a pool has, in which order they are told, and what takes the place of retention's.

A package offers such a one by an entry point in the group `lifecycle.retention`: a class, or a function, that is called
without arguments and returns a `Subscriber`. It is looked for when a pool is opened whose settings name it, and at no
other time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle import events, plugins
from lifecycle.engine import locks
from lifecycle.engine.retention import Retention
from lifecycle.errors import InvalidConfig, LifecycleError, PluginFailed, shown
from lifecycle.subscribers.hooks import OwnHooks
from lifecycle.subscribers.precaching import Precaching

if TYPE_CHECKING:
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.volume import Volume
    from lifecycle.subscribers.subscriber import Subscriber

log = logging.getLogger("lifecycle.subscribers")

RETENTION = plugins.Group("lifecycle.retention", "retention subscriber")

PRUNING = Retention()
PRECACHING = Precaching()
"""These two serve all pools of the process, so that volumes of several pools that stop at once share waits too."""


def connect(pool: Pool, retention: Subscriber | None = None) -> tuple[Subscriber, ...]:
    """Connect its subscribers to a pool, and return them in the order in which they are told.

    Args:
        pool: the pool.
        retention: what takes the place of retention's; None for what the pool's settings say.
    """
    hooks = OwnHooks(locks.for_hooks)
    hooks.connect(pool)
    # after the hooks, so that one sees a commit before what is pruned for it
    pruning = _connected(pool, retention)
    PRECACHING.connect(pool)
    return (hooks, *pruning, PRECACHING)


def _connected(pool: Pool, retention: Subscriber | None) -> tuple[Subscriber, ...]:
    """Connect retention's subscriber; none, if that is a plugin and fails: a VM's start and stop do without."""
    if retention is None and pool.config.retention:
        try:
            return (_plugged(pool.config.retention, pool),)
        except LifecycleError as error:
            log.error("%s: nothing is pruned after a commit: %s", pool.path, error)
            return ()
    chosen = PRUNING if retention is None else retention
    chosen.connect(pool)
    return (chosen,)


def check_retention(where: str, name: str) -> None:
    """Check that retention's subscriber of this name can be had; none need be named.

    Raises:
        InvalidConfig: it cannot, with the reason.
    """
    if name:
        try:
            _plugged(name)
        except LifecycleError as error:
            raise InvalidConfig(where, f"`retention`: {str(error).removesuffix('.')}") from error


def _plugged(name: str, pool: Pool | None = None) -> Subscriber:
    """Make the subscriber that an installed package offers by this name; connect it to the pool, if one is given.

    Raises:
        NoSuchPlugin, PluginFailed: it cannot be had.
    """
    found = RETENTION.find(name)
    label = found.label or name
    with plugins.answering(label, "is no subscriber: called without arguments it "):
        made = found.value()
        problem = plugins.not_run(made)
    if problem is None and not callable(getattr(made, "connect", None)):
        problem = f"returned {shown(made)}, which has no `connect`"
    if problem is not None:
        raise PluginFailed(label, f"is no subscriber: called without arguments it {problem}")
    subscriber: Subscriber = made
    if pool is not None:
        with plugins.answering(label, "cannot be connected: it "):
            subscriber.connect(pool)
    return subscriber


def require_one_backend(pool: Pool) -> None:
    """Check that each event will be done once.

    Raises:
        LifecycleError: no one listens to an imperative signal, or more than the backend.
    """
    for event, tenses in events.EVENTS.items():
        listening = [plugins.name_of(one) for one in tenses.done.receivers_for(pool)]
        if len(listening) != 1:
            raise LifecycleError(
                f"the signal `{event}` must be done by the pool's backend alone, but {len(listening)}"
                f" subscribers listen to it ({', '.join(listening)}): subscribe to the -ing or -ed form"
            )


# ---------------------------------------------------------------- several events at once


@contextlib.contextmanager
def batch(volumes: Iterable[Volume]) -> Iterator[None]:
    """Let the subscribers of these volumes' pools do together, at the end, what the events of the block ask for.

    What one raises is logged, by its name; the events stand, and the other subscribers are told.
    """
    concerned: dict[int, tuple[Any, list[Volume]]] = {}
    for volume in volumes:
        for one in volume.pool.subscribers:
            concerned.setdefault(id(one), (one, []))[1].append(volume)
    with contextlib.ExitStack() as blocks:
        # the block that is entered last is left first
        for one, own in reversed(concerned.values()):
            blocks.enter_context(_Block(one, own))
        yield


class _Block:
    """The block of one subscriber, if it wants one. What it raises at its ends is logged, and the events stand."""

    def __init__(self, subscriber: Any, volumes: list[Volume]) -> None:
        self._subscriber = subscriber
        self._volumes = volumes
        self._own: Any = None

    def __enter__(self) -> None:
        with _harmless(self._subscriber):
            begin = getattr(self._subscriber, "batch", None)
            if begin is None:
                return
            own = begin(self._volumes)
            problem = plugins.not_run(own)
            if problem is not None:
                raise TypeError(f"its `batch` {problem}")
            own.__enter__()
            self._own = own

    def __exit__(self, *_raised: object) -> None:
        with _harmless(self._subscriber):
            if self._own is not None:
                self._own.__exit__(None, None, None)


@contextlib.contextmanager
def _harmless(subscriber: object) -> Iterator[None]:
    """Log what a subscriber raises in the block; what comes from outside goes on."""
    process = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != process or plugins.is_from_outside(error):
            raise
        text = "a subscriber, %s, raised %s; what has happened to the volumes stands"
        log.error(text, plugins.name_of(subscriber), type(error).__name__, exc_info=error)
