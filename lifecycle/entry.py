"""Where the program `lifecycle` begins: what hosts call at each start and stop of a VM goes the short way.

How this works. `start TARGET…` and `stop TARGET…`, with no options but --pool and --discard, need neither what reads
all of the command line nor what draws: their words are understood here. Everything else, whatever is wrong with it
included, is left to the command line (cli.py), which comes to the same functions in the end.
"""

from __future__ import annotations

import os
import sys

from lifecycle import short_lived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

COMPLETES = "_LIFECYCLE_COMPLETE"
"""The environment variable with which a shell asks for completions."""


class Plain:
    """A call of `start` or `stop` as hosts write it.

    Attributes:
        command: `start` or `stop`.
        targets: the addresses given, at least one.
        pool: the pool given; None for the usual one.
        discard: whether a stop throws away.
    """

    __slots__ = ("command", "discard", "pool", "targets")

    def __init__(self, command: str, pool: str | None) -> None:
        self.command = command
        self.targets: list[str] = []
        self.pool = pool
        self.discard = False


def main() -> NoReturn:
    """Run the program and end it."""
    given = sys.argv[1:]
    plain = understood(given, os.environ)
    if plain is None:
        from lifecycle import cli  # noqa: PLC0415 - only here

        cli.main(given)
    short_lived.run(lambda: run(given, plain))


def understood(given: Sequence[str], environment: Mapping[str, str]) -> Plain | None:
    """Return the call that these words are, if it is one that goes the short way."""
    if COMPLETES in environment or not given or given[0] not in {"start", "stop"}:
        return None
    plain = Plain(given[0], environment.get("LIFECYCLE_POOL"))
    words = iter(given[1:])
    for word in words:
        if word == "--discard" and plain.command == "stop":
            plain.discard = True
        elif word == "--pool":
            plain.pool = next(words, "-")
        elif word.startswith("--pool="):
            plain.pool = word.removeprefix("--pool=")
        elif word.startswith("-"):
            return None
        else:
            plain.targets.append(word)
    is_odd = plain.pool is not None and plain.pool.startswith("-")
    return None if is_odd or not plain.targets else plain


def run(given: Sequence[str], plain: Plain) -> int:
    """Do as was asked, and return the exit status."""
    from lifecycle import calling  # noqa: PLC0415 - not needed by the command line's help
    from lifecycle.commands import start_stop  # noqa: PLC0415 - nor is this
    from lifecycle.session import WrongUsage  # noqa: PLC0415 - nor is this

    def call() -> int:
        try:
            if plain.command == "start":
                return calling.perform(start_stop.start, pool=plain.pool, targets=plain.targets)
            return calling.perform(
                start_stop.stop, pool=plain.pool, targets=plain.targets, discard=plain.discard
            )
        except WrongUsage as error:
            return calling.complain_of_usage(given, error, str(error), f"lifecycle {plain.command}")

    return calling.ended(given, call)
