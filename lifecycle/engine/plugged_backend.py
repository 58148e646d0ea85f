"""A backend of another package: checked before it is used, and named in the error when it fails.

How this works. `opened` compares what an entry point makes with the protocol (backend.Backend): each method must be
there, and must take what it will be called with. `NamedBackend` stands before it: what a method raises beyond what it
may (`lifecycle.errors`, OSError), or answers that is of no use, becomes `PluginFailed`. What the backend does on
signals is named where they are sent (engine/transaction.py). What it opens for reading has `NamedReadable` before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lifecycle import plugins
from lifecycle.backend import Backend
from lifecycle.errors import Holder, LifecycleError, PluginFailed, shown
from lifecycle.model import Attachment, Capacity, Finding, Revision, Surveyed, View

if TYPE_CHECKING:
    from lifecycle.config import PoolConfig

_METHODS = {
    name: inspect.signature(method)
    for name, method in vars(Backend).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
_NONE = type(None)
_ANSWERS: dict[str, type | tuple[type, ...]] = {
    "look": View,
    "settle": View,
    "attachment": Attachment,
    "id_of": (str, _NONE),
    "is_image": bool,
    "tagged": (str, _NONE),
    "usage": int,
    "capacity": Capacity,
    "room": (tuple, _NONE),
    "wants_ahead": (str, _NONE),
    "make_ahead": int,
    "accept": tuple,
}
"""What the methods that tell answer, where it is one thing."""
_READS = ("open_image",)
"""Those that answer with what can be read; and what that must have."""
_READING = ("size", "fd", "extents", "read", "close")
_SEVERAL: dict[str, type] = {"revisions": Revision, "in_use_by": Holder}
"""What each thing is where they answer several."""
_YIELDED: dict[str, type] = {
    "volume_ids": str,
    "survey": Surveyed,
    "restless": str,
    "vms": str,
    "verify": Finding,
}
"""… and where these come one by one."""
_MAY_RAISE = (LifecycleError, OSError)


def opened(plugin: str, found: Any, path: str, config: PoolConfig) -> Backend:
    """Make a backend of what an entry point stands for.

    Args:
        plugin: how messages name it.
        found: what the entry point stands for.
        path: the pool's directory.
        config: the pool's settings.

    Raises:
        PluginFailed: it is no backend.
        LifecycleError, OSError: the backend cannot be here, as it says.
    """
    if not callable(found):
        raise PluginFailed(plugin, f"is no backend: it is {shown(found)} and not a class")
    with plugins.answering(
        plugin, "is no backend: called with a pool's path and settings it ", _MAY_RAISE
    ):
        backend = found(path, config)
    problem = plugins.not_run(backend)
    if problem is not None:
        raise PluginFailed(plugin, f"is no backend: it {problem}")
    lacking = _lacking(backend)
    if lacking is not None:
        raise PluginFailed(plugin, f"is no backend: {lacking}")
    made: Any = NamedBackend(plugin, backend)
    whole: Backend = made
    return whole


def _lacking(backend: object) -> str | None:
    """Say in what this is no backend; None if it is one, as far as can be seen from outside."""
    for name, wanted in _METHODS.items():
        method = getattr(backend, name, None)
        if not callable(method):
            return f"a {type(backend).__name__} has no method `{name}`"
        _self, *parameters = wanted.parameters.values()
        by_name = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
        by_place = [None for one in parameters if one.name not in by_name]
        try:
            inspect.signature(method).bind(*by_place, **by_name)
        except (TypeError, ValueError):
            call = str(wanted).replace("'", "")
            return f"its method `{name}` does not take what it is called with, {call}"
        kind = plugins.only_made_by(method, may_yield=True)
        if kind is not None:
            return f"its method `{name}` is {kind}"
    if not isinstance(getattr(backend, "pool_file_mode", None), int):
        return "its `pool_file_mode` is no number"
    return None


class NamedBackend:
    """What stands before a backend of another package; all else than the protocol's methods is that one's own.

    Attributes:
        plugin: how messages name it.
    """

    plugin: str
    _backend: Any

    def __init__(self, plugin: str, backend: object) -> None:
        self.__dict__.update(plugin=plugin, _backend=backend)

    def __getattr__(self, name: str) -> Any:
        """Return what the backend has by this name; a method so that its failure is named."""
        found = getattr(self._backend, name)
        return self._named(name, found) if name in _METHODS else found

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._backend, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._backend, name)

    def _naming(self) -> plugins.answering:
        return plugins.answering(self.plugin, passing=_MAY_RAISE)

    def _named(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self._naming():
                answer = method(*args, **options)
                if name in _SEVERAL:
                    return tuple(self._each(name, answer, _SEVERAL[name]))
            if name in _YIELDED:
                return self._each(name, answer, _YIELDED[name])
            if name in _READS:
                return NamedReadable(self.plugin, answer)
            return self._checked(name, answer, _ANSWERS.get(name, object))

        return call

    def _each(self, name: str, answer: Iterable[object], kind: type) -> Iterator[object]:
        """Yield what a method answers, one by one; only what the method does is named, not what is made of it."""
        with self._naming():
            several = iter(answer)
        while True:
            with self._naming():
                try:
                    one = next(several)
                except StopIteration:
                    return
            yield self._checked(name, one, kind)

    def _checked(self, name: str, answer: object, kind: type | tuple[type, ...]) -> object:
        if isinstance(answer, kind):
            return answer
        plugins.not_run(answer)
        raise PluginFailed(self.plugin, f"answered `{name}` with {shown(answer)}")

    @contextmanager
    def lock(self, vm: str, *, create: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold the VM's lock, as the backend does. It does not hear what was raised meanwhile."""
        with self._naming():
            lock = self._backend.lock(vm, create=create, wait=wait)
            lock.__enter__()
        try:
            yield
        finally:
            with self._naming():
                lock.__exit__(None, None, None)


class NamedReadable:
    """What stands before the content that a backend of another package opened; all else it has is its own.

    Attributes:
        plugin: how messages name the backend.
    """

    def __init__(self, plugin: str, readable: object) -> None:
        """Look at it before it is used.

        Raises:
            PluginFailed: it cannot be read.
        """
        self.plugin = plugin
        self._readable: Any = readable
        with self._naming():
            lacking = [one for one in _READING if not hasattr(readable, one)]
        if lacking:
            plugins.not_run(readable)
            raise PluginFailed(
                plugin, f"answered `open_image` with {shown(readable)}, which has no `{lacking[0]}`"
            )

    def _naming(self) -> plugins.answering:
        return plugins.answering(self.plugin, passing=_MAY_RAISE)

    def __getattr__(self, name: str) -> Any:
        """Return what the content has by this name: its size, its descriptor, and what is its own."""
        with self._naming():
            return getattr(self._readable, name)

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield where there may be something."""
        with self._naming():
            found = iter(self._readable.extents())
        while True:
            with self._naming():
                try:
                    start, end = next(found)
                except StopIteration:
                    return
            yield start, end

    def read(self, offset: int, count: int) -> bytes:
        """Return these bytes."""
        with self._naming():
            found = self._readable.read(offset, count)
        if not isinstance(found, bytes):
            raise PluginFailed(self.plugin, f"answered `read` with {shown(found)}")
        return found

    def close(self) -> None:
        """Close it."""
        with self._naming():
            self._readable.close()
