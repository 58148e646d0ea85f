"""Code of other packages: how it is found and named, and whether a failure is the plugin's own.

How this works. A `Group` is one kind of plugin, with its group of entry points. Each kind is found, loaded and named by
it in the same way: retention terms (terms.py), backends (engine/registry.py), hosts (hosts/host.py), and what takes the
place of retention's subscriber (engine/wiring.py).

What a plugin raises is the plugin's failure, whatever class it is of: a `sys.exit()` in it must not end the program
with its status. But not everything that is raised while a plugin runs is its own: someone pressed Ctrl-C, or a signal
came whose handler raises. That is from outside (`is_from_outside`), and goes on to whoever waits for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from lifecycle.errors import LifecycleError, PluginFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint
    from types import CodeType


class NoSuchPlugin(LifecycleError):
    """No installed package offers a plugin by this name, or more than one does."""


class Plugin:
    """A plugin, found and loaded.

    Attributes:
        value: what its entry point stands for.
        label: how messages name it: by its name, its entry point and the distribution that offers it. None for what
            lifecycle itself brings, whose failures are no plugin's.
    """

    __slots__ = ("label", "value")

    def __init__(self, value: Any, label: str | None = None) -> None:
        self.value = value
        self.label = label


class Group:
    """One kind of plugin: a group of entry points, and what lifecycle itself has of that kind.

    Attributes:
        entry_points: the group's name, by which packages offer others.
        kind: what messages call one of them: `driver`, `host`.
        built_in: where those of lifecycle are, by name: `MODULE` or `MODULE:OBJECT`. For these no installed package is
            looked at, which takes long; so none can take the place of one of them.
    """

    __slots__ = ("built_in", "entry_points", "kind")

    def __init__(
        self, entry_points: str, kind: str, built_in: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.entry_points = entry_points
        self.kind = kind
        self.built_in = built_in

    def names(self) -> list[str]:
        """Return the names of all that there are, those of lifecycle first."""
        offered = {one.name for one in self._offered()}
        return [*self.built_in, *sorted(offered - self.built_in.keys())]

    def find(self, name: str, known: Sequence[str] = ()) -> Plugin:
        """Load what goes by this name, and nothing else.

        Args:
            name: the name.
            known: further names that a message should offer, of what needs no plugin.

        Raises:
            NoSuchPlugin: nothing does, or more than one installed package offers it.
            PluginFailed: it cannot be loaded.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            found = import_module(module)
            return Plugin(getattr(found, attribute) if attribute else found)
        offered = self._offered(name=name)
        if not offered:
            there = ", ".join(dict.fromkeys([*known, *self.names()])) or "none"
            raise NoSuchPlugin(
                f"there is no {self.kind} `{name}`: known are {there}; packages offer others in the"
                f" entry-point group {self.entry_points}"
            )
        if len(offered) > 1:
            who = " and ".join(map(_label_of, offered))
            raise NoSuchPlugin(
                f"more than one installed package offers a {self.kind} `{name}`: {who}; uninstall all"
                " but one of them"
            )
        (entry,) = offered
        label = _label_of(entry)
        if entry.pattern.match(entry.value) is None:
            raise PluginFailed(label, "cannot be loaded: its entry point is not MODULE:OBJECT")
        if entry.module.partition(".")[0] == __name__.partition(".")[0]:
            return Plugin(entry.load())
        with answering(label, "cannot be loaded: it "):
            return Plugin(entry.load(), label)

    def _offered(self, name: str | None = None) -> Sequence[EntryPoint]:
        from importlib.metadata import entry_points  # noqa: PLC0415 - slow, and seldom needed

        found = entry_points(group=self.entry_points)
        return tuple(one for one in found if name is None or one.name == name)


def _label_of(entry: EntryPoint) -> str:
    package = entry.dist
    whose = "" if package is None else f" of {package.name} {package.version}"
    return f"`{entry.name}` ({entry.value}{whose})"


