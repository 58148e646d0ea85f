"""Terms of retention policies: what a term is, and how terms of other packages are loaded and checked.

An entry point in the group `lifecycle.policies` is a function `term(argument, zone) -> keeps`, called with what stands
beside its name in the line; `keeps(candidates, now)` returns a reason for the number of each revision that it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple, Protocol

from lifecycle import plugins
from lifecycle.errors import InvalidPolicy, PluginFailed, shown

TERMS = plugins.Group("lifecycle.policies", "term")


class Revision(Protocol):
    """What a policy sees of a revision. `lifecycle.Revision` is one."""

    @property
    def number(self) -> int:
        """Its number; the order of revisions is that of their numbers."""

    @property
    def at(self) -> datetime:
        """When it was made (UTC)."""

    @property
    def pinned(self) -> bool:
        """Whether someone pinned it."""

    @property
    def current(self) -> bool:
        """Whether it is the current image too, after a revert to it."""

    @property
    def needed(self) -> bool:
        """Whether the backend needs it, for other images are built upon it."""


Keeps = Callable[[Sequence[Revision], datetime], Mapping[int, str]]
"""A term: from the candidates (newest first) and the moment to a reason for each number it keeps."""


class _MadeUp(NamedTuple):
    """A revision on which a term is tried out; it has what `lifecycle.Revision` has."""

    number: int
    at: datetime
    cause: str | None = "commit"
    size: int | None = 0
    pinned: bool = False
    label: str | None = None
    current: bool = False
    needed: bool = False


class PluginTerm:
    """A term that another package provides, imported when it is first used."""

    def __init__(
        self, line: str, name: str, argument: str, zone: tzinfo, known: Sequence[str]
    ) -> None:
        """Prepare to import it.

        Args:
            line: the policy's line, for messages.
            name: the term's name, as in its entry point.
            argument: what stands beside it.
            zone: where periods are counted.
            known: the terms that need no plugin, for messages.
        """
        self._line = line
        self._name = name
        self._argument = argument
        self._zone = zone
        self._known = known
        self._loaded: tuple[str, Keeps] | None = None

    def __call__(self, candidates: Sequence[Revision], now: datetime) -> Mapping[int, str]:
        """Return what the term keeps, and why.

        Raises:
            InvalidPolicy: it cannot be had, or refused its argument.
            PluginFailed: it raised, or returned something else than reasons for numbers of candidates.
        """
        plugin, keeps = self._load()
        there = {revision.number for revision in candidates}
        with plugins.answering(plugin, passing=(PluginFailed,)):
            answer = keeps(tuple(candidates), now)
            problem = plugins.not_run(answer)
            if problem is None and not isinstance(answer, Mapping):
                problem = f"returned {shown(answer)}, which is no mapping of numbers to reasons"
            if problem is not None:
                raise PluginFailed(plugin, problem)
            return dict(_checked(plugin, one, reason, there) for one, reason in answer.items())

    def try_out(self) -> None:
        """Ask it about made-up revisions, and about none.

        Raises:
            InvalidPolicy, PluginFailed: as when it is called.
        """
        now = datetime(2000, 1, 10, tzinfo=UTC)
        for numbers in ((3, 2, 1), ()):
            days_ago = [(number, timedelta(days=4 - number)) for number in numbers]
            self([_MadeUp(number, now - age) for number, age in days_ago], now)

    def _load(self) -> tuple[str, Keeps]:
        """Import the term; return how the plugin is named, and the term.

        Raises:
            InvalidPolicy: no installed package offers it, or more than one does, or it refused its argument.
        """
        if self._loaded is None:
            self._loaded = self._import()
        return self._loaded

    def _import(self) -> tuple[str, Keeps]:
        try:
            found = TERMS.find(self._name, self._known)
            plugin = found.label or self._name
            with plugins.answering(plugin, passing=(ValueError,)):
                term: Keeps = found.value(self._argument, self._zone)
            problem = plugins.not_run(term)
        except ValueError as error:
            said = plugins.words(error) or "it takes no such argument"
            raise InvalidPolicy(self._line, f"the plugin {plugin} refused it: {said}") from error
        except plugins.NoSuchPlugin as error:
            raise InvalidPolicy(self._line, str(error)) from error
        except PluginFailed as error:
            raise InvalidPolicy(self._line, f"the plugin {error.plugin} {error.problem}") from error
        if not callable(term):
            problem = problem or f"returned {shown(term)}, which is no function"
            raise InvalidPolicy(self._line, f"the plugin {plugin} {problem}")
        return plugin, term


def _checked(plugin: str, number: object, reason: object, there: Set[int]) -> tuple[int, str]:
    """Return one answer of a plugin, as numbers and texts of Python's own.

    Raises:
        PluginFailed: it is not about a revision that the plugin was asked about, or gives no reason.
    """
    if type(number) is not int or number not in there:
        raise PluginFailed(
            plugin, f"keeps {shown(number)}, which is none of the revisions it was given"
        )
    text = str.__str__(reason) if isinstance(reason, str) else ""
    if not text.strip() or not text.isprintable():
        raise PluginFailed(
            plugin, f"keeps {number} for the reason {shown(reason)}, which is no line of text"
        )
    return number, text
