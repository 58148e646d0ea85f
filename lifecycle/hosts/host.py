"""What a host that lifecycle can be installed for must offer, and which hosts there are.

A host is a module, or an object, that offers what `Host` describes. Two come with lifecycle; an installed package adds
one by an entry point in the group `lifecycle.hosts`. It says what the files are; hosts/installing.py writes, finds and
removes them, for hosts of other packages too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from lifecycle import plugins
from lifecycle.errors import LifecycleError, PluginFailed, shown

HOSTS = plugins.Group(
    "lifecycle.hosts",
    "host",
    {"libvirt": "lifecycle.hosts.libvirt.install", "systemd": "lifecycle.hosts.systemd"},
)


class NotInstalled(LifecycleError):
    """Nothing was installed, for the reason given."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A part of an installation, as it is found.

    Attributes:
        path: the file; None if it is about no single one.
        text: in words: by which version it was installed, and what is wrong.
        works: whether it would do what it is there for.
    """

    path: str | None
    text: str
    works: bool


class Host(Protocol):
    """What `lifecycle host` calls. A root is `/`, or the directory that a machine's `/` is being made in.

    What cannot be done is said by a `LifecycleError`, whose text a person reads as it is.
    """

    OPTIONS: frozenset[str]
    """The names of the flags that `install` takes beside the root; each is off by default."""

    def install(self, root: str, **options: bool) -> Sequence[str]:
        """Put the files in place, durably; return the paths of all that was made or changed, directories too.

        Installing again changes nothing, or mends what is not as it was installed.

        Args:
            root: where.
            options: the flags that were given, of `OPTIONS`.

        Raises:
            NotInstalled: it cannot be; nothing was installed.
            OSError: the file system failed.
        """

    def advice(self, root: str, written: Sequence[str]) -> Sequence[str]:
        """Return what the person still has to do after `install`, a line each.

        Args:
            root: where it was installed.
            written: what `install` returned.
        """

    def uninstall(self, root: str) -> Sequence[str]:
        """Remove the files that `install` wrote and no others, durably; return their paths.

        Raises:
            LifecycleError: they are still needed, or cannot be removed.
            OSError: the file system failed.
        """

    def status(self, root: str) -> Sequence[Installed]:
        """Return what is installed and whether it would work; nothing if nothing is installed. Changes nothing."""


def find(name: str) -> Host:
    """Return the host of that name.

    Raises:
        NoSuchPlugin: there is none, or more than one installed package offers it.
        PluginFailed: it cannot be loaded, or is no host.
    """
    found = HOSTS.find(name)
    if found.label is None:
        return cast(Host, found.value)
    with plugins.answering(found.label, "is no host: it ", (PluginFailed,)):
        return PluggedHost(found.label, found.value)


_T = TypeVar("_T")


class PluggedHost:
    """A host of another package: what it answers is checked, and what it raises is named as its own.

    It may do without `OPTIONS` and `advice`. Its refusals (`LifecycleError`) are passed on in its own words.
    """

    def __init__(self, label: str, host: Any) -> None:
        """Check what an entry point stands for; `label` is how messages name it.

        Raises:
            PluginFailed: it is no host.
        """
        for name in ("install", "uninstall", "status"):
            if not callable(getattr(host, name, None)):
                raise PluginFailed(label, f"is no host: {shown(host)} has no function `{name}`")
        options: object = getattr(host, "OPTIONS", frozenset())
        if not isinstance(options, (set, frozenset)):
            raise PluginFailed(label, f"is no host: its `OPTIONS` are {shown(options)} and no set")
        self._label = label
        self._host = host
        self.OPTIONS = frozenset(map(str, options))

    def install(self, root: str, **options: bool) -> list[str]:
        """Let it put its files in place."""
        return self._ask("install", str, root, **options)

    def advice(self, root: str, written: Sequence[str]) -> list[str]:
        """Return what it has to say after that, if anything."""
        return self._ask("advice", str, root, written) if hasattr(self._host, "advice") else []

    def uninstall(self, root: str) -> list[str]:
        """Let it remove its files."""
        return self._ask("uninstall", str, root)

    def status(self, root: str) -> list[Installed]:
        """Return what it says is installed."""
        return self._ask("status", Installed, root)

    def _ask(self, name: str, kind: type[_T], *given: object, **options: bool) -> list[_T]:
        """Call one of its functions, which is to answer a list of things of this kind.

        Raises:
            PluginFailed: it raised what is no refusal, or answered something else.
            LifecycleError: it refused.
        """
        with plugins.answering(self._label, f"failed at `{name}`: it ", (LifecycleError,)):
            answer = getattr(self._host, name)(*given, **options)
            plugins.not_run(answer)
            if isinstance(answer, (list, tuple)) and all(isinstance(one, kind) for one in answer):
                return list(answer)
        raise PluginFailed(self._label, f"answered `{name}` with {shown(answer)}")