class answering:  # noqa: N801 - it is used as a function
    """Turn what a plugin raises in the block into `PluginFailed`, but for what came from outside.

    Args:
        plugin: the plugin, by its label.
        doing: what it was asked, as what stands between its name and what it raised.
        passing: the errors that it may raise.
    """

    __slots__ = ("_doing", "_passing", "_plugin")

    def __init__(
        self, plugin: str, doing: str = "", passing: tuple[type[BaseException], ...] = ()
    ) -> None:
        self._plugin = plugin
        self._doing = doing
        self._passing = passing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, self._passing) or is_from_outside(error):
            return
        raise PluginFailed(self._plugin, f"{self._doing}{raised(error)}") from error


def naming(backend: object, *passing: type[BaseException]) -> AbstractContextManager[None]:
    """Turn what a backend of another package raises in the block, beyond what it may, into `PluginFailed`."""
    plugin: str | None = getattr(backend, "plugin", None)
    if plugin is None:
        return nullcontext()
    return answering(plugin, passing=(LifecycleError, OSError, *passing))


def raised(error: BaseException) -> str:
    """Say what was raised, as what follows on the name of who raised it."""
    text = words(error).removesuffix(".")
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def words(error: BaseException) -> str:
    """Return what an exception says, on one line and printable; nothing if it cannot even say that."""
    try:
        text = " ".join(str(error).split())
    except BaseException as another:
        if is_from_outside(another):
            raise
        return ""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def is_from_outside(error: BaseException) -> bool:
    """Tell whether this was raised while other code ran rather than by it: at Ctrl-C, or by a signal's handler.

    A `KeyboardInterrupt` always counts as that. A `GeneratorExit` never does where a function was called: it is raised
    within generators alone, at their `yield`.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = set(_signal_handlers())
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _signal_handlers() -> Iterator[CodeType]:
    import signal  # noqa: PLC0415 - slow to load, and most commands do without

    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            code = getattr(_run_by(handler), "__code__", None)
            if code is not None:
                yield code


def _inner(function: object) -> object:
    """Return what a function that was made of another in part, or is bound to an object, stands for."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__func__", function)


def _run_by(function: object) -> object:
    """Return the function that runs at a call of this: itself, the one within, or the method of an object."""
    inner = _inner(function)
    if isinstance(inner, FunctionType) or inspect.isroutine(inner):
        return inner
    return _inner(getattr(type(inner), _CALL, None))


_CALL = "__call__"


# ---------------------------------------------------------------- functions that only seem to run when they are called


def name_of(subscriber: object) -> str:
    """Return the name of a function, a method or another object that is called, with its module."""
    inner = _inner(subscriber)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"


def only_made_by(function: object, *, may_yield: bool = False) -> str | None:
    """Say what a call of this would only make, without running anything of it; None if it runs.

    Args:
        function: what is to be called.
        may_yield: whether a generator is wanted.
    """
    inner = _run_by(function)
    flags: int = getattr(getattr(inner, "__code__", None), "co_flags", 0)
    is_marked = bool(getattr(inner, "__dict__", None)) and inspect.iscoroutinefunction(inner)
    if flags & inspect.CO_COROUTINE or is_marked:
        return "a coroutine function (`async def`)"
    if flags & inspect.CO_ASYNC_GENERATOR:
        return "an asynchronous generator function (`async def` with `yield`)"
    if flags & inspect.CO_GENERATOR and not may_yield:
        return "a generator function (with `yield`)"
    return None


def not_run(answer: object) -> str | None:
    """Say what a call only made instead of running, as far as that was not seen before; None if it ran."""
    if answer is None:
        return None
    if inspect.iscoroutine(answer):
        answer.close()  # else Python complains that no one awaited it
        return "returned a coroutine, which no one awaits"
    if inspect.isasyncgen(answer):
        return "returned an asynchronous generator, which no one runs"
    if inspect.isgenerator(answer):
        return "returned a generator, which no one runs"
    return None
