"""Where the program `lifecycle` begins. A plain start or stop takes a short way that loads little.

How this works. The events of a volume's life (`start TARGET…`, `stop TARGET…` and so on, the keys of `SHORT_WAY`) need
neither what reads all of the command line nor what draws: with no options but --pool and a few of their own, their
words are understood here. Everything else, whatever is wrong with it included, is left to the command line
(cli/app.py), which comes to the same functions in the end.
"""

from __future__ import annotations

import os
import sys

from lifecycle.cli import invocation
from lifecycle.linux import fast_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

SHORT_WAY: dict[str, dict[str, bool]] = {
    "start": {},
    "stop": {"--discard": False},
    "checkpoint": {},
    "revert": {"--to": True},
}
"""The commands that can go the short way, each with its own options that can, and whether these take a value."""
_OF_ONE_VOLUME = {"revert"}


class Plain:
    """A call of such a command as hosts write it.

    Attributes:
        command: its name.
        targets: the addresses given, at least one.
        pool: the pool given; None for the usual one.
        options: its own options that were given, by the names of the parameters.
    """

    __slots__ = ("command", "options", "pool", "targets")

    def __init__(self, pool: str | None) -> None:
        self.command = ""
        self.targets: list[str] = []
        self.pool = pool
        self.options: dict[str, Any] = {}


def main() -> NoReturn:
    """Run the program and end it."""
    given = sys.argv[1:]
    plain = understood(given, os.environ)
    if plain is None:
        from lifecycle.cli import app  # noqa: PLC0415 - only here

        app.main(given)
    fast_exit.run(lambda: run(given, plain))


def understood(given: Sequence[str], environment: Mapping[str, str]) -> Plain | None:
    """Return the call that these words are, if it is one that goes the short way."""
    if invocation.COMPLETES in environment:
        return None
    plain = Plain(environment.get("LIFECYCLE_POOL"))
    own: Mapping[str, bool] = {}
    words = iter(given)
    for word in words:
        if not word.startswith("-"):
            if plain.command:
                plain.targets.append(word)
            elif word in SHORT_WAY:
                plain.command, own = word, SHORT_WAY[word]
            else:
                return None
            continue
        name, equals, value = word.partition("=")
        takes_value = name == "--pool" or own.get(name)
        if takes_value:
            value = value if equals else next(words, "-")
        if (takes_value and value.startswith("-")) or (not takes_value and word not in own):
            return None
        if name == "--pool":
            plain.pool = value
        else:
            plain.options[name.removeprefix("--")] = value if takes_value else True
    is_odd = plain.pool is not None and plain.pool.startswith("-")
    is_odd |= not plain.targets or (plain.command in _OF_ONE_VOLUME and len(plain.targets) > 1)
    return None if is_odd else plain


def run(given: Sequence[str], plain: Plain) -> int:
    """Do as was asked, and return the exit status."""
    from lifecycle.cli.commands import start_stop  # noqa: PLC0415 - not needed by the command line's help
    from lifecycle.cli.session import WrongUsage  # noqa: PLC0415 - nor is this

    def call() -> int:
        try:
            return invocation.perform(
                getattr(start_stop, plain.command),
                pool=plain.pool,
                targets=plain.targets,
                **plain.options,
            )
        except WrongUsage as error:
            return invocation.complain_of_usage(
                given, error, str(error), f"lifecycle {plain.command}"
            )

    return invocation.ended(given, call)
